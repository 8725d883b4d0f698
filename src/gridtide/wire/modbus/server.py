"""The meter's side of Modbus TCP, sans-IO: an emulated meter that answers from a register map, truly or with a fault.

Function codes 1 to 4 read; 5, 6, 15 and 16 write mapped coils and holding registers, which then overlay the live
values (an E-stop button pressed on the emulator stays pressed until written back).
"""

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from gridtide.wire.modbus.frames import WRITES, Frame
from gridtide.wire.modbus.registers import Image, RegisterMap, Table, encode

FaultKind: TypeAlias = Literal[
    "none",
    "silent",
    "nan",
    "frozen",
    "sign_flip",
    "spike",
    "exception",
    "slow",
    "garbage",
    "short",
    "wrong_unit",
    "wrong_transaction",
    "disconnect",
]
TABLES: Mapping[int, Table] = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
_WRITE_TABLES: Mapping[int, Table] = {5: "coil", 6: "holding", 15: "coil", 16: "holding"}
_READ_LIMITS = {1: 2000, 2: 2000, 3: 125, 4: 125}
_WRITE_LIMITS = {15: 1968, 16: 123}
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, DEVICE_FAILURE = 1, 2, 3, 4
GARBAGE = b"\xde\xad\xbe\xef" * 4


class Fault(Struct, frozen=True):
    """What is wrong with the emulated meter. `ValueError` on a number that fits no such fault."""

    kind: FaultKind = "none"
    kw: float = 0.0
    """`spike`: added to the power, kW."""
    code: int = DEVICE_FAILURE
    """`exception`: the code answered."""
    delay_s: float = 0.0
    """`slow`: wait before each answer, s."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not math.isfinite(self.kw):
            raise ValueError(f"kw is {self.kw}: a finite number")
        if not 1 <= self.code <= 255:
            raise ValueError(f"code is {self.code}: 1 to 255")
        if not (math.isfinite(self.delay_s) and self.delay_s >= 0.0):
            raise ValueError(f"delay_s is {self.delay_s}: seconds, 0 or more")


class Reply(Struct, frozen=True):
    """What to send, after how long, and whether to hang up then."""

    data: bytes
    delay_s: float = 0.0
    close: bool = False


class EmulatedMeter:
    """A meter with a register map, an injectable fault and coils that can be written."""

    def __init__(self, device: RegisterMap) -> None:
        """`device`: the map it answers from."""
        self.device = device
        self._fault = Fault()
        self._frozen: Mapping[str, float | None] | None = None
        self._written: dict[tuple[Table, int], int] = {}

    @property
    def fault(self) -> Fault:
        """The fault in force."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        self._frozen = None

    def image(self, live: Mapping[str, float | None]) -> Image:
        """The memory a request sees, all of it from one instant; `ValueError` if a value cannot be written."""
        if self._fault.kind == "frozen":
            self._frozen = dict(live) if self._frozen is None else self._frozen
            live = self._frozen
        image = encode(self.device, _faulty_values(self.device, live, self._fault))
        return Image({**image.words, **self._written}) if self._written else image

    def reply(self, request: Frame, live: Mapping[str, float | None]) -> Reply:
        """What the meter answers to one request frame at this instant."""
        fault = self._fault
        if fault.kind == "silent" or request.unit != self.device.unit_id:
            return Reply(b"")
        if fault.kind == "disconnect":
            return Reply(b"", close=True)
        if fault.kind == "garbage":
            return Reply(GARBAGE)
        if fault.kind == "exception":
            answer = Frame(request.transaction, request.unit, _exception(request, fault.code))
            return Reply(answer.encode())
        answer = Frame(request.transaction, request.unit, self._answer(request, live))
        if fault.kind == "wrong_unit":
            answer = Frame(answer.transaction, (answer.unit + 1) % 256, answer.pdu)
        if fault.kind == "wrong_transaction":
            answer = Frame((answer.transaction + 7) % 65536, answer.unit, answer.pdu)
        data = answer.encode()
        return Reply(data[:-1] if fault.kind == "short" else data, fault.delay_s if fault.kind == "slow" else 0.0)

    def _answer(self, request: Frame, live: Mapping[str, float | None]) -> bytes:
        """The answer's PDU."""
        function = request.pdu[0]
        if function not in TABLES and function not in WRITES:
            return _exception(request, ILLEGAL_FUNCTION)
        if len(request.pdu) < 5:
            return _exception(request, ILLEGAL_VALUE)
        try:
            image = self.image(live)
        except ValueError:
            return _exception(request, DEVICE_FAILURE)
        return _read(request, image) if function in TABLES else self._write(request, image)

    def _write(self, request: Frame, image: Image) -> bytes:
        function, address = request.pdu[0], int.from_bytes(request.pdu[1:3], "big")
        table = _WRITE_TABLES[function]
        words = _words_to_write(request)
        if words is None:
            return _exception(request, ILLEGAL_VALUE)
        places = [(table, address + i) for i in range(len(words))]
        if any(place not in image.words for place in places):
            return _exception(request, ILLEGAL_ADDRESS)
        self._written.update(zip(places, words, strict=True))
        return request.pdu[:5]


def _faulty_values(device: RegisterMap, live: Mapping[str, float | None], fault: Fault) -> Mapping[str, float | None]:
    """Live values as the fault shows them; bits and scale factors stay true."""
    if fault.kind == "nan":
        return {register.name: live.get(register.name) for register in device.registers if register.unit in ("", "sf")}
    if fault.kind == "sign_flip":
        return {name: -value if value is not None and name.endswith("_kw") else value for name, value in live.items()}
    if fault.kind == "spike":
        power_kw = live.get("power_kw")
        return live if power_kw is None else {**live, "power_kw": power_kw + fault.kw}
    return live


def _exception(request: Frame, code: int) -> bytes:
    return bytes([request.function | 0x80, code])


def _read(request: Frame, image: Image) -> bytes:
    function = request.pdu[0]
    address, count = int.from_bytes(request.pdu[1:3], "big"), int.from_bytes(request.pdu[3:5], "big")
    if not 1 <= count <= _READ_LIMITS[function] or len(request.pdu) != 5:
        return _exception(request, ILLEGAL_VALUE)
    words = image.read(TABLES[function], address, count)
    if words is None:
        return _exception(request, ILLEGAL_ADDRESS)
    if function in (1, 2):
        packed = sum(bool(bit) << i for i, bit in enumerate(words))
        data = packed.to_bytes((count + 7) // 8, "little")
    else:
        data = b"".join(word.to_bytes(2, "big") for word in words)
    return bytes([function, len(data)]) + data


def _words_to_write(request: Frame) -> list[int] | None:
    """Words or bits of a write request; None if it is malformed."""
    function, pdu = request.pdu[0], request.pdu
    value = int.from_bytes(pdu[3:5], "big")
    if function == 5:
        return [int(value == 0xFF00)] if len(pdu) == 5 and value in (0, 0xFF00) else None
    if function == 6:
        return [value] if len(pdu) == 5 else None
    size = (value + 7) // 8 if function == 15 else 2 * value
    if not 1 <= value <= _WRITE_LIMITS[function] or len(pdu) != 6 + size or pdu[5] != size:
        return None
    data = pdu[6:]
    if function == 15:
        return [data[i // 8] >> (i % 8) & 1 for i in range(value)]
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, size, 2)]
