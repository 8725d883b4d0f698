"""A block of control cycles as bytes and back, exact to the last bit: what `control.site.step` was given and what it said.

A block carries the controller's settings and state at its beginning, so each can be replayed without the one before. Arrays are
stored column by column as the difference of bits to a prediction (the value before; for ages and times to departure the value
before moved by the clock), bytes of equal weight together: what does not change costs next to nothing.
"""

import hashlib
import math
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

import gridtide
from gridtide.control.site import Settings, State
from gridtide.model.decision import MeterSample, Quality, Reasons, Snapshot
from gridtide.model.fleet import Bools, FleetSample, Floats

T = TypeVar("T")
FORMAT: Final = 1
MOST_BYTES: Final = 512 * 2**20
"""Of an unpacked block; more is no block of ours."""
_HINTS: Final[dict[type, dict[str, Any]]] = {
    kind: get_type_hints(kind) for kind in (FleetSample, Snapshot, Settings, State)
}
FLAGS: Final = tuple(name for name in FleetSample.__struct_fields__ if _HINTS[FleetSample][name] == Bools)
NUMBERS: Final = tuple(name for name in FleetSample.__struct_fields__ if _HINTS[FleetSample][name] == Floats)
SCALARS: Final = ("mono_s", "now_s", "meter", "fleet", "period_start_s", "estop", "meter_error_rate", "load_shed_kw")
OTHERS: Final = tuple(name for name in Snapshot.__struct_fields__ if name not in SCALARS)
"""Fields of a snapshot without a column of their own: kept whole, where they changed."""
MOVES: Final = {"age_s": 1.0, "left_s": -1.0}
"""Columns that run with the clock."""
_QUALITIES: Final = tuple(Quality)
_NONE: Final = 255
_SPECIAL: Final = {2**53: math.nan, 2**53 + 1: math.inf, 2**53 + 2: -math.inf}
"""Where values are kept in thousandths: what stands for those that are none."""


class DecisionLogError(ValueError):
    """A block that cannot be read: damaged, or of another gridtide."""


class Cycle(Struct, frozen=True, eq=False, kw_only=True):
    """One control cycle: what went in, what came out."""

    snapshot: Snapshot
    setpoint_kw: Floats
    reason: Reasons
    state: str
    """`ok`, `idle` or `estop`."""
    events: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    """Settings that are others from this cycle on, by field."""
    before: dict[str, Any] = {}
    """What was changed in the controller's state between the cycle before and this one, by field: by a person, by grid
    protection."""


class Block(Struct, frozen=True, eq=False, kw_only=True):
    """Some cycles in a row."""

    run: str
    """One start of the program."""
    number: int
    """Of this block in its run, from 0 on."""
    continues: bool
    """Its state and settings are what the block before ended with."""
    made_by: "MadeBy"
    settings: Settings
    state: State
    cycles: tuple[Cycle, ...]

    @property
    def span_s(self) -> tuple[float, float]:
        """Earliest and latest instant, UTC epoch seconds."""
        instants = [cycle.snapshot.now_s for cycle in self.cycles]
        return min(instants), max(instants)


class MadeBy(Struct, frozen=True):
    """What decided; another one may decide otherwise."""

    version: str
    code_sha256: str
    """Over the source of the decision: the rooms `control` and `model`."""
    numpy: str


class _Packed(Struct, frozen=True, kw_only=True):
    """A block before it is compressed."""

    format: int
    run: str
    number: int
    continues: bool
    made_by: MadeBy
    size: int
    cycles: int
    settings: bytes
    settings_sha256: str
    state: bytes
    columns: dict[str, bytes]
    changes: tuple[tuple[int, dict[str, bytes], dict[str, bytes]], ...]
    """(cycle, settings, state) where either changed."""
    others: tuple[tuple[int, str, bytes], ...]
    """(cycle, field, value) of `OTHERS` where it changed."""
    events: tuple[tuple[int, tuple[str, ...]], ...]
    states: tuple[str, ...]


@cache
def made_here() -> MadeBy:
    """This program."""
    digest, root = hashlib.sha256(), Path(gridtide.__file__).parent
    for path in sorted(path for room in ("control", "model") for path in (root / room).glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return MadeBy(gridtide.__version__, digest.hexdigest(), np.__version__)


def settings_sha256(settings: Settings) -> str:
    """Digest of everything the controller is told beside the snapshot; the same before and after storing."""
    return hashlib.sha256(exact(as_was(exact(settings), Settings))).hexdigest()


# --- whole blocks ---------------------------------------------------------------------------------------------------
def encode_block(block: Block) -> bytes:
    """The block as compressed bytes; some milliseconds for a minute of 100 EVSEs, to be spent beside the loop."""
    cycles, settings = block.cycles, exact(block.settings)
    packed = _Packed(
        format=FORMAT, run=block.run, number=block.number, continues=block.continues, made_by=block.made_by,
        size=block.settings.table.size, cycles=len(cycles), settings=settings,
        settings_sha256=hashlib.sha256(settings).hexdigest(), state=exact(block.state), columns=_columns(cycles),
        changes=tuple(
            (k, _each(cycle.settings), _each(cycle.before)) for k, cycle in enumerate(cycles)
            if cycle.settings or cycle.before
        ),
        others=tuple(_others(cycles)),
        events=tuple((k, cycle.events) for k, cycle in enumerate(cycles) if cycle.events),
        states=tuple(cycle.state for cycle in cycles),
    )  # fmt: skip
    return zlib.compress(msgspec.msgpack.encode(packed), 6)


def decode_block(data: bytes) -> Block:
    """The block that `encode_block` was given; raises DecisionLogError for bytes that are none."""
    try:
        packed = msgspec.msgpack.decode(_unpacked(data), type=_Packed)
        if packed.format != FORMAT:
            raise DecisionLogError(f"a block of format {packed.format}: this gridtide reads {FORMAT}")
        if hashlib.sha256(packed.settings).hexdigest() != packed.settings_sha256:
            raise DecisionLogError("a block whose settings are not those it was made with")
        return Block(
            run=packed.run, number=packed.number, continues=packed.continues, made_by=packed.made_by,
            settings=as_was(packed.settings, Settings), state=as_was(packed.state, State), cycles=_cycles(packed),
        )  # fmt: skip
    except (msgspec.DecodeError, zlib.error, KeyError, IndexError, TypeError, OverflowError) as error:
        raise DecisionLogError(f"a block that cannot be read: {error}") from error


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    plain = unpacker.decompress(data, MOST_BYTES)
    if not unpacker.eof or unpacker.unused_data:
        raise DecisionLogError("a block that is cut short, too long, or followed by something")
    return plain


# --- structs with arrays --------------------------------------------------------------------------------------------
def exact(value: object) -> bytes:
    """A struct of numbers and arrays as bytes that hold every bit; equal bytes are equal values."""
    return msgspec.msgpack.encode(value, enc_hook=_array_out)


def as_was(data: bytes, kind: type[T]) -> T:
    """The struct that `exact` was given."""
    return msgspec.msgpack.decode(data, type=kind, dec_hook=_array_in)


def _each(fields: dict[str, Any]) -> dict[str, bytes]:
    return {name: exact(value) for name, value in fields.items()}


def _each_as_was(fields: dict[str, bytes], kind: type) -> dict[str, Any]:
    return {name: as_was(data, _HINTS[kind][name]) for name, data in fields.items()}


def _others(cycles: Sequence[Cycle]) -> Iterator[tuple[int, str, bytes]]:
    last: dict[str, bytes] = {}
    for k, cycle in enumerate(cycles):
        for name in OTHERS:
            data = exact(getattr(cycle.snapshot, name))
            if last.get(name) != data:
                last[name] = data
                yield k, name, data


def _array_out(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"{type(value)} in the controller's state cannot be stored")


def _array_in(_kind: type, value: Any) -> object:
    dtype, shape, data = value
    if dtype not in ("<f8", "<i8", "|b1", "|u1"):
        raise DecisionLogError(f"an array of {dtype!r}")
    return np.frombuffer(data, dtype=dtype).reshape(shape).copy()


# --- columns --------------------------------------------------------------------------------------------------------
def _columns(cycles: Sequence[Cycle]) -> dict[str, bytes]:
    snapshots = [cycle.snapshot for cycle in cycles]
    mono_s = np.array([snapshot.mono_s for snapshot in snapshots])
    fleets = [snapshot.fleet for snapshot in snapshots]
    columns = {name: _pack_bytes(np.array([getattr(fleet, name) for fleet in fleets])) for name in FLAGS}
    for name in NUMBERS:
        values = np.array([getattr(fleet, name) for fleet in fleets], dtype=np.float64)
        columns[name] = _pack(values, MOVES.get(name, 0.0) * mono_s)
    columns["setpoint_kw"] = _pack(np.array([cycle.setpoint_kw for cycle in cycles]), 0.0 * mono_s)
    columns["reason"] = _pack_bytes(np.array([cycle.reason for cycle in cycles]))
    columns["scalars"] = _pack(np.array([_scalars(snapshot) for snapshot in snapshots]), 0.0 * mono_s)
    columns["marks"] = _pack_bytes(np.array([_marks(snapshot) for snapshot in snapshots], dtype=np.uint8))
    return columns


def _scalars(snapshot: Snapshot) -> tuple[float, ...]:
    meter, shed = snapshot.meter, snapshot.load_shed_kw
    register = meter.energy_import_kwh if meter is not None else None
    return (
        snapshot.mono_s, snapshot.now_s, snapshot.period_start_s, snapshot.meter_error_rate,
        0.0 if shed is None else shed, 0.0 if meter is None else meter.at_s, 0.0 if meter is None else meter.power_kw,
        0.0 if register is None else register,
    )  # fmt: skip


def _marks(snapshot: Snapshot) -> tuple[int, ...]:
    meter = snapshot.meter
    return (
        int(snapshot.estop),
        int(snapshot.load_shed_kw is not None),
        _NONE if meter is None else _QUALITIES.index(meter.quality),
        int(meter is not None and meter.energy_import_kwh is not None),
    )


def _cycles(packed: _Packed) -> tuple[Cycle, ...]:
    m, n, columns = packed.cycles, packed.size, packed.columns
    scalars = _unpack(columns["scalars"], m, 8, np.zeros(m))
    marks = _unpack_bytes(columns["marks"], m, 4)
    if len(packed.states) != m:
        raise DecisionLogError("a block with a column of another length")
    mono_s = scalars[:, 0]
    fleet: dict[str, NDArray[Any]] = {name: _unpack_bytes(columns[name], m, n).astype(np.bool_) for name in FLAGS}
    fleet |= {name: _unpack(columns[name], m, n, MOVES.get(name, 0.0) * mono_s) for name in NUMBERS}
    setpoint = _unpack(columns["setpoint_kw"], m, n, np.zeros(m))
    reason = _unpack_bytes(columns["reason"], m, n)
    changes = {k: (settings, state) for k, settings, state in packed.changes}
    events = dict(packed.events)
    others = {(k, name): as_was(data, _HINTS[Snapshot][name]) for k, name, data in packed.others}
    found: list[Cycle] = []
    beside: dict[str, Any] = {}
    for k in range(m):
        settings, before = changes.get(k, ({}, {}))
        beside |= {name: others[k, name] for name in OTHERS if (k, name) in others}
        found.append(
            Cycle(
                snapshot=_snapshot(scalars[k], marks[k], FleetSample(**{name: fleet[name][k] for name in fleet}), beside),
                setpoint_kw=setpoint[k], reason=reason[k], state=packed.states[k], events=events.get(k, ()),
                settings=_each_as_was(settings, Settings), before=_each_as_was(before, State),
            )
        )  # fmt: skip
    return tuple(found)


def _snapshot(scalars: Floats, marks: NDArray[np.uint8], fleet: FleetSample, beside: dict[str, Any]) -> Snapshot:
    mono_s, now_s, period_s, error_rate, shed, meter_s, meter_kw, register = (float(value) for value in scalars)
    estop, shedding, quality, has_register = (int(value) for value in marks)
    meter = None
    if quality != _NONE:
        meter = MeterSample(meter_s, meter_kw, _QUALITIES[quality], register if has_register else None)
    return Snapshot(
        mono_s=mono_s, now_s=now_s, meter=meter, fleet=fleet, period_start_s=period_s, estop=bool(estop),
        meter_error_rate=error_rate, load_shed_kw=shed if shedding else None, **beside,
    )  # fmt: skip


def _pack(values: Floats, clock_s: Floats) -> bytes:
    """(m, k) numbers: as steps of whole thousandths where they are that, else as the bits in which each differs from its
    prediction; bytes of equal weight together. The first byte says which."""
    values = np.ascontiguousarray(values, dtype=np.float64)
    moves = bool(clock_s.any())
    whole = None if moves else _thousandths(values)
    if whole is not None:
        rest = whole.copy()
        rest[1:] -= whole[:-1]
        # Small steps down have small numbers too.
        return b"\1" + _by_weight(((rest << 1) ^ (rest >> 63)).view(np.uint64))
    bits = values.view(np.uint64).copy()
    with np.errstate(invalid="ignore"):
        guess = clock_s[1:, None] - (clock_s[:-1, None] - values[:-1]) if moves else values[:-1]
    bits[1:] ^= np.ascontiguousarray(guess).view(np.uint64)
    return b"\0" + _by_weight(bits)


def _unpack(data: bytes, m: int, k: int, clock_s: Floats) -> Floats:
    weights = np.frombuffer(data, dtype=np.uint8)
    if weights.size != m * k * 8 + 1 or weights[0] > 1:
        raise DecisionLogError("a block with a column of another length")
    rest = weights[1:].reshape(8, m * k).T.copy().view(np.uint64).reshape(k, m).T.copy()
    if weights[0] == 1:
        steps = (rest >> np.uint64(1)).view(np.int64) ^ -(rest & np.uint64(1)).view(np.int64)
        return _of_thousandths(np.cumsum(steps, axis=0))
    values = rest.view(np.float64)
    moves = bool(clock_s.any())
    for row in range(1, m):
        with np.errstate(invalid="ignore"):
            before = values[row - 1]
            guess = clock_s[row] - (clock_s[row - 1] - before) if moves else before
        rest[row] ^= np.ascontiguousarray(guess).view(np.uint64)
    return values


def _by_weight(words: NDArray[np.uint64]) -> bytes:
    return words.T.copy().view(np.uint8).reshape(-1, 8).T.tobytes()


def _thousandths(values: Floats) -> NDArray[np.int64] | None:
    """The values in thousandths, what is no number as `_SPECIAL`; None unless every bit comes back."""
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.round(values * 1000.0)
    if (np.abs(scaled[np.isfinite(values)]) >= 2.0**52).any():
        return None
    whole = np.where(np.isfinite(values), scaled, 0.0).astype(np.int64)
    for code, special in _SPECIAL.items():
        whole[np.isnan(values) if np.isnan(special) else values == special] = code
    return whole if _of_thousandths(whole).tobytes() == values.tobytes() else None


def _of_thousandths(whole: NDArray[np.int64]) -> Floats:
    values: Floats = whole / 1000.0
    for code, special in _SPECIAL.items():
        values[whole == code] = special
    return values


def _pack_bytes(values: NDArray[Any]) -> bytes:
    told = values.astype(np.uint8)
    rest = told.copy()
    rest[1:] ^= told[:-1]
    return rest.T.tobytes()


def _unpack_bytes(data: bytes, m: int, k: int) -> NDArray[np.uint8]:
    rest = np.frombuffer(data, dtype=np.uint8)
    if rest.size != m * k:
        raise DecisionLogError("a block with a column of another length")
    told: NDArray[np.uint8] = np.bitwise_xor.accumulate(rest.reshape(k, m).T, axis=0)
    return told
