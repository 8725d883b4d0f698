"""The OCPP port under attack: strangers touch nothing, garbage ends nothing, and nobody evicts a living station."""

import asyncio
import base64
import contextlib
import logging
import random
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from gridtide.run.credentials import Credentials, basic_header
from gridtide.run.ocpp_server import Greeting, OcppServer
from gridtide.run.websocket import MAX_FRAME_BYTES, WebSocketLink, dial
from tests.live.csms_server import Served, provision, serving, until

BOOT = {"reason": "PowerUp", "chargingStation": {"model": "Good", "vendorName": "tests"}}
FRAMES = 10_000
TOO_MANY_UNREADABLE = 10
SENSELESS = ["", "[", "{}", "null", "[2]", '[2,"x"', "\x00", "NaN", "[" * 200, '[2,1,"Heartbeat",{}]', "[7]", '"[2]"']


@pytest.fixture(autouse=True)
def _few_words() -> Iterator[None]:
    """Ten thousand violations would be ten thousand lines."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR), cache_logger_on_first_use=False
    )
    yield
    structlog.reset_defaults()


class Good:
    """A well-behaved station on a socket: answers what it is asked and can be asked whether it still gets answers."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.answers = True
        self._number = 0
        self._open: dict[str, asyncio.Future[list[Any]]] = {}
        self.reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                frame = msgspec.json.decode(await self.socket.recv())
                if frame[0] == 2 and self.answers:
                    await self._answer(frame)
                elif (waiting := self._open.pop(frame[1], None)) is not None:
                    waiting.set_result(frame)

    async def _answer(self, frame: list[Any]) -> None:
        answer: list[Any] = [4, frame[1], "NotSupported", "", {}]
        if frame[2] in ("SetChargingProfile", "TriggerMessage"):
            answer = [3, frame[1], {"status": "Accepted"}]
        await self.socket.send(msgspec.json.encode(answer).decode())

    async def call(self, action: str, payload: dict[str, Any]) -> list[Any]:
        self._number += 1
        name = f"good-{self._number}"
        self._open[name] = asyncio.get_running_loop().create_future()
        await self.socket.send(msgspec.json.encode([2, name, action, payload]).decode())
        return await self._open[name]

    async def is_served(self) -> bool:
        answer = await asyncio.wait_for(self.call("Heartbeat", {}), 5.0)
        return answer[0] == 3 and "currentTime" in answer[2]


def socket_to(served: Served, identity: str = "bay-1", **how: Any) -> connect:
    """A client's connection with the right credentials, unless told otherwise."""
    header = how.pop("header", basic_header(identity, served.passwords.get(identity, "none")))
    return connect(
        f"{served.url}/{how.pop('path', identity)}", subprotocols=how.pop("subprotocols", [Subprotocol("ocpp2.1")]),
        additional_headers={} if header is None else {"Authorization": header}, max_size=None, **how,
    )  # fmt: skip


@asynccontextmanager
async def good_station(served: Served, identity: str = "bay-1") -> AsyncIterator[Good]:
    async with socket_to(served, identity) as socket:
        good = Good(socket)
        assert (await good.call("BootNotification", BOOT))[2]["status"] == "Accepted"
        yield good
        good.reader.cancel()


def everything(served: Served) -> tuple[object, ...]:
    """All that a stranger must not touch, as one comparable value."""
    columns = [value.tobytes() for value in vars(served.board).values() if isinstance(value, np.ndarray)]
    stations = [(s.generation, s.conversation, dict(s.transactions)) for s in served.csms.stations.values()]
    store = served.store
    return columns, stations, store.open_transactions(), store.events(), store.audit(), store.settings()


def code(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_strangers_get_401_and_touch_nothing() -> None:
    async def scenario() -> None:
        async with serving(provision(0), provision(1)) as served, good_station(served) as good:
            right, other = served.passwords["bay-1"], served.passwords["bay-2"]
            attempts: list[tuple[str, str | None]] = [
                ("bay-1", None),
                ("bay-1", code("bay-1", "wrong-password-of-good-length")),
                ("bay-1", code("bay-1", "")),
                ("bay-1", code("bay-1", right + "x")),
                ("bay-1", code("bay-1", right[:-1])),
                ("bay-1", code("bay-1", other)),
                ("bay-1", code("bay-2", other)),
                ("bay-2", code("bay-1", right)),
                ("bay-9", code("bay-9", right)),
                ("bay-1", code("", right)),
                ("BAY-1", code("BAY-1", right)),
                ("bay-1%00", code("bay-1", right)),
                ("", code("", right)),
                ("x" * 300, code("x" * 300, right)),
                ("bay-1", "Basic"),
                ("bay-1", "Basic !!!not-base64!!!"),
                ("bay-1", "Basic " + base64.b64encode(b"bay-1").decode()),
                ("bay-1", "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode()),
                ("bay-1", "Basic " + "QQ" * 4_000),
                ("bay-1", f"Bearer {right}"),
                ("bay-1", right),
            ]
            await asyncio.sleep(0.1)
            before = everything(served)
            for path, header in attempts:
                with pytest.raises(InvalidStatus) as refusal:
                    await socket_to(served, path=path, header=header).__aenter__()
                assert refusal.value.response.status_code == 401, (path, header)
                assert "Basic" in refusal.value.response.headers["WWW-Authenticate"]
            assert everything(served) == before
            assert served.listener.refused == len(attempts)
            told = [text for name, _, text in served.told if name == "security"]
            assert len(told) == 2, "the first and the tenth are told, not each"
            assert not any(right in text or other in text for text in told)
            assert await good.is_served()

    asyncio.run(scenario())


@pytest.mark.parametrize("offered", [None, ["ocpp1.6"], ["soap", "mqtt"], ["OCPP2.1"]])
def test_a_foreign_subprotocol_gets_400(offered: list[str] | None) -> None:
    async def scenario() -> None:
        async with serving(provision(0)) as served, good_station(served) as good:
            await asyncio.sleep(0.1)
            before = everything(served)
            wanted = None if offered is None else [Subprotocol(name) for name in offered]
            with pytest.raises(InvalidStatus) as refusal:
                await socket_to(served, subprotocols=wanted).__aenter__()
            assert refusal.value.response.status_code == 400
            assert everything(served) == before
            assert await good.is_served()

    asyncio.run(scenario())


def test_a_refused_emulated_station_may_try_again() -> None:
    async def scenario() -> None:
        async with serving(provision(0)) as served:
            with pytest.raises(OSError, match="refused bay-1"):
                await dial(served.url, "bay-1", "not-the-password", "ocpp2.1")
            link = await dial(served.url, "bay-1", served.passwords["bay-1"], "ocpp2.1")
            await link.close()

    asyncio.run(scenario())


# --- garbage ----------------------------------------------------------------------------------------------------------
class Garbage:
    """Seeded frames from nonsense to nearly right; about one in fifteen is unreadable."""

    def __init__(self, seed: int) -> None:
        self._luck = random.Random(seed)
        self._makers = [self._call, self._call, self._near_call, self._stray_answer, self._stray_answer, self._odd_type]

    def frame(self) -> str | bytes:
        if self._luck.random() < 0.07:
            return self._unreadable()
        return self._luck.choice(self._makers)()

    def _unreadable(self) -> str | bytes:
        luck, call = self._luck, self._call()
        kinds: list[str | bytes] = [
            luck.choice(SENSELESS), luck.randbytes(40), call[: luck.randrange(1, len(call))], call + "]",
             "[" * 50_000, "".join(chr(luck.randrange(1, 0xD7FF)) for _ in range(30)), call.encode(),
        ]  # fmt: skip
        return luck.choice(kinds)

    def _call(self) -> str:
        luck = self._luck
        action = luck.choice(
            ["Heartbeat", "StatusNotification", "TransactionEvent", "MeterValues", "NotifyEVChargingNeeds", "Authorize",
             "BootNotification", "DataTransfer", "SecurityEventNotification", "NotifyReport", "LogStatusNotification",
             "SetChargingProfile", "FlyToTheMoon", "", "\u0000"]
        )  # fmt: skip
        return msgspec.json.encode([2, self._id(), action, self._payload(action)]).decode()

    def _payload(self, action: str) -> Any:
        """The right fields with, here and there, a wrong value."""
        some, luck = self._some, self._luck
        stamp = some(datetime.now(UTC).isoformat(), "2026-01-01T00:00:00", "9999-12-31T23:59:59Z", "yesterday")
        token = {"idToken": some("card", "", "x" * 400), "type": some("ISO14443", "?")}
        sample = {"value": some(50.0), "measurand": some(luck.choice(["SoC", "Power.Active.Import"]), "Love")}
        meter = [{"timestamp": stamp, "sampledValue": [sample] * luck.choice([1, 1, 1, 0, 2])}]
        dc = {"evMaxCurrent": some(32), "evMaxVoltage": 500, "evMaxPower": some(11_000), "evEnergyCapacity": some(60_000),
              "stateOfCharge": some(70), "energyAmount": some(9_000)}  # fmt: skip
        v2x = {"maxDischargePower": some(9_000.0), "targetSoC": some(60)}
        fields: dict[str, Any] = {
            "TransactionEvent": {
                "eventType": some(luck.choice(["Started", "Updated", "Updated", "Ended"]), "?"), "timestamp": stamp,
                "seqNo": some(luck.randrange(50)), "triggerReason": "Trigger", "evse": {"id": some(1)}, "idToken": token,
                "transactionInfo": {"transactionId": some(luck.choice("abc"), "")}, "meterValue": meter,
            },
            "MeterValues": {"evseId": some(1, 99), "meterValue": meter},
            "StatusNotification": {
                "timestamp": stamp, "connectorStatus": some("Available", "Faulted", "?"), "evseId": some(1), "connectorId": 1,
            },
            "Authorize": {"idToken": token},
            "BootNotification": {**BOOT, "reason": some("PowerUp", "?")},
            "SecurityEventNotification": {"type": some("x", "x" * 99, "TamperDetectionActivated"), "timestamp": stamp},
            "DataTransfer": {"vendorId": some("x"), "data": self._odd()},
            "NotifyEVChargingNeeds": {
                "evseId": some(1),
                "chargingNeeds": {
                    "requestedEnergyTransfer": some("DC_BPT", "?"), "departureTime": stamp, "dcChargingParameters": dc,
                    "v2xChargingParameters": v2x,
                },
            },
        }.get(action, {})  # fmt: skip
        if fields and luck.random() < 0.1:
            fields.pop(luck.choice(list(fields)))
        return fields if luck.random() < 0.95 else self._odd()

    def _some(self, right: Any, *wrong: Any) -> Any:
        """The right value nine times in ten."""
        return right if self._luck.random() < 0.9 else self._luck.choice([*wrong, self._odd()])

    def _near_call(self) -> str:
        """A call with one byte changed, where that leaves an array with an id."""
        call, luck = self._call(), self._luck
        place = luck.randrange(max(len(call) - 40, 2), len(call))
        changed = call[:place] + luck.choice('0[]{}",:\\x') + call[place + 1 :]
        try:
            msgspec.json.decode(changed)
        except msgspec.DecodeError:
            return call
        return changed

    def _stray_answer(self) -> str:
        luck = self._luck
        tail: list[Any] = luck.choice([[{}], [{"status": "Accepted"}], ["GenericError", "", {}], [self._odd()]])
        return msgspec.json.encode([luck.choice([3, 4]), self._id(), *tail]).decode()

    def _odd_type(self) -> str:
        return msgspec.json.encode([self._luck.choice([5, 6, 7, 0, 99]), self._id(), "A", "B", {}]).decode()

    def _id(self) -> str:
        return f"{self._luck.randrange(3_000)}"

    def _odd(self) -> Any:
        luck = self._luck
        return luck.choice(
            [0, 1, -1, 1.0, 0.5, -1e9, 1e308, 2**31, 2**63 - 1, True, None, "", "1", "ä" * 60, [], {}, [[]], {"a": 1}]
        )


async def pour(served: Served, garbage: Garbage, frames: int) -> tuple[int, int]:
    """Send frames to `bay-2`, with a new connection whenever one is closed; how many were read and over how many."""
    read = connections = 0
    while read < frames:
        connections += 1
        async with socket_to(served, "bay-2") as socket:
            try:
                await socket.send(msgspec.json.encode([2, "boot", "BootNotification", BOOT]).decode())
                while read < frames:
                    for _ in range(20):
                        await socket.send(garbage.frame())
                    await all_read(socket, f"mark-{read}")
                    read += 20
            except ConnectionClosed:
                # What went before the tenth unreadable frame was read, but is not counted.
                await socket.wait_closed()
                if socket.close_code != 1002:
                    raise
    return read, connections


async def all_read(socket: ClientConnection, name: str) -> None:
    """Wait for the answer to a call sent after all the others."""
    await socket.send(msgspec.json.encode([2, name, "Heartbeat", {}]).decode())
    while msgspec.json.decode(await socket.recv())[1] != name:
        pass


async def drain_to_the_end(socket: ClientConnection) -> None:
    while True:
        await socket.recv()


def test_ten_thousand_bad_frames_leave_the_server_alive() -> None:
    async def scenario() -> None:
        async with serving(provision(0), provision(1, dialect="v21_setpoint")) as served, good_station(served) as good:
            for part in range(4):
                sent, connections = await pour(served, Garbage(part), FRAMES // 4)
                assert sent == FRAMES // 4
                assert connections > 10, "too many unreadable frames close a connection"
                assert await good.is_served()
                served.set_power(3.0, -5.0)
            assert served.store.transaction_events("bay-2", "a"), "some of it was right"
            sample = served.board.sample(served.clock.monotonic())
            assert not np.isinf(sample.power_kw).any()
            assert not np.isinf(sample.soc).any()
            assert ((sample.soc >= 0.0) & (sample.soc <= 1.0) | np.isnan(sample.soc)).all()
            await until(lambda: served.csms.stations["bay-2"].conversation is None, "the garbage's end")
            async with good_station(served, "bay-2") as back:
                assert await back.is_served()

    asyncio.run(scenario())


def test_binary_frames_are_unreadable_whatever_they_hold() -> None:
    async def scenario() -> None:
        async with serving(provision(0), provision(1)) as served, good_station(served) as good:
            async with socket_to(served, "bay-2") as socket:
                boot = msgspec.json.encode([2, "b", "BootNotification", BOOT])
                for _ in range(TOO_MANY_UNREADABLE - 1):
                    await socket.send(boot)
                    answer = msgspec.json.decode(await socket.recv())
                    assert answer[:3] == [4, "-1", "RpcFrameworkError"]
                await socket.send(boot)
                with pytest.raises(ConnectionClosed) as ended:
                    await drain_to_the_end(socket)
                assert ended.value.rcvd is not None
                assert ended.value.rcvd.code == 1002
            assert served.csms.online == 1
            assert await good.is_served()

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_an_overlong_frame_ends_only_its_own_connection(kind: str) -> None:
    async def scenario() -> None:
        async with serving(provision(0), provision(1)) as served, good_station(served) as good:
            async with good_station(served, "bay-2") as long:
                frame = '[2,"x","DataTransfer",{"vendorId":"' + "x" * MAX_FRAME_BYTES + '"}]'
                await long.socket.send(frame if kind == "text" else frame.encode())
                await long.socket.wait_closed()
                assert long.socket.close_code == 1009
            await until(lambda: served.csms.online == 1, "the end of the connection")
            assert await good.is_served()

    asyncio.run(scenario())


# --- duplicate identity -----------------------------------------------------------------------------------------------
def test_a_living_station_is_not_evicted() -> None:
    async def scenario() -> None:
        async with serving(provision(0)) as served, good_station(served) as good:
            await good.call("StatusNotification", {"timestamp": "2026-01-01T00:00:00Z", "connectorStatus": "Occupied",
                                                   "evseId": 1, "connectorId": 1})  # fmt: skip
            for _ in range(3):
                before = everything(served)
                async with socket_to(served) as second:
                    await second.wait_closed()
                    assert second.close_code == 4409
                assert everything(served) == before
            assert "security" in served.codes
            assert await good.is_served()

    asyncio.run(scenario())


def test_a_station_that_only_knows_how_to_refuse_is_alive() -> None:
    async def scenario() -> None:
        async with serving(provision(0)) as served, socket_to(served) as socket:
            good = Good(socket)
            good.reader.cancel()
            await socket.send(msgspec.json.encode([2, "b", "BootNotification", BOOT]).decode())

            async def refuse() -> None:
                async for text in socket:
                    frame = msgspec.json.decode(text)
                    if frame[0] == 2:
                        await socket.send(msgspec.json.encode([4, frame[1], "NotImplemented", "", {}]).decode())

            refusing = asyncio.ensure_future(refuse())
            await until(lambda: served.csms.online == 1, "the boot")
            async with socket_to(served) as second:
                await second.wait_closed()
                assert second.close_code == 4409
            assert socket.close_code is None
            refusing.cancel()

    asyncio.run(scenario())


def test_a_dead_connection_is_replaced_and_takes_nothing_with_it() -> None:
    async def scenario() -> None:
        async with serving(provision(0)) as served, good_station(served) as old:
            old.answers = False
            async with good_station(served) as heir:
                await old.socket.wait_closed()
                assert old.socket.close_code == 4409
                await asyncio.sleep(0.1)
                assert served.csms.online == 1
                assert served.csms.stations["bay-1"].generation == 2
                assert await heir.is_served()

    asyncio.run(scenario())


def test_a_whole_site_may_knock_at_once_while_the_loop_is_busy() -> None:
    """What the listener's queue drops is tried again after 1, 3, 7 and 15 s: after a power failure that was half a minute."""

    async def scenario() -> None:
        async with OcppServer(Credentials(), _nobody, lambda _identity, _peer: None, port=0) as server:
            with contextlib.ExitStack() as knocking:
                for _ in range(500):
                    # No await: nobody takes them meanwhile.
                    knocking.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=0.5))

    asyncio.run(scenario())


async def _nobody(_greeting: Greeting, _link: WebSocketLink) -> None:
    raise AssertionError("nobody proved itself")
