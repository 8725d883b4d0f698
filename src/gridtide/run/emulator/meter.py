"""Emulated meters: a Modbus TCP server that answers from live values, and its socket-free twin for virtual time.

Both answer through the same `EmulatedMeter`, so a fault means the same on a socket and in a simulated day.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self, TypeAlias

from gridtide.run.clock import Clock
from gridtide.wire.modbus.frames import Frame, FrameError, first_answer, split_frames
from gridtide.wire.modbus.reading import MeterReadError, MeterReading, exception_error, quality_of
from gridtide.wire.modbus.registers import BIT_TABLES, ReadBlock, RegisterMap, decode, plan_reads
from gridtide.wire.modbus.server import TABLES, EmulatedMeter, Fault

Source: TypeAlias = Callable[[], Mapping[str, float | None]]
"""The live values by register name, in our units and sign; called once a request."""

MAX_CONNECTIONS = 16
_VOLTAGES = ("voltage_l1_v", "voltage_l2_v", "voltage_l3_v", "voltage_v", "voltage_ln_v")
_FUNCTIONS = {table: function for function, table in TABLES.items()}


def grid_values(frequency_hz: float, voltage_v: float) -> dict[str, float]:
    """A balanced grid as live values, by every register name that tells voltage (`voltage_v`: phase to neutral) or frequency."""
    between_v = voltage_v * math.sqrt(3.0)
    return {"frequency_hz": frequency_hz, **dict.fromkeys(_VOLTAGES, voltage_v), "voltage_ll_v": between_v}


class ModbusMeterServer:
    """An emulated meter on a TCP port (loopback unless told otherwise); set `fault` at any moment."""

    def __init__(self, device: RegisterMap, source: Source, *, host: str = "127.0.0.1", port: int = 5020) -> None:
        """`port` 0 takes a free one; see `port` after `start`."""
        self._meter = EmulatedMeter(device)
        self._source = source
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def fault(self) -> Fault:
        """The fault in force."""
        return self._meter.fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._meter.fault = fault

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._port

    async def start(self) -> None:
        """Listen; `OSError` if the port is taken."""
        self._server = await asyncio.start_server(self._serve, self._host, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and hang up on everybody."""
        if self._server is None:
            return
        self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> Self:
        """Start listening."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= MAX_CONNECTIONS:
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, FrameError):
            return
        except asyncio.CancelledError:
            # Only `close` cancels; the stream's own callback would report the cancellation as an error.
            return
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the peer hangs up; `FrameError` if it does not speak Modbus TCP."""
        rest = b""
        while data := await reader.read(4096):
            requests, rest = split_frames(rest + data)
            for request in requests:
                reply = self._meter.reply(request, self._source())
                if reply.delay_s:
                    await asyncio.sleep(reply.delay_s)
                writer.write(reply.data)
                await writer.drain()
                if reply.close:
                    return


class MemoryMeter:
    """`read` as `ModbusMeterClient` has it, through the same register map, without a socket; for virtual time."""

    def __init__(self, source: Source, device: RegisterMap, clock: Clock, *, timeout_s: float = 0.2) -> None:
        """`timeout_s`: how long a silent meter is waited for, on `clock`."""
        self.device = device
        self._meter = EmulatedMeter(device)
        self._source = source
        self._clock = clock
        self._timeout_s = timeout_s
        self._blocks = plan_reads(device)

    @property
    def fault(self) -> Fault:
        """The fault in force."""
        return self._meter.fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._meter.fault = fault

    async def read(self) -> MeterReading | MeterReadError:
        """The live values as the register map lets them through, or the error the fault in force leads to."""
        start_s = self._clock.monotonic()
        live = self._source()
        words: dict[ReadBlock, list[int]] = {}
        delay_s = 0.0
        for transaction, block in enumerate(self._blocks, start=1):
            got, wait_s = self._ask(transaction, block, live)
            delay_s += wait_s
            if isinstance(got, MeterReadError):
                await self._clock.sleep(min(delay_s, self._timeout_s))
                return got
            words[block] = got
        if delay_s > self._timeout_s:
            await self._clock.sleep(self._timeout_s)
            return self._too_late()
        if delay_s > 0.0:
            await self._clock.sleep(delay_s)
        end_s = self._clock.monotonic()
        values = decode(self.device, words)
        return MeterReading(values, quality_of(values), self._clock.wall(), end_s, end_s - start_s)

    def _ask(
        self, transaction: int, block: ReadBlock, live: Mapping[str, float | None]
    ) -> tuple[list[int] | MeterReadError, float]:
        """One block's words or the error, and how long it took, s."""
        pdu = bytes([_FUNCTIONS[block.table]]) + block.address.to_bytes(2, "big") + block.count.to_bytes(2, "big")
        request = Frame(transaction, self.device.unit_id, pdu)
        reply = self._meter.reply(request, live)
        if reply.close:
            return MeterReadError("disconnected", "the meter hung up"), 0.0
        answer = first_answer(request, reply.data)
        if not isinstance(answer, Frame):
            return answer or self._too_late(), self._timeout_s
        if answer.pdu[0] & 0x80:
            return exception_error(answer.pdu[1]), reply.delay_s
        data = answer.pdu[2:]
        if block.table in BIT_TABLES:
            return [data[i // 8] >> (i % 8) & 1 for i in range(block.count)], reply.delay_s
        return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)], reply.delay_s

    def _too_late(self) -> MeterReadError:
        return MeterReadError("timeout", f"no answer within {self._timeout_s:g} s")
