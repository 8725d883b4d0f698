"""Tables of words -> values for every kind, order, scale and sign; maps that must be refused; presets; server PDUs."""

import re
import struct
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from gridtide.wire.modbus.frames import Frame, FrameError, first_answer, split_frames
from gridtide.wire.modbus.presets import PRESETS, SUNSPEC_MODELS, sunspec
from gridtide.wire.modbus.reading import MeterReadError, MeterReading, exception_error, quality_of
from gridtide.wire.modbus.registers import (
    MAX_REGISTERS,
    Image,
    ReadBlock,
    Register,
    RegisterMap,
    RegisterMapError,
    decode,
    encode,
    plan_reads,
)
from gridtide.wire.modbus.server import EmulatedMeter, Fault
from gridtide.wire.modbus.table import map_from_table


def one(register: Register, words: list[int]) -> float | None:
    """`register`'s value from `words`."""
    device = RegisterMap("one", 1, (register,))
    return decode(device, {ReadBlock(register.table, register.address, len(words)): words})[register.name]


@pytest.mark.parametrize(
    ("register", "words", "value"),
    [
        (Register("power_kw", 0, "int16", unit="W"), [0xFC18], -1.0),
        (Register("power_kw", 0, "uint16", unit="W"), [0xFC18], 64.536),
        (Register("power_kw", 0, "int32", unit="W"), [0xFFFF, 0xD8F0], -10.0),
        (Register("power_kw", 0, "int32", unit="W", word_order="little"), [0xD8F0, 0xFFFF], -10.0),
        (Register("power_kw", 0, "int32", unit="W", byte_order="little"), [0xFFFF, 0xF0D8], -10.0),
        (Register("power_kw", 0, "int32", unit="W", word_order="little", byte_order="little"), [0xF0D8, 0xFFFF], -10.0),
        (Register("import_kwh", 0, "uint32", unit="Wh"), [0x0001, 0x0000], 65.536),
        (Register("import_kwh", 0, "int64", unit="Wh"), [0xFFFF, 0xFFFF, 0xFFFF, 0xFC18], -1.0),
        (Register("import_kwh", 0, "uint64", unit="Wh"), [0, 0x0001, 0, 0], 4294967.296),
        (Register("import_kwh", 0, "uint64", unit="Wh", word_order="little"), [0, 0, 0x0001, 0], 4294967.296),
        (Register("frequency_hz", 0, "float32", unit="Hz"), [0x4248, 0x0000], 50.0),
        (Register("frequency_hz", 0, "float32", unit="Hz", word_order="little"), [0x0000, 0x4248], 50.0),
        (Register("frequency_hz", 0, "float32", unit="Hz", byte_order="little"), [0x4842, 0x0000], 50.0),
        (Register("frequency_hz", 0, "float64", unit="Hz"), [0x4049, 0, 0, 0], 50.0),
        (Register("power_kw", 0, "int16", unit="W", sign=-1), [1500], -1.5),
        (Register("power_kw", 0, "int16", unit="W", scale=10.0), [1500], 15.0),
        (Register("power_kw", 0, "int16", unit="kW", scale=0.5, offset=-100.0, sign=-1), [10], 95.0),
        (Register("power_kw", 0, "int16", unit="MW"), [2], 2000.0),
        (Register("heat_sink_c", 0, "int16", unit="°C", scale=0.1, offset=-50.0), [700], 20.0),
        (Register("current_a", 0, "uint16", unit="mA"), [16000], 16.0),
        (Register("estop", 3, "bit", table="coil"), [1], 1.0),
        (Register("estop", 3, "bit", table="discrete"), [0], 0.0),
        (Register("estop", 3, "bit", table="coil", sign=-1), [0], 0.0),
        # what the device does not know
        (Register("power_kw", 0, "float32", unit="W"), [0x7FC0, 0x0000], None),
        (Register("power_kw", 0, "float32", unit="W"), [0xFFC0, 0x0000], None),
        (Register("power_kw", 0, "float32", unit="W"), [0x7F80, 0x0000], None),
        (Register("power_kw", 0, "float64", unit="W"), [0xFFF0, 0, 0, 0], None),
        (Register("power_kw", 0, "float64", unit="MW"), [0x7FEF, 0xFFFF, 0xFFFF, 0xFFFF], None),
        (Register("power_kw", 0, "int16", unit="W", not_available=(0x8000,)), [0x8000], None),
        (Register("power_kw", 0, "int32", unit="W", not_available=(0x7FFF_FFFF,)), [0x7FFF, 0xFFFF], None),
        (
            Register("power_kw", 0, "int32", unit="W", word_order="little", not_available=(0x7FFF_FFFF,)),
            [0xFFFF, 0x7FFF],
            None,
        ),
        # a torn or impossible answer
        (Register("power_kw", 0, "int32", unit="W"), [0xFFFF], None),
        (Register("power_kw", 0, "int32", unit="W"), [], None),
        (Register("power_kw", 0, "int16", unit="W"), [65536], None),
        (Register("power_kw", 0, "int16", unit="W"), [-1], None),
    ],
)
def test_words_to_value(register: Register, words: list[int], value: float | None) -> None:
    got = one(register, words)
    assert got == pytest.approx(value) if value is not None else got is None


def scaled(exponent_word: int) -> float | None:
    """1234 with the scale factor in `exponent_word`, kW."""
    device = RegisterMap(
        "sf",
        1,
        (
            Register("power_kw", 0, "int16", unit="W", scale_register="w_sf"),
            Register("w_sf", 1, "int16", unit="sf", not_available=(0x8000,)),
        ),
    )
    values = decode(device, {ReadBlock("holding", 0, 2): [1234, exponent_word]})
    assert set(values) == {"power_kw"}
    return values["power_kw"]


@pytest.mark.parametrize(
    ("word", "value"), [(0, 1.234), (2, 123.4), (0xFFFF, 0.1234), (0x8000, None), (11, None), (0xFFF5, None)]
)
def test_scale_factor(word: int, value: float | None) -> None:
    assert scaled(word) == (pytest.approx(value) if value is not None else None)


def test_value_without_its_scale_factor_is_none() -> None:
    device = sunspec(203)
    power = device.register("power_kw")
    assert decode(device, {ReadBlock("holding", power.address, 1): [100]})["power_kw"] is None


def test_every_problem_is_told() -> None:
    with pytest.raises(RegisterMapError) as caught:
        RegisterMap(
            "bad",
            300,
            (
                Register("power", 0, "int16", unit="W"),
                Register("voltage_v", 0, "int32", unit="V", scale=0.0, sign=2),
                Register("frequency_hz", 65535, "float32", unit="Hz", scale_register="hz_sf"),
                Register("frequency_hz", 10, "int16", unit="Hertz", not_available=(0x10000,), offset=float("nan")),
                Register("estop", 0, "uint16", table="coil"),
                Register("load shed", 0, "bit", word_order="middle"),  # type: ignore[arg-type]
                Register("x_kw", 50, "bcd", unit="kW"),  # type: ignore[arg-type]
                Register("a_sf", 60, "uint16", unit="sf"),
                Register("b_kw", 61, "int16", table="eeprom", unit="kW"),  # type: ignore[arg-type]
            ),
            max_gap=-1,
            max_count=200,
            exponents={"w_sf": 2},
        )
    told = "; ".join(caught.value.problems)
    for piece in (
        "unit_id is 300",
        "ends with _kw",
        "overlap",
        "scale is 0.0",
        "sign is 2",
        "address is 65535",
        "hz_sf",
        "given twice",
        "'Hertz'",
        "not_available",
        "offset is nan",
        "coils and discrete inputs are bits",
        "'load shed'",
        "word_order is 'middle'",
        "kind is 'bcd'",
        "a scale factor is int16",
        "'eeprom'",
        "max_gap is -1",
        "max_count is 200",
        "exponents: w_sf",
    ):
        assert piece in told, piece


def test_empty_map_is_refused() -> None:
    with pytest.raises(RegisterMapError, match="at least one"):
        RegisterMap("none", 1, ())


def test_reads_never_split_a_value_and_respect_gap_and_count() -> None:
    registers = tuple(Register(f"p{i}_kw", 4 * i, "float64", unit="kW") for i in range(40))
    blocks = plan_reads(RegisterMap("wide", 1, registers))
    assert [block.count for block in blocks] == [124, 36]
    assert all(any(block.covers(register) for block in blocks) for register in registers)
    sparse = (Register("a_kw", 0, "int16", unit="kW"), Register("b_kw", 3, "int16", unit="kW"))
    assert len(plan_reads(RegisterMap("strict", 1, sparse))) == 2
    assert plan_reads(RegisterMap("lax", 1, sparse, max_gap=2)) == (ReadBlock("holding", 0, 4),)
    tables = (Register("a_kw", 0, "int16", unit="kW"), Register("b_kw", 1, "int16", table="input", unit="kW"))
    assert len(plan_reads(RegisterMap("tables", 1, tables))) == 2


@pytest.mark.parametrize("name", PRESETS)
def test_presets_read_whole_values_in_few_reads(name: str) -> None:
    device = PRESETS[name](7)
    assert device.unit_id == 7
    assert device.source
    blocks = plan_reads(device)
    assert len(blocks) <= 6
    assert all(block.count <= device.max_count <= MAX_REGISTERS for block in blocks)
    assert all(sum(block.covers(register) for block in blocks) == 1 for register in device.registers)
    assert all(first.address < second.address for first, second in pairwise(blocks))
    assert {"power_kw", "frequency_hz", "import_kwh", "export_kwh"} <= {register.name for register in device.registers}


@pytest.mark.parametrize(
    ("preset", "name", "address", "words", "value"),
    [
        ("eastron_sdm630", "power_kw", 0x34, struct.unpack(">2H", struct.pack(">f", -2500.0)), -2.5),
        ("eastron_sdm630", "import_kwh", 0x48, struct.unpack(">2H", struct.pack(">f", 12.5)), 12.5),
        ("carlo_gavazzi_em340", "power_kw", 0x28, (0x61A8, 0x0000), 2.5),
        ("carlo_gavazzi_em340", "voltage_l2_v", 0x02, (2304, 0), 230.4),
        ("carlo_gavazzi_em340", "frequency_hz", 0x33, (500,), 50.0),
        ("schneider_iem3000", "power_kw", 3059, struct.unpack(">2H", struct.pack(">f", 17.25)), 17.25),
        ("schneider_iem3000", "import_kwh", 3203, (0, 0, 0, 5000), 5.0),
        ("schneider_pm5000", "frequency_hz", 3109, (0x4248, 0), 50.0),
        ("janitza_umg", "power_kw", 19026, struct.unpack(">2H", struct.pack(">f", -800.0)), -0.8),
        ("janitza_umg", "export_kwh", 19076, struct.unpack(">2H", struct.pack(">f", 1500.0)), 1.5),
        ("sunspec_213", "power_kw", 40098, struct.unpack(">2H", struct.pack(">f", 4000.0)), 4.0),
    ],
)
def test_preset_places(preset: str, name: str, address: int, words: tuple[int, ...], value: float) -> None:
    device = PRESETS[preset](1)
    assert device.register(name).address == address
    block = ReadBlock(device.register(name).table, address, len(words))
    assert decode(device, {block: list(words)})[name] == pytest.approx(value)


def test_sunspec_701_counts_generation_as_export() -> None:
    device = sunspec(701, address=40070)
    (block,) = plan_reads(device)
    words = [0] * block.count
    words[40080 - block.address] = 500  # W
    words[40186 - block.address] = 1  # W_SF
    words[40087 - block.address : 40089 - block.address] = [0, 5001]  # Hz
    words[40185 - block.address] = 0xFFFE  # Hz_SF
    values = decode(device, {block: words})
    assert values["power_kw"] == pytest.approx(-5.0)
    assert values["frequency_hz"] == pytest.approx(50.01)


def test_sunspec_models() -> None:
    assert tuple(m for m in SUNSPEC_MODELS if m in (201, 204, 211, 214, 701)) == (201, 204, 211, 214, 701)
    assert "voltage_l2_v" not in {register.name for register in sunspec(201).registers}
    with pytest.raises(ValueError, match="999"):
        sunspec(999)


def test_encode_says_not_available_or_refuses() -> None:
    plain = RegisterMap("plain", 1, (Register("power_kw", 0, "int16", unit="W"),))
    with pytest.raises(ValueError, match="power_kw is None"):
        encode(plain, {})
    with pytest.raises(ValueError, match="power_kw is 40"):
        encode(plain, {"power_kw": 40.0})
    assert encode(plain, {"power_kw": -32.768}).words == {("holding", 0): 0x8000}
    known = RegisterMap("known", 1, (Register("power_kw", 0, "int16", unit="W", not_available=(0x8000,)),))
    assert encode(known, {"power_kw": float("inf")}).words == {("holding", 0): 0x8000}


def test_table_with_rows_and_preset() -> None:
    device = map_from_table(
        {
            "host": "meter.local",
            "preset": "eastron_sdm630",
            "unit_id": 4,
            "sign": -1,
            "register": [{"name": "estop", "address": 2, "kind": "bit", "table": "coil", "not_available": 7 - 6}],
        }
    )
    assert device.unit_id == 4
    assert device.register("power_kw").sign == -1
    assert device.register("voltage_l1_v").sign == 1
    assert device.register("estop").not_available == (1,)
    assert map_from_table({"preset": "sunspec_203", "address": 50002}).register("power_kw").address == 50020


def test_table_tells_every_problem() -> None:
    with pytest.raises(RegisterMapError) as caught:
        map_from_table(
            {
                "preset": "nobody",
                "unit_id": True,
                "name": 5,
                "sign": 0,
                "register": [
                    {"address": "12", "kind": 3, "colour": "red", "scale": True, "not_available": "x"},
                    "row",
                ],
            }
        )
    told = "; ".join(caught.value.problems)
    for piece in ("'nobody'", "unit_id is True", "name is 5", "sign is 0", "address is '12'", "kind is 3", "colour"):
        assert piece in told, piece
    for piece in ("scale is True", "not_available is 'x'", "name is missing", "register[1] is 'row'"):
        assert piece in told, piece
    for table, piece in (
        ({}, "neither preset nor register"),
        ({"register": 3}, "[[meter.register]]"),
        ({"preset": "janitza_umg", "address": 3}, "leave it out"),
        ({"preset": "sunspec_203", "address": 99999}, "99999"),
    ):
        with pytest.raises(RegisterMapError) as caught:
            map_from_table(table)
        assert piece in str(caught.value)


METER = RegisterMap(
    "emulated",
    1,
    (
        Register("power_kw", 10, "float32", unit="kW"),
        Register("import_kwh", 13, "uint32", unit="Wh", not_available=(0xFFFF_FFFF,)),
        Register("estop", 2, "bit", table="coil"),
        Register("load_shed", 5, "bit", table="coil"),
    ),
    max_gap=5,
)
LIVE = {"power_kw": 12.5, "import_kwh": 3.0, "estop": 0.0, "load_shed": 1.0}


def ask(meter: EmulatedMeter, pdu: str) -> str:
    """The answer's PDU in hexadecimal."""
    reply = meter.reply(Frame(9, 1, bytes.fromhex(pdu)), LIVE)
    (frame,), rest = split_frames(reply.data)
    assert rest == b""
    assert (frame.transaction, frame.unit) == (9, 1)
    return frame.pdu.hex()


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ("03000a0002", "030441480000"),
        ("03000a0005", "030a41480000000000000bb8"),
        ("0100020004", "010108"),
        ("0200020001", "8202"),
        ("0400 0a0002", "8402"),
        ("0300090002", "8302"),
        ("03000a0000", "8303"),
        ("03000a007e", "8303"),
        ("0300", "8303"),
        ("2b0e0100", "ab01"),
        ("050003ff00", "8502"),
        ("050002ff01", "8503"),
        ("0f000200010201", "8f03"),
        ("10000a00010200", "9003"),
    ],
)
def test_answers(request_: str, answer: str) -> None:
    assert ask(EmulatedMeter(METER), request_) == answer


def test_written_coils_and_registers_stay() -> None:
    meter = EmulatedMeter(METER)
    assert ask(meter, "050002ff00") == "050002ff00"
    assert ask(meter, "0100020001") == "010101"
    assert ask(meter, "0f000200010100") == "0f00020001"
    assert ask(meter, "0100020001") == "010100"
    assert ask(meter, "06000a3f80") == "06000a3f80"
    assert ask(meter, "10000b0001020000") == "10000b0001"
    assert ask(meter, "03000a0002") == "03043f800000"


def test_other_units_hear_nothing() -> None:
    assert EmulatedMeter(METER).reply(Frame(1, 2, bytes.fromhex("03000a0002")), LIVE).data == b""


def test_value_faults() -> None:
    meter = EmulatedMeter(METER)

    def power_kw(live: dict[str, float]) -> float | None:
        reply = meter.reply(Frame(1, 1, bytes.fromhex("03000a0002")), live)
        (frame,), _ = split_frames(reply.data)
        words = list(struct.unpack(">2H", frame.pdu[2:]))
        return decode(METER, {ReadBlock("holding", 10, 2): words})["power_kw"]

    meter.fault = Fault("spike", kw=100.0)
    assert power_kw(LIVE) == 112.5
    meter.fault = Fault("sign_flip")
    assert power_kw(LIVE) == -12.5
    meter.fault = Fault("nan")
    assert power_kw(LIVE) is None
    assert ask(meter, "0100050001") == "010101"
    meter.fault = Fault("frozen")
    assert power_kw(LIVE) == 12.5
    assert power_kw({**LIVE, "power_kw": 99.0}) == 12.5
    meter.fault = Fault()
    assert power_kw({**LIVE, "power_kw": 99.0}) == 99.0


def test_source_without_a_value_is_a_device_failure() -> None:
    reply = EmulatedMeter(METER).reply(Frame(1, 1, bytes.fromhex("03000a0002")), {"power_kw": 1.0})
    assert split_frames(reply.data)[0][0].pdu.hex() == "8304"


@pytest.mark.parametrize("bad", [{"kw": float("nan")}, {"code": 0}, {"delay_s": -1.0}, {"delay_s": float("inf")}])
def test_bad_faults_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Fault("slow", **bad)  # type: ignore[arg-type]


REQUEST = Frame(5, 1, bytes.fromhex("03000a0002"))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (Frame(4, 1, bytes.fromhex("030441480000")).encode(), "wrong_transaction"),
        (Frame(0, 1, bytes.fromhex("030441480000")).encode(), "wrong_transaction"),
        (Frame(5, 2, bytes.fromhex("030441480000")).encode(), "wrong_unit"),
        (Frame(5, 1, bytes.fromhex("040441480000")).encode(), "garbled"),
        (Frame(5, 1, bytes.fromhex("03024148")).encode(), "short"),
        (Frame(5, 1, bytes.fromhex("03084148000000000000")).encode(), "short"),
        (Frame(5, 1, bytes.fromhex("030241480000")).encode(), "short"),
        (Frame(5, 1, b"\x83").encode(), "garbled"),
        (Frame(5, 1, bytes.fromhex("030441480000")).encode()[:-1], "short"),
        (b"\xde\xad\xbe\xef\xde\xad\xbe\xef", "garbled"),
        (b"\0\5\0\0\0\1\1", "garbled"),
    ],
)
def test_foreign_answers_are_discarded(data: bytes, kind: str) -> None:
    answer = first_answer(REQUEST, data)
    assert isinstance(answer, MeterReadError)
    assert answer.kind == kind


def test_right_answer_behind_a_late_one_is_found() -> None:
    late = Frame(4, 1, bytes.fromhex("030400000000")).encode()
    right = Frame(5, 1, bytes.fromhex("030441480000"))
    assert first_answer(REQUEST, late + right.encode()) == right
    assert first_answer(REQUEST, b"") is None
    exception = Frame(5, 1, bytes.fromhex("8302"))
    assert first_answer(REQUEST, exception.encode()) == exception
    with pytest.raises(FrameError):
        split_frames(b"\0\1\0\1\0\3\1\3\0")


def test_quality_and_flags() -> None:
    assert quality_of({"power_kw": 1.0, "estop": 0.0}) == "good"
    assert quality_of({"power_kw": 1.0, "voltage_l1_v": None}) == "partial"
    assert quality_of({"power_kw": None, "voltage_l1_v": 230.0}) == "unusable"
    reading = MeterReading({"power_kw": 1.0, "estop": 1.0, "load_shed": None}, "partial", 0.0, 0.0, 0.0)
    assert reading.power_kw == 1.0
    assert reading.flag("estop") is True
    assert reading.flag("load_shed") is None
    assert reading.flag("nowhere") is None
    assert exception_error(11).text == "exception 11: gateway target did not answer"
    assert exception_error(99).code == 99


def test_image_reads_gaps_but_not_beyond() -> None:
    image = Image({("holding", 1): 7, ("holding", 4): 9})
    assert image.read("holding", 1, 4) == [7, 0, 0, 9]
    assert image.read("holding", 1, 3) is None
    assert image.read("input", 1, 1) is None


def test_documented_table_is_a_map() -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text("utf-8").split("## Register map")[1]
    config = tomllib.loads(text.split("```toml")[1].split("```")[0])
    device = map_from_table(config["meter"])
    assert device.register("cabinet_c").not_available == (0x8000,)
    assert device.register("estop").table == "coil"
    documented = set(re.findall(r"`((?:sunspec|eastron|carlo|schneider|janitza)_\w+)`", text))
    assert documented <= set(PRESETS)
    assert {name for name in PRESETS if not name.startswith("sunspec")} <= documented
