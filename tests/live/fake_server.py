"""The real web server over the fake site, on a free loopback port, in a thread of its own."""

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from litestar.types import ControllerRouterHandler
from msgspec import Struct

from gridtide.app.web.auth import Access
from gridtide.app.web.people import AccessFile
from gridtide.app.web.server import create_app, listen, serve
from tests.live.fake_port import FakePort
from tests.live.page_fixture import NOW_S

TOKEN = "t" * 43


class Served(Struct):
    """A running server."""

    port: FakePort
    access: Access
    url: str


@contextmanager
def served(
    tls: ssl.SSLContext | None = None,
    people: AccessFile | None = None,
    make: Callable[[Callable[[], float]], FakePort] = FakePort,
    more: Callable[[FakePort], Sequence[ControllerRouterHandler]] = lambda _: (),
) -> Iterator[Served]:
    """A fake site whose time runs twenty times as fast as ours, with `more` routes, served until the block ends."""
    began_s = time.monotonic()
    port = make(lambda: NOW_S + 20.0 * (time.monotonic() - began_s))
    with listen("127.0.0.1", 0) as listener:
        number = listener.getsockname()[1]
        access = Access(TOKEN, number, time.monotonic, secure=tls is not None, people=people)
        ready: threading.Event = threading.Event()
        stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

        async def run() -> None:
            started = asyncio.Event()
            serving = asyncio.ensure_future(
                serve(create_app(port, access, more(port)), listener, tls=tls, started=started)
            )
            stop.append((asyncio.get_running_loop(), serving))
            await started.wait()
            ready.set()
            await asyncio.gather(serving, return_exceptions=True)

        thread = threading.Thread(target=asyncio.run, args=(run(),))
        thread.start()
        try:
            assert ready.wait(20.0), "the server did not start"
            yield Served(port, access, f"{'http' if tls is None else 'https'}://127.0.0.1:{number}")
        finally:
            loop, serving = stop[0]
            loop.call_soon_threadsafe(serving.cancel)
            thread.join(20.0)
            assert not thread.is_alive(), "the server did not end"
