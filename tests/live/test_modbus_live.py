"""Loopback: pymodbus client against the emulated meter, every fault as its promised value, then recovery."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from gridtide.run.clock import LoopClock, WallClock
from gridtide.run.modbus import MemoryMeter, ModbusMeterClient, ModbusMeterServer
from gridtide.run.simloop import run_sim
from gridtide.wire.modbus.presets import PRESETS, sunspec
from gridtide.wire.modbus.reading import MeterReadError, MeterReading
from gridtide.wire.modbus.registers import Register, RegisterMap
from gridtide.wire.modbus.server import Fault

DEVICE = RegisterMap(
    "site",
    1,
    (
        Register("power_kw", 0, "int32", unit="W", not_available=(0x8000_0000,)),
        Register("import_kwh", 100, "float32", table="input", unit="kWh"),
        Register("estop", 3, "bit", table="coil"),
        Register("load_shed", 8, "bit", table="discrete"),
    ),
)
LIVE: dict[str, float | None] = {"power_kw": 42.5, "import_kwh": 1000.0, "estop": 0.0, "load_shed": 1.0}
TIMEOUT_S = 0.25


def on_each_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[str], None]:
    """Run a coroutine test on asyncio's own loop and on uvloop."""

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    def both(loop: str) -> None:
        factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(test(), 8.0))

    return both


def client_of(
    server: ModbusMeterServer, device: RegisterMap = DEVICE, timeout_s: float = TIMEOUT_S
) -> ModbusMeterClient:
    """A client of `server`."""
    return ModbusMeterClient("127.0.0.1", server.port, device, WallClock(), random.Random(1), timeout_s=timeout_s)


@asynccontextmanager
async def pair(
    device: RegisterMap = DEVICE, source: Callable[[], dict[str, float | None]] = lambda: LIVE
) -> AsyncIterator[tuple[ModbusMeterServer, ModbusMeterClient]]:
    """A served meter and its client."""
    async with ModbusMeterServer(device, source, port=0) as server:
        client = client_of(server, device, 2.0)
        try:
            yield server, client
        finally:
            await client.close()


async def until_good(read: Callable[[], Awaitable[MeterReading | MeterReadError]]) -> MeterReading:
    """Read on until it works again; the caller's time limit is the end of patience."""
    while True:
        outcome = await read()
        if isinstance(outcome, MeterReading):
            return outcome
        await asyncio.sleep(0.01)


@on_each_loop
async def test_read_every_table() -> None:
    async with pair() as (_, client):
        reading = await client.read()
        assert isinstance(reading, MeterReading), reading
        assert reading.values == LIVE
        assert reading.quality == "good"
        assert reading.flag("estop") is False
        assert reading.round_trip_s >= 0.0
        assert client.error_rate == 0.0
        assert client.connected


@on_each_loop
async def test_presets_over_the_wire() -> None:
    live: dict[str, float | None] = {"power_kw": -125.0, "import_kwh": 500.0, "frequency_hz": 49.9}
    for device in (PRESETS["carlo_gavazzi_em340"](3), sunspec(203), sunspec(701), PRESETS["janitza_umg"](1)):
        async with pair(device, lambda: live) as (_, client):
            reading = await client.read()
            assert isinstance(reading, MeterReading), (device.name, reading)
            assert reading.power_kw == pytest.approx(-125.0)
            assert reading.values["frequency_hz"] == pytest.approx(49.9)
            assert reading.quality == "partial"


FRAME_FAULTS = [
    (Fault("silent"), "timeout", None),
    (Fault("slow", delay_s=0.6), "timeout", None),
    (Fault("garbage"), "garbled", None),
    (Fault("short"), "short", None),
    (Fault("wrong_unit"), "wrong_unit", None),
    (Fault("wrong_transaction"), "wrong_transaction", None),
    (Fault("disconnect"), "disconnected", None),
    *((Fault("exception", code=code), "exception", code) for code in (1, 2, 3, 4, 5, 6, 10, 11)),
]


@on_each_loop
async def test_every_fault_is_its_promised_error_and_heals() -> None:
    async with ModbusMeterServer(DEVICE, lambda: LIVE, port=0) as server:
        for fault, kind, code in FRAME_FAULTS:
            patient, client = client_of(server, timeout_s=2.0), client_of(server)
            await until_good(client.read)
            server.fault = fault
            asker = patient if kind == "exception" else client
            error = await asker.read()
            assert isinstance(error, MeterReadError), fault
            assert (error.kind, error.code) == (kind, code), error
            assert asker.error_rate > 0.0
            server.fault = Fault()
            assert (await until_good(client.read)).values == LIVE
            await client.close()
            await patient.close()


@on_each_loop
async def test_value_faults() -> None:
    async with pair() as (server, client):
        for fault, power_kw in (
            (Fault("nan"), None),
            (Fault("sign_flip"), -42.5),
            (Fault("spike", kw=200.0), 242.5),
            (Fault("frozen"), 42.5),
        ):
            server.fault = fault
            reading = await client.read()
            assert isinstance(reading, MeterReading)
            assert reading.power_kw == power_kw
            assert reading.quality == ("unusable" if power_kw is None else "good")


@on_each_loop
async def test_unreachable_meter_is_a_value_and_is_not_hammered() -> None:
    async with ModbusMeterServer(DEVICE, lambda: LIVE, port=0) as server:
        port = server.port
    client = ModbusMeterClient("127.0.0.1", port, DEVICE, WallClock(), random.Random(1), timeout_s=2.0)
    first, second = await client.read(), await client.read()
    assert isinstance(first, MeterReadError)
    assert isinstance(second, MeterReadError)
    assert (first.kind, second.kind) == ("disconnected", "disconnected")
    assert "cannot be reached" in first.text
    assert "next attempt" in second.text
    assert client.error_rate == 1.0
    async with ModbusMeterServer(DEVICE, lambda: LIVE, port=port):
        assert (await until_good(client.read)).values == LIVE
        await client.close()


@on_each_loop
async def test_wrong_unit_id_is_silence() -> None:
    other = RegisterMap("other", 9, DEVICE.registers)
    async with ModbusMeterServer(DEVICE, lambda: LIVE, port=0) as server:
        client = client_of(server, other)
        error = await client.read()
        assert isinstance(error, MeterReadError)
        assert error.kind == "timeout"
        await client.close()


@on_each_loop
async def test_a_stranger_is_hung_up_on() -> None:
    async with pair() as (server, client):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        assert isinstance(await client.read(), MeterReading)


@pytest.mark.parametrize(("fault", "kind", "code"), FRAME_FAULTS)
def test_memory_meter_fails_alike_in_virtual_time(fault: Fault, kind: str, code: int | None) -> None:
    async def play() -> tuple[MeterReading | MeterReadError, MeterReading | MeterReadError, float]:
        clock = LoopClock(asyncio.get_running_loop().time, 1e9)
        meter = MemoryMeter(lambda: LIVE, DEVICE, clock)
        meter.fault = fault
        bad = await meter.read()
        waited_s = clock.monotonic()
        meter.fault = Fault()
        return bad, await meter.read(), waited_s

    bad, good, waited_s = run_sim(play())
    assert isinstance(bad, MeterReadError)
    assert (bad.kind, bad.code) == (kind, code)
    assert waited_s <= 0.2
    assert isinstance(good, MeterReading)
    assert good.values == LIVE
    assert good.at_s == 1e9 + waited_s


def test_memory_meter_answers_late_within_its_time() -> None:
    async def play() -> MeterReading | MeterReadError:
        meter = MemoryMeter(lambda: LIVE, DEVICE, LoopClock(asyncio.get_running_loop().time, 0.0))
        meter.fault = Fault("slow", delay_s=0.03)
        return await meter.read()

    reading = run_sim(play())
    assert isinstance(reading, MeterReading)
    assert reading.round_trip_s == pytest.approx(0.12)
