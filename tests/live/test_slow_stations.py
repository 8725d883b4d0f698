"""On sockets: a station that reads nothing and one that floods the server delay no other station's setpoint."""

import asyncio
import contextlib
import time

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from gridtide.run.csms.station import Station
from tests.live.csms_server import Served, provision, serving, until
from tests.live.test_ocpp_server import BOOT, SENSELESS, Good, socket_to

GOOD = 5
ROUNDS = 8
LIMIT_S = 2.0
"""Generous: server, flood and stations share one process here."""
BIG = '[2,"big","DataTransfer",{"vendorId":"v","data":"' + "x" * (256 * 1024) + '"}]'


async def flood(served: Served, identity: str) -> int:
    """Valid, senseless and huge frames at full speed; comes back whenever it is thrown out."""
    count = 0
    while True:
        with contextlib.suppress(ConnectionClosed, OSError):
            async with socket_to(served, identity) as socket:
                while True:
                    count += 1
                    await socket.send(
                        BIG if count % 500 == 0 else SENSELESS[count % len(SENSELESS)] if count % 20 == 0
                        else f'[2,"f{count}","Heartbeat",{{}}]'
                    )  # fmt: skip
                    if count % 50 == 0:
                        await asyncio.sleep(0)
        await asyncio.sleep(0.01)


async def charging(served: Served, identity: str, socket: ClientConnection) -> Good:
    """A booted station in a transaction."""
    good = Good(socket)
    assert (await good.call("BootNotification", BOOT))[2]["status"] == "Accepted"
    stamp = "2026-01-01T00:00:00Z"
    started = {
        "eventType": "Started", "timestamp": stamp, "triggerReason": "CablePluggedIn", "seqNo": 0,
        "transactionInfo": {"transactionId": f"tx-{identity}"}, "evse": {"id": 1},
    }  # fmt: skip
    assert (await good.call("TransactionEvent", started))[0] == 3
    return good


def follows(station: Station, row: int) -> bool:
    """Whether the station has answered its newest setpoint."""
    live = station.accepted
    return live is not None and live.is_idle and row in station.outcomes and row in station.sent


def test_a_hung_and_a_flooding_station_delay_no_setpoint() -> None:
    async def scenario() -> None:
        everyone = [provision(row, dialect="v21_setpoint") for row in range(GOOD + 2)]
        async with serving(*everyone) as served, contextlib.AsyncExitStack() as sockets:
            good = []
            for row in range(GOOD + 1):
                name = f"bay-{row + 1}"
                socket = await sockets.enter_async_context(socket_to(served, name))
                good.append(await charging(served, name, socket))
            hung = good.pop()
            hung.reader.cancel()
            hung.answers = False
            flooding = asyncio.ensure_future(flood(served, f"bay-{GOOD + 2}"))
            stations = [served.csms.stations[f"bay-{row + 1}"] for row in range(GOOD)]
            await until(lambda: all(station.conversation for station in stations), "the stations")
            worst_s = 0.0
            for round_ in range(1, ROUNDS + 1):
                begun_s = time.monotonic()
                served.set_power(*[float(round_)] * (GOOD + 2))
                await until(lambda: all(follows(station, row) for row, station in enumerate(stations)), "every answer")
                worst_s = max(worst_s, time.monotonic() - begun_s)
                await asyncio.sleep(0.05)
            assert worst_s < LIMIT_S
            assert not flooding.done()
            flooding.cancel()
            for one in good:
                assert await one.is_served()
                one.reader.cancel()

    asyncio.run(scenario())
