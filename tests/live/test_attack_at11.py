"""AT11, failures while a site starts: whatever step fails, what was opened is closed, the next start finds all free."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from gridtide.control import site
from gridtide.control.peak import PeakSettings
from gridtide.model.fleet import SiteLimits
from gridtide.run import live
from gridtide.run.assembly import SITE_METER, OcppListener, provisions
from gridtide.run.clock import WallClock
from gridtide.run.credentials import Credentials
from gridtide.run.live import Address, LiveSite, open_site
from gridtide.run.ocpp_server import OcppServer
from gridtide.run.site import SiteService
from gridtide.run.store import SqliteStore
from tests.day.wire_site import table

STEPS: list[tuple[Any, str]] = [
    (live, "EvidenceBoard"), (live, "Registry"), (live, "Csms"), (live, "ModbusMeterClient"), (live, "SiteService"),
    (SiteService, "_restore"), (live, "OcppListener"), (OcppServer, "start"),
]  # fmt: skip


async def opened(folder: Path, port: int) -> LiveSite:
    """A site of two stations."""
    here = table(2)
    settings = site.Settings(
        table=here, limits=SiteLimits(transformer_kw=100.0), peak=PeakSettings(limit_kw=50.0), cycle_s=0.5
    )
    return await open_site(
        settings, provisions(here, ("2.1", "2.1")), Credentials(), WallClock(),
        period=lambda now_s: (now_s - 1.0, now_s + 1.0), store_path=folder / "site.db", ocpp=Address("127.0.0.1", port),
        meter=Address("127.0.0.1", 9), registers=SITE_METER,
    )  # fmt: skip


@pytest.mark.parametrize(("where", "name"), STEPS, ids=[name for _, name in STEPS])
def test_at11_a_start_that_fails_leaves_nothing_open(
    where: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    close = SqliteStore.close

    async def watched(store: SqliteStore) -> None:
        closed.append(store)
        await close(store)

    async def scenario() -> None:
        monkeypatch.setattr(SqliteStore, "close", watched)
        threads = {one.name for one in threading.enumerate() if "store" in one.name.lower()}
        with monkeypatch.context() as broken:

            def fails(*_args: Any, **_more: Any) -> Any:
                raise RuntimeError("rehearsed")

            broken.setattr(where, name, fails)
            with pytest.raises(RuntimeError, match="rehearsed"):
                await opened(tmp_path, 0)
        assert len(closed) == 1
        assert {one.name for one in threading.enumerate() if "store" in one.name.lower()} == threads
        made = await opened(tmp_path, 0)
        assert made.listener.server.port > 0
        await made.close()

    asyncio.run(asyncio.wait_for(scenario(), 15.0))


def test_at11_a_taken_port_is_told_and_the_store_is_free_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = await opened(tmp_path, 0)
        (tmp_path / "second").mkdir()
        with pytest.raises(OSError, match="in use"):
            await opened(tmp_path / "second", first.listener.server.port)
        await first.close()
        again = await opened(tmp_path / "second", 0)
        await again.close()
        assert isinstance(again.listener, OcppListener)

    asyncio.run(asyncio.wait_for(scenario(), 15.0))
