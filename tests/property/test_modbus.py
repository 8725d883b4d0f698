"""Register maps: values survive the trip within their resolution; nothing that arrives can raise or go non-finite."""

import math
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.wire.modbus.frames import Frame, FrameError, first_answer, split_frames
from gridtide.wire.modbus.presets import PRESETS
from gridtide.wire.modbus.reading import MeterReadError
from gridtide.wire.modbus.registers import (
    FORMATS,
    UNITS,
    Order,
    Register,
    RegisterMap,
    RegisterMapError,
    Words,
    decode,
    encode,
    plan_reads,
    resolution,
)
from gridtide.wire.modbus.server import EmulatedMeter, Fault, FaultKind
from gridtide.wire.modbus.table import map_from_table

orders: st.SearchStrategy[Order] = st.sampled_from(get_args(Order))
finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def registers(draw: st.DrawFn) -> Register:
    """Any sound register of a word kind."""
    unit = draw(st.sampled_from([unit for unit in UNITS if unit != "sf"]))
    return Register(
        name="value" + UNITS[unit][0],
        address=draw(st.integers(0, 60000)),
        kind=draw(st.sampled_from(list(FORMATS))),
        unit=unit,
        scale=draw(st.sampled_from([1.0, 0.1, 0.001, 10.0, -0.1])),
        offset=draw(st.sampled_from([0.0, -50.0, 273.15])),
        sign=draw(st.sampled_from([1, -1])),
        word_order=draw(orders),
        byte_order=draw(orders),
    )


def read_all(device: RegisterMap, values: dict[str, float | None]) -> dict[str, float | None]:
    """`values` through encode, the planned reads and decode."""
    image = encode(device, values)
    words = {}
    for block in plan_reads(device):
        got = image.read(block.table, block.address, block.count)
        assert got is not None
        words[block] = got
    return decode(device, words)


@given(registers(), st.integers(-(2**63), 2**64 - 1), finite)
def test_round_trip_within_resolution(register: Register, number: int, real: float) -> None:
    device = RegisterMap("one", 1, (register,))
    factor = UNITS[register.unit][1]
    if register.kind in ("float32", "float64"):
        value = real
    else:
        bits = 16 * register.width
        low = 0 if register.kind.startswith("u") else -(1 << bits - 1)
        raw = low + (number - low) % (1 << bits)
        value = (raw * register.scale + register.offset) * factor * register.sign
    try:
        got = read_all(device, {register.name: value})[register.name]
    except ValueError:
        # The outermost of 2**64 values may round out of the type; nothing nearer may.
        assert register.width == 4
        return
    if register.kind in ("float32", "float64"):
        if got is None:
            assert abs(value / factor - register.offset) / abs(register.scale) > 3.4e38
            return
        mantissa = 2.0**-23 if register.kind == "float32" else 2.0**-51
        smallest = 1e-44 if register.kind == "float32" else 5e-324
        span = abs(value) + abs(register.offset * factor)
        assert abs(got - value) <= span * mantissa * 4 + smallest * abs(register.scale) * factor
        return
    assert got is not None
    assert abs(got - value) <= resolution(device, register.name) * 0.51 + abs(value) * 1e-12 + 1e-9


@pytest.mark.parametrize("name", PRESETS)
@given(data=st.data())
@settings(max_examples=30)
def test_presets_carry_a_site(name: str, data: st.DataObject) -> None:
    device = PRESETS[name](1)
    spans = {"_kw": (-3000.0, 3000.0), "_kvar": (-3000.0, 3000.0), "_kwh": (1.0, 1e6), "_v": (180.0, 280.0)}
    spans |= {"_a": (0.0, 3000.0), "_hz": (45.0, 65.0), "_c": (-40.0, 120.0)}
    values: dict[str, float | None] = {}
    for register in device.registers:
        if register.unit != "sf":
            low, high = spans[UNITS[register.unit][0]]
            values[register.name] = data.draw(st.floats(low, high), label=register.name)
    got = read_all(device, values)
    for key, value in values.items():
        back = got[key]
        assert value is not None
        assert back is not None, key
        assert abs(back - value) <= resolution(device, key) * 0.51 + abs(value) * 1e-6 + 1e-30


@pytest.mark.parametrize("name", PRESETS)
@given(data=st.data())
@settings(max_examples=30)
def test_random_words_never_raise_nor_go_non_finite(name: str, data: st.DataObject) -> None:
    device = PRESETS[name](1)
    edges = st.sampled_from([0, 1, 0x7F80, 0x7FC0, 0x7FFF, 0x8000, 0xFF80, 0xFFC0, 0xFFFF])
    word = st.one_of(edges, st.integers(0, 0xFFFF), st.integers(-70000, 140000))
    words: Words = {
        block: data.draw(st.one_of(st.lists(word, min_size=block.count, max_size=block.count), st.lists(word)))
        for block in plan_reads(device)
    }
    values = decode(device, words)
    assert set(values) == {register.name for register in device.registers if register.unit != "sf"}
    assert all(value is None or math.isfinite(value) for value in values.values())


@given(st.lists(st.integers(0, 0xFFFF), min_size=4, max_size=4), registers())
def test_any_single_value_is_finite_or_none(words: list[int], register: Register) -> None:
    device = RegisterMap("one", 1, (register,))
    (block,) = plan_reads(device)
    value = decode(device, {block: words[: block.count]})[register.name]
    assert value is None or math.isfinite(value)


@given(st.lists(st.tuples(st.integers(0, 400), st.sampled_from(list(FORMATS))), min_size=1, max_size=60), st.data())
def test_reads_never_tear_a_value(places: list[tuple[int, Any]], data: st.DataObject) -> None:
    found: list[Register] = []
    end = 0
    for address, kind in sorted(places):
        if address >= end:
            found.append(Register(f"r{address}_kw", address, kind, unit="kW"))
            end = found[-1].end
    device = RegisterMap(
        "any",
        1,
        tuple(data.draw(st.permutations(found))),
        max_gap=data.draw(st.integers(0, 125)),
        max_count=data.draw(st.integers(4, 125)),
    )
    blocks = plan_reads(device)
    assert all(sum(block.covers(register) for block in blocks) == 1 for register in device.registers)
    assert all(block.count <= device.max_count for block in blocks)


@given(st.binary(max_size=600), st.binary(min_size=1, max_size=12))
def test_any_bytes_are_an_answer_an_error_or_nothing(data: bytes, pdu: bytes) -> None:
    request = Frame(1, 1, pdu)
    answer = first_answer(request, data)
    assert answer is None or isinstance(answer, Frame | MeterReadError)
    if isinstance(answer, Frame):
        assert (answer.transaction, answer.unit, answer.function) == (1, 1, request.function)


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 255), st.binary(min_size=1, max_size=253)), max_size=5))
def test_frames_split_as_they_were_joined(parts: list[tuple[int, int, bytes]]) -> None:
    frames = [Frame(*part) for part in parts]
    assert split_frames(b"".join(frame.encode() for frame in frames)) == (frames, b"")


@given(st.binary(max_size=300))
def test_any_stream_splits_or_is_refused(data: bytes) -> None:
    try:
        frames, rest = split_frames(data)
    except FrameError:
        return
    assert b"".join(frame.encode() for frame in frames) + rest == data


@given(st.binary(min_size=1, max_size=253), st.sampled_from(get_args(FaultKind)))
def test_the_emulator_answers_any_request(pdu: bytes, kind: FaultKind) -> None:
    device = PRESETS["sunspec_203"](1)
    meter = EmulatedMeter(device)
    meter.fault = Fault(kind)
    reply = meter.reply(Frame(3, 1, pdu), {"power_kw": 5.0})
    if kind in ("none", "nan", "frozen", "sign_flip", "spike", "exception", "slow"):
        (frame,), rest = split_frames(reply.data)
        assert rest == b""
        assert frame.function == pdu[0] & 0x7F


junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
row_keys = st.sampled_from([*Register.__struct_fields__, "other"])
likely = st.one_of(
    junk, st.sampled_from(["power_kw", "int16", "bit", "coil", "W", "little", "janitza_umg", "sunspec_203", 1, -1, 0.1])
)
table_keys = st.sampled_from(["preset", "address", "unit_id", "name", "max_gap", "max_count", "sign", "host"])


@given(
    st.dictionaries(table_keys, likely, max_size=8),
    st.one_of(junk, st.lists(st.dictionaries(row_keys, likely, max_size=13), max_size=4)),
)
def test_any_table_is_a_map_or_refused_with_problems(table: dict[str, object], rows: object) -> None:
    try:
        device = map_from_table({**table, "register": rows})
    except RegisterMapError:
        return
    assert plan_reads(device)
