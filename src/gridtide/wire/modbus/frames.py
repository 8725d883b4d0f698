"""Modbus TCP frames: MBAP header and PDU, both directions (Modbus Messaging on TCP/IP V1.0b, 3.1).

Also the client's suspicion: `first_answer` finds the one answer that belongs to a request, or says what was wrong with
what came instead. A wrong transaction or unit id, a foreign function code or a length that does not fit is discarded.
"""

from msgspec import Struct

from gridtide.wire.modbus.reading import MeterReadError

HEADER_BYTES = 7
MAX_LENGTH = 254
"""Largest length field: unit id and a PDU of at most 253 bytes."""
WRITES = (5, 6, 15, 16)


class FrameError(ValueError):
    """The stream is no Modbus TCP; close the connection, there is no way to find the next frame."""


class Frame(Struct, frozen=True):
    """One frame."""

    transaction: int
    unit: int
    pdu: bytes
    """Function code and data, at least one byte."""

    @property
    def function(self) -> int:
        """Function code, without the bit that marks an exception."""
        return self.pdu[0] & 0x7F

    def encode(self) -> bytes:
        """The frame as it goes on the wire."""
        header = self.transaction.to_bytes(2, "big") + b"\0\0" + (len(self.pdu) + 1).to_bytes(2, "big")
        return header + bytes([self.unit]) + self.pdu


def split_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """The whole frames at the head of `data` and the rest; `FrameError` where a header is impossible."""
    frames = []
    while len(data) >= HEADER_BYTES:
        length = int.from_bytes(data[4:6], "big")
        if data[2:4] != b"\0\0" or not 2 <= length <= MAX_LENGTH:
            raise FrameError(f"header {data[:HEADER_BYTES].hex()} is no Modbus TCP")
        end = 6 + length
        if len(data) < end:
            break
        frames.append(Frame(int.from_bytes(data[:2], "big"), data[6], data[HEADER_BYTES:end]))
        data = data[end:]
    return frames, data


def first_answer(request: Frame, data: bytes) -> Frame | MeterReadError | None:
    """The answer to `request` in what was received so far, or why there is none; None while nothing has come."""
    if not data:
        return None
    try:
        frames, rest = split_frames(data)
    except FrameError as error:
        return MeterReadError("garbled", str(error))
    problem = MeterReadError("short", f"{len(rest)} bytes of an unfinished frame") if rest else None
    for frame in frames:
        trouble = _answer_problem(request, frame)
        if trouble is None:
            return frame
        problem = trouble
    return problem


def _answer_problem(request: Frame, answer: Frame) -> MeterReadError | None:
    if answer.transaction != request.transaction:
        text = f"transaction id {answer.transaction} answers, {request.transaction} was asked"
        return MeterReadError("wrong_transaction", text)
    if answer.unit != request.unit:
        return MeterReadError("wrong_unit", f"unit id {answer.unit} answers, {request.unit} was asked")
    if answer.function != request.function:
        text = f"function code {answer.function} answers, {request.function} was asked"
        return MeterReadError("garbled", text)
    if answer.pdu[0] & 0x80:
        return None if len(answer.pdu) == 2 else MeterReadError("garbled", f"exception of {len(answer.pdu)} bytes")
    if request.function in WRITES:
        return None if len(answer.pdu) == 5 else MeterReadError("garbled", f"write answer of {len(answer.pdu)} bytes")
    expected = data_bytes(request)
    if len(answer.pdu) != 2 + expected or answer.pdu[1] != expected:
        return MeterReadError("short", f"{len(answer.pdu) - 2} bytes of values, {expected} were asked")
    return None


def data_bytes(request: Frame) -> int:
    """Bytes of values that answer a read request (function codes 1 to 4); 0 if the request is cut off."""
    count = int.from_bytes(request.pdu[3:5], "big")
    return (count + 7) // 8 if request.function in (1, 2) else 2 * count
