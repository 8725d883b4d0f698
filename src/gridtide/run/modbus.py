"""Meters over Modbus TCP: the only file that knows pymodbus.

A read gives a whole `MeterReading` or a `MeterReadError`, never an exception and never part of a read. pymodbus skips
foreign frames silently and lets some malformed ones break its connection; every received buffer is therefore looked
at here first (`first_answer`), and only the frame that answers the request is let through.
"""

import asyncio
import logging
import random
from collections import deque

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from gridtide.run.clock import Clock
from gridtide.run.emulator.meter import MemoryMeter, ModbusMeterServer
from gridtide.wire.modbus.frames import Frame, first_answer
from gridtide.wire.modbus.reading import MeterReadError, MeterReading, exception_error, quality_of
from gridtide.wire.modbus.registers import BIT_TABLES, ReadBlock, RegisterMap, decode, plan_reads

__all__ = ["MemoryMeter", "ModbusMeterClient", "ModbusMeterServer"]

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0
"""Longest wait between two attempts to connect."""
PYMODBUS_TIMEOUT_S = 60.0
"""Never reached: the time for a read is kept here, over all of its requests."""
TIMEOUTS_TO_RECONNECT = 2
"""Silent reads in a row after which the connection itself is doubted."""

# Its errors come back as values; without this each one is printed as well.
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL + 1)


class _Sieve:
    """Between socket and pymodbus: lets through the one frame that answers the request under way."""

    def __init__(self) -> None:
        self._request: Frame | None = None
        self.problem: MeterReadError | None = None
        """What came instead of the answer."""
        self.limit: asyncio.Timeout | None = None
        """Time left for the read under way; ended at once when no answer can come any more."""

    def __call__(self, sending: bool, data: bytes) -> bytes:
        """pymodbus' packet trace: `data` is the request, or everything received since."""
        if sending:
            self._request = Frame(int.from_bytes(data[:2], "big"), data[6], data[7:])
            self.problem = None
            return data
        if self._request is None:
            return b""
        answer = first_answer(self._request, data)
        if isinstance(answer, Frame):
            return answer.encode()
        self._note(answer)
        return b""

    def on_link(self, connected: bool) -> None:
        """pymodbus' connection trace."""
        if not connected:
            self._note(MeterReadError("disconnected", "the device hung up"))

    def _note(self, problem: MeterReadError | None) -> None:
        self.problem = problem
        if self.limit is not None and problem is not None and problem.kind in ("garbled", "disconnected"):
            self.limit.reschedule(asyncio.get_running_loop().time())


class ModbusMeterClient:
    """Polls one device over Modbus TCP, one read at a time."""

    def __init__(
        self,
        host: str,
        port: int,
        device: RegisterMap,
        clock: Clock,
        luck: random.Random,
        *,
        timeout_s: float = 0.2,
        window: int = 60,
    ) -> None:
        """`luck`: jitter of the reconnect waits; `timeout_s`: real time for one whole read, connecting included;
        `window`: reads over which `error_rate` counts.
        """
        self.device = device
        self._host, self._port = host, port
        self._clock = clock
        self._luck = luck
        self._timeout_s = timeout_s
        self._blocks = plan_reads(device)
        self._link: AsyncModbusTcpClient | None = None
        self._sieve = _Sieve()
        self._lock = asyncio.Lock()
        self._failed: deque[bool] = deque(maxlen=window)
        self._silent_reads = 0
        self._failed_links = 0
        self._next_attempt_s = clock.monotonic()

    @property
    def error_rate(self) -> float:
        """Share of failed reads among the last `window` ones, 0..1; 0 before the first."""
        return sum(self._failed) / len(self._failed) if self._failed else 0.0

    @property
    def connected(self) -> bool:
        """Whether a connection stands."""
        return self._link is not None and self._link.connected

    async def read(self) -> MeterReading | MeterReadError:
        """Read the whole map; every failure is a value."""
        async with self._lock:
            outcome = await self._attempt()
            self._failed.append(isinstance(outcome, MeterReadError))
            self._judge(outcome)
            return outcome

    async def close(self) -> None:
        """Hang up; a later `read` connects anew."""
        self._hang_up()

    async def _attempt(self) -> MeterReading | MeterReadError:
        self._sieve.problem = None
        try:
            async with asyncio.timeout(self._timeout_s) as self._sieve.limit:
                link = await self._connected()
                if isinstance(link, MeterReadError):
                    return link
                return await self._read_all(link)
        except TimeoutError:
            return self._sieve.problem or MeterReadError("timeout", f"no answer within {self._timeout_s:g} s")
        except (ModbusException, OSError) as error:
            return MeterReadError("disconnected", str(error))
        finally:
            self._sieve.limit = None

    async def _read_all(self, link: AsyncModbusTcpClient) -> MeterReading | MeterReadError:
        start_s = self._clock.monotonic()
        words: dict[ReadBlock, list[int]] = {}
        for block in self._blocks:
            got = await self._read_block(link, block)
            if isinstance(got, MeterReadError):
                return got
            words[block] = got
        end_s = self._clock.monotonic()
        values = decode(self.device, words)
        return MeterReading(values, quality_of(values), self._clock.wall(), end_s, end_s - start_s)

    async def _read_block(self, link: AsyncModbusTcpClient, block: ReadBlock) -> list[int] | MeterReadError:
        ask = {
            "holding": link.read_holding_registers,
            "input": link.read_input_registers,
            "coil": link.read_coils,
            "discrete": link.read_discrete_inputs,
        }[block.table]
        if not link.connected:
            return MeterReadError("disconnected", f"{self._host}:{self._port} hung up")
        answer: ModbusPDU = await ask(block.address, count=block.count, device_id=self.device.unit_id)
        if answer.isError():
            return exception_error(answer.exception_code)
        got = [int(bit) for bit in answer.bits] if block.table in BIT_TABLES else list(answer.registers)
        return got[: block.count]

    async def _connected(self) -> AsyncModbusTcpClient | MeterReadError:
        """The standing connection, or a new one if it is time for an attempt."""
        if self._link is not None and self._link.connected:
            return self._link
        self._hang_up()
        wait_s = self._next_attempt_s - self._clock.monotonic()
        if wait_s > 0.0:
            return MeterReadError("disconnected", f"next attempt to reach {self._host}:{self._port} in {wait_s:.1f} s")
        self._link = AsyncModbusTcpClient(
            self._host,
            port=self._port,
            timeout=PYMODBUS_TIMEOUT_S,
            retries=0,
            reconnect_delay=0,
            trace_packet=self._sieve,
            trace_connect=self._sieve.on_link,
        )
        if await self._link.connect():
            return self._link
        return MeterReadError("disconnected", f"{self._host}:{self._port} cannot be reached")

    def _judge(self, outcome: MeterReading | MeterReadError) -> None:
        """Keep the connection, or hang up and set the instant of the next attempt."""
        if isinstance(outcome, MeterReading):
            self._silent_reads = self._failed_links = 0
            return
        if outcome.kind == "exception":
            self._silent_reads = 0
            return
        self._silent_reads += 1
        stream_is_sound = self.connected and outcome.kind in ("timeout", "wrong_unit", "wrong_transaction")
        if (stream_is_sound and self._silent_reads < TIMEOUTS_TO_RECONNECT) or self._link is None:
            return
        self._hang_up()
        self._silent_reads = 0
        wait_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(self._failed_links, 10))
        self._failed_links += 1
        self._next_attempt_s = self._clock.monotonic() + wait_s * self._luck.uniform(0.5, 1.0)

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
