"""AT17, Modbus has no authentication: our client reads the planned registers of one unit and writes nothing, whatever the device
says; the emulated meter answers its own unit only and takes no write beyond its map."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gridtide.run.modbus import ModbusMeterServer
from gridtide.wire.modbus.frames import WRITES, Frame
from gridtide.wire.modbus.registers import plan_reads
from gridtide.wire.modbus.server import EmulatedMeter, Fault, FaultKind
from tests.live.test_modbus_live import DEVICE, LIVE, client_of, on_each_loop

FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
PLANNED = {(FUNCTIONS[block.table], block.address, block.count) for block in plan_reads(DEVICE)}
FAULTS: tuple[FaultKind, ...] = (
    "none", "exception", "wrong_unit", "wrong_transaction", "short", "garbage", "nan", "sign_flip", "none",
)  # fmt: skip


class Tap:
    """Between client and meter: keeps every byte the client sends."""

    def __init__(self, port: int) -> None:
        self.meter_port, self.port, self.heard = port, 0, list[bytes]()

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.meter_port)
        self.heard.append(b"")
        mine = len(self.heard) - 1

        async def answers() -> None:
            while data := await there.read(4096):
                writer.write(data)
            writer.close()

        answering = asyncio.ensure_future(answers())
        while data := await reader.read(4096):
            self.heard[mine] += data
            back.write(data)
        back.close()
        await asyncio.gather(answering, return_exceptions=True)

    def requests(self) -> list[Frame]:
        """Every frame of every connection; nothing else may be between them."""
        found = []
        for data in self.heard:
            while data:
                size = 6 + int.from_bytes(data[4:6], "big")
                assert data[2:4] == b"\x00\x00"
                found.append(Frame(int.from_bytes(data[:2], "big"), data[6], data[7:size]))
                data = data[size:]
        return found


@asynccontextmanager
async def tapped() -> AsyncIterator[tuple[ModbusMeterServer, Tap]]:
    """A meter behind a tap."""
    async with ModbusMeterServer(DEVICE, lambda: LIVE, port=0) as server:
        tap = Tap(server.port)
        listener = await asyncio.start_server(tap.pass_on, "127.0.0.1", 0)
        tap.port = listener.sockets[0].getsockname()[1]
        try:
            yield server, tap
        finally:
            listener.close()


@on_each_loop
async def test_at17_the_client_reads_what_is_planned_and_never_writes() -> None:
    async with tapped() as (server, tap):
        client = client_of(tap, timeout_s=0.2)  # type: ignore[arg-type]
        try:
            for kind in FAULTS:
                server.fault = Fault(kind=kind)
                await client.read()
                await asyncio.sleep(0.02)
        finally:
            await client.close()
        requests = tap.requests()
        assert len(requests) > len(PLANNED)
        asked = {
            (frame.pdu[0], int.from_bytes(frame.pdu[1:3], "big"), int.from_bytes(frame.pdu[3:5], "big"))
            for frame in requests
        }
        assert asked == PLANNED
        assert {frame.unit for frame in requests} == {DEVICE.unit_id}
        assert not any(frame.pdu[0] in WRITES for frame in requests)


@pytest.mark.parametrize("unit", [unit for unit in range(256) if unit != DEVICE.unit_id])
def test_at17_the_emulated_meter_answers_no_other_unit(unit: int) -> None:
    meter = EmulatedMeter(DEVICE)
    for pdu in (b"\x03\x00\x00\x00\x02", b"\x05\x00\x03\xff\x00", b"\x06\x00\x00\x00\x07", b"\x2b\x0e\x01\x00"):
        assert meter.reply(Frame(1, unit, pdu), LIVE).data == b""
    assert meter.image(LIVE).words == EmulatedMeter(DEVICE).image(LIVE).words


@pytest.mark.parametrize(
    "pdu",
    [
        b"\x05\x00\x08\xff\x00",  # a coil that is only a discrete input
        b"\x06\x00\x64\x00\x07",  # a holding register that is only an input register
        b"\x10\x00\x01\x00\x02\x04\x00\x00\x00\x00",  # one word of the map and one beyond it
        b"\x0f\x00\x03\x00\x02\x01\x03",  # one coil of the map and one beyond it
        b"\x16\x00\x00\x00\x00\x00\x00", b"\x17" + bytes(10), b"\x08\x00\x00\x00\x00", b"\x2b\x0e\x01\x00",
    ],
)  # fmt: skip
def test_at17_a_write_beyond_the_map_and_every_other_function_is_refused_whole(pdu: bytes) -> None:
    meter = EmulatedMeter(DEVICE)
    answer = meter.reply(Frame(1, DEVICE.unit_id, pdu), LIVE).data
    assert answer[7] == pdu[0] | 0x80
    assert meter.image(LIVE).words == EmulatedMeter(DEVICE).image(LIVE).words
