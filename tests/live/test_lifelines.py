"""Links of stations that give power, on real sockets: asked every second, lost within two, and asked seldom again afterwards."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from gridtide.run import lifelines
from gridtide.run.csms.station import Provision, Sent, Station
from gridtide.run.lifelines import GIVING, LINGER_LOOKS, RESTING, Lifelines
from gridtide.run.watchdog import Watchdog
from gridtide.run.websocket import StationConnection, WebSocketLink

Story = Callable[["Rig"], Awaitable[None]]


class Rig:
    """One station's link, as the server has it, and its client."""

    def __init__(self, server: ServerConnection, client: ClientConnection) -> None:
        self.server, self.client, self.link = server, client, WebSocketLink(server)
        self.station = Station(Provision(identity="bay", rows={1: 0}))
        self.station.conversation = cast(Any, type("Talk", (), {"link": self.link})())
        self.dog = Watchdog()
        self.lines = Lifelines(cast(Any, type("Csms", (), {"stations": {"bay": self.station}})()), self.dog)

    @property
    def ping(self) -> tuple[object, ...]:
        return self.server.ping_interval, self.server.ping_timeout, self.server.close_timeout

    def gives(self, power_kw: float) -> None:
        self.station.sent[0] = Sent(power_kw, 0.0)
        self.lines.look()


def play(story: Story) -> None:
    async def run() -> None:
        arrived: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()

        async def on_link(connection: ServerConnection) -> None:
            arrived.set_result(connection)
            await connection.wait_closed()

        async with serve(
            on_link,
            "127.0.0.1",
            0,
            create_connection=StationConnection,
            ping_interval=RESTING.every_s,
            ping_timeout=RESTING.answer_s,
            close_timeout=RESTING.close_s,
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            client = await connect(f"ws://127.0.0.1:{port}", ping_interval=None, close_timeout=0.1)
            await story(Rig(await arrived, client))
            client.transport.abort()

    asyncio.run(asyncio.wait_for(run(), 20.0))


def test_a_link_is_watched_closely_while_its_station_may_give_and_for_a_lease_after() -> None:
    async def story(rig: Rig) -> None:
        rig.gives(5.0)
        assert rig.ping == (RESTING.every_s, RESTING.answer_s, RESTING.close_s)
        assert rig.dog.lines == ()
        rig.gives(-5.0)
        task = rig.server.keepalive_task
        assert rig.ping == (GIVING.every_s, GIVING.answer_s, GIVING.close_s)
        assert len(rig.dog.lines) == 1
        rig.gives(-5.0)
        assert rig.server.keepalive_task is task
        for _ in range(LINGER_LOOKS - 1):
            rig.gives(0.0)
            assert len(rig.dog.lines) == 1
        rig.gives(0.0)
        assert rig.dog.lines == ()
        assert rig.ping == (RESTING.every_s, RESTING.answer_s, RESTING.close_s)

    play(story)


def test_a_live_station_stays_and_a_dumb_one_is_lost_within_two_seconds() -> None:
    async def story(rig: Rig) -> None:
        rig.gives(-5.0)
        await asyncio.sleep(2.5)
        assert rig.server.close_code is None
        cast(asyncio.ReadTransport, rig.client.transport).pause_reading()
        begun_s = time.monotonic()
        await rig.server.wait_closed()
        assert time.monotonic() - begun_s < 2.0

    play(story)


def test_a_resting_station_may_be_silent() -> None:
    async def story(rig: Rig) -> None:
        rig.gives(0.0)
        cast(asyncio.ReadTransport, rig.client.transport).pause_reading()
        await asyncio.sleep(2.5)
        assert rig.server.close_code is None

    play(story)


def test_a_closed_link_is_forgotten() -> None:
    async def story(rig: Rig) -> None:
        rig.gives(-5.0)
        rig.link.drop()
        rig.gives(0.0)
        assert rig.dog.lines == ()
        await rig.server.wait_closed()
        rig.gives(-5.0)
        assert rig.dog.lines == ()

    play(story)
    assert lifelines.LINGER_LOOKS * 0.5 >= 5.0
