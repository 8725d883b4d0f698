"""The decision log of a running site: replayed to the same bits from both stores, over restarts, clock steps and tampering."""

import asyncio
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from msgspec import structs
from typer.testing import CliRunner

from gridtide.app.cli import app
from gridtide.control import site as control
from gridtide.control.site import Settings, State
from gridtide.model.decision import Decision, GridSample, MeterSample, Quality, Reason, Snapshot
from gridtide.model.fleet import FleetSample
from gridtide.run.decision_codec import (
    FLAGS,
    NUMBERS,
    SCALARS,
    Block,
    Cycle,
    DecisionLogError,
    _pack,
    _unpack,
    as_was,
    decode_block,
    encode_block,
    exact,
    made_here,
)
from gridtide.run.decision_log import MOST_WAITING, DecisionLog, at_once
from gridtide.run.replay import Replayed, changes, decide_again, past, read_block, replay
from gridtide.run.simloop import run_sim
from gridtide.run.store import MemoryStore, SqliteStore, Store
from gridtide.run.store.decisions import StoreReader
from tests.day.wire_site import BUSY_S, START_S, WireSite, on_wire, settings, world

ALWAYS = (START_S - 1e6, START_S + 1e7)
LENGTH_S = 240.0
HOUR_S = 3_600.0


def local(at_s: float) -> str:
    return f"{at_s:.0f}"


def log_of(wire: WireSite, **more: Any) -> DecisionLog:
    kept = DecisionLog(wire.store, wire.clock, offload=at_once, **more)
    wire.site.watchers.append(kept.cycle)
    return kept


async def logged(store: Store, length_s: float = LENGTH_S, start_s: float = BUSY_S) -> WireSite:
    """A site that shaves, with its log; stopped in order."""
    wire = WireSite(world(6), start_s=START_S + start_s, store=store)
    kept = log_of(wire)
    wire.start()
    await wire.after(length_s)
    await wire.stop()
    await kept.close()
    return wire


def cycles_of(store: Store) -> list[Cycle]:
    return [cycle for row in store.decision_blocks(*ALWAYS) for cycle in read_block(store, row).cycles]


@pytest.fixture(scope="module")
def memory() -> tuple[MemoryStore, WireSite]:
    store = MemoryStore()
    return store, on_wire(lambda: logged(store))


# --- the same bits ------------------------------------------------------------------------------------------------------
def test_a_stored_period_replays_to_the_same_bits(memory: tuple[MemoryStore, WireSite]) -> None:
    store, wire = memory
    report = replay(store, *ALWAYS)
    assert report.cycles == report.equal == len(wire.trace.setpoints) == LENGTH_S / 0.5 - 1
    assert (report.same, report.first_difference, report.restarts, report.missing_blocks) == (True, None, 0, 0)
    assert (report.blocks, report.broken_checkpoints, report.other_code) == (4, 0, ())
    stored = [cycle.setpoint_kw.tobytes() for cycle in cycles_of(store)]
    assert stored == [setpoint.tobytes() for _, setpoint in wire.trace.setpoints]
    assert min(np.frombuffer(setpoint).sum() for setpoint in stored) < -10.0, "nothing was shaved"


def test_part_of_a_period_is_only_that_part(memory: tuple[MemoryStore, WireSite]) -> None:
    store, _ = memory
    begin_s = START_S + BUSY_S + 100.0
    report = replay(store, begin_s, begin_s + 10.0)
    assert (report.cycles, report.same, report.blocks) == (20, True, 1)
    assert replay(store, ALWAYS[1], ALWAYS[1] + 60.0).cycles == 0


def test_the_file_holds_what_memory_holds_and_is_read_while_it_is_in_use(
    memory: tuple[MemoryStore, WireSite], tmp_path: Path
) -> None:
    path = tmp_path / "site.db"

    async def copied() -> None:
        store = SqliteStore.open(path, START_S)
        for row in memory[0].decision_blocks(*ALWAYS):
            data = memory[0].decision_block(row.id)
            assert data is not None
            await store.add_decisions(row.start_s, row.end_s, row.cycles, data, row.end_s)
        reader = StoreReader.open(path)
        assert replay(reader, *ALWAYS) == replay(memory[0], *ALWAYS)
        assert reader.verify_audit().intact
        assert reader.verify_decisions().blocks == 4
        reader.close()
        await store.close()

    asyncio.run(copied())


def test_a_site_on_a_real_file_is_replayed_by_the_command(tmp_path: Path) -> None:
    """The site's own loop decides, threads pack and write: then the command compares."""
    path = tmp_path / "site.db"

    async def recorded() -> None:
        store = SqliteStore.open(path, START_S)
        kept = DecisionLog(store, _Still(), block_cycles=25)
        here = world(6)
        rules = settings(here)
        state, fleet = control.fresh(rules), _fleet(6)
        for k in range(90):
            at_s = START_S + 0.5 * k
            seen = Snapshot(
                mono_s=100.0 + 0.5 * k, now_s=at_s, fleet=structs.replace(fleet, soc=fleet.soc + k * 1e-5),
                meter=MeterSample(100.0 + 0.5 * k, 150.0 + 10.0 * math.sin(k)),
            )  # fmt: skip
            after, decision = control.step(state, seen, rules)
            kept.cycle(state, rules, seen, decision, after)
            state = after
        await kept.close()
        assert (kept.blocks, kept.waiting) == (4, 0)
        await store.close()

    asyncio.run(recorded())
    period = ["--from", "2026-03-02T10:00:00Z", "--to", "2026-03-02T11:01:00+01:00", "--store", str(path)]
    told = CliRunner().invoke(app, ["replay", *period])
    assert told.exit_code == 0, told.output
    assert "90 cycles in 4 blocks, 90 decided as stored, 0 otherwise." in told.output
    assert CliRunner().invoke(app, ["audit", "verify", "--store", str(path)]).exit_code == 0


def _fleet(size: int) -> FleetSample:
    def full(value: float) -> Any:
        return np.full(size, value)

    return FleetSample(
        connected=np.ones(size, dtype=np.bool_), fault=np.zeros(size, dtype=np.bool_),
        may_discharge=np.ones(size, dtype=np.bool_), age_s=full(0.3), power_kw=full(0.0), soc=full(0.6),
        capacity_kwh=full(60.0), need_soc=full(0.8), need_kwh=full(math.nan), minimum_soc=full(math.nan),
        left_s=full(7_200.0), charge_limit_kw=full(11.0), discharge_limit_kw=full(11.0), temperature_c=full(math.nan),
            register_kwh=full(math.nan),
    )  # fmt: skip


class _Still:
    """A clock that stands at the end of the recorded minute."""

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return START_S + 60.0

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(0)

    async def sleep_until(self, monotonic_s: float) -> None:
        await asyncio.sleep(0)


# --- what people do, clocks, restarts -----------------------------------------------------------------------------------
def test_what_people_do_between_cycles_is_replayed_too() -> None:
    async def scenario() -> MemoryStore:
        store = MemoryStore()
        wire = WireSite(world(6), start_s=START_S + BUSY_S, store=store)
        kept = log_of(wire, block_cycles=1_000)
        wire.start()
        await wire.after(30.0)
        await wire.site.override(1, "power", 4.0, 1.0, "test")
        await wire.after(10.0)
        await wire.site.estop("test")
        await wire.after(5.0)
        await wire.site.clear_estop("test")
        await wire.site.set_limit(210.0, 20.0, "test")
        await wire.after(40.0)
        await wire.stop()
        await kept.close()
        return store

    store = on_wire(scenario)
    report = replay(store, *ALWAYS)
    assert (report.same, report.blocks) == (True, 1)
    cycles = cycles_of(store)
    assert [name for cycle in cycles for name in cycle.before].count("guard") == 2, "pressed and cleared"
    assert {Reason.MANUAL, Reason.ESTOP} <= {Reason(int(item)) for cycle in cycles for item in cycle.reason}
    assert len(report.settings_sha256) >= 3, "as begun, with the override, with the limit"


def test_a_restart_in_between_is_told_and_both_sides_are_replayed() -> None:
    store = MemoryStore()
    on_wire(lambda: logged(store, 70.0))
    on_wire(lambda: logged(store, 70.0, BUSY_S + 100.0))
    report = replay(store, *ALWAYS)
    assert (report.same, report.restarts, report.cycles) == (True, 1, 2 * 139)


def test_a_block_that_is_not_there_is_told(memory: tuple[MemoryStore, WireSite]) -> None:
    store = MemoryStore()

    async def without_the_second() -> None:
        for row in memory[0].decision_blocks(*ALWAYS):
            data = memory[0].decision_block(row.id)
            assert data is not None
            if row.id != 2:
                await store.add_decisions(row.start_s, row.end_s, row.cycles, data, row.end_s)

    run_sim(without_the_second())
    report = replay(store, *ALWAYS)
    assert (report.same, report.missing_blocks, report.blocks) == (True, 1, 3)


@pytest.mark.parametrize("step_s", [-HOUR_S, HOUR_S, -1.0], ids=["back an hour", "on an hour", "a second back"])
def test_a_step_of_the_wall_clock_is_replayed(step_s: float) -> None:
    async def scenario() -> MemoryStore:
        store = MemoryStore()
        wire = WireSite(world(6), start_s=START_S + BUSY_S, store=store)
        kept, wall = log_of(wire, block_cycles=50), wire.clock.wall
        wire.start()
        await wire.after(40.0)
        moved = {"s": step_s}
        monotonic = wall
        wire.clock.monotonic = monotonic  # type: ignore[method-assign]
        wire.clock.wall = lambda: monotonic() + moved["s"]  # type: ignore[method-assign]
        await wire.after(40.0)
        await wire.stop()
        await kept.close()
        return store

    store = on_wire(scenario)
    instants = [cycle.snapshot.now_s for cycle in cycles_of(store)]
    assert max(np.abs(np.diff(instants))) == pytest.approx(abs(step_s), abs=1.0)
    report = replay(store, *ALWAYS)
    assert report.same
    assert report.cycles == len(instants)


def test_the_hour_that_comes_twice_is_two_hours_in_utc(memory: tuple[MemoryStore, WireSite]) -> None:
    """Instants are UTC: 02:30+02:00 and 02:30+01:00 of the night of 25 October 2026 are an hour apart."""
    from gridtide.app.commands.log_reading import period

    begin_s, end_s, _ = period("2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00")
    assert end_s - begin_s == HOUR_S


# --- differences --------------------------------------------------------------------------------------------------------
def less_for_bay_2(state: State, snapshot: Snapshot, rules: Settings) -> tuple[State, Decision]:
    """A planted change of the control code: bay 2 gets a watt less than decided, from 120 s on."""
    after, decision = control.step(state, snapshot, rules)
    if snapshot.now_s < START_S + BUSY_S + 120.0:
        return after, decision
    power = decision.setpoint_kw.copy()
    power[1] -= 0.001
    return after, structs.replace(decision, setpoint_kw=power)


def test_a_change_of_the_code_shows_at_its_first_cycle(memory: tuple[MemoryStore, WireSite]) -> None:
    report = replay(memory[0], *ALWAYS, step=less_for_bay_2)
    assert not report.same
    assert report.cycles - report.equal == 240
    first = report.first_difference
    assert first is not None
    assert (first.evse, first.cycle) == ("bay-2", "2:119")
    assert first.at_s == pytest.approx(START_S + BUSY_S + 120.0, abs=1e-3)
    assert first.replayed_kw == pytest.approx(first.stored_kw - 0.001)
    assert first.inputs["soc"] == pytest.approx(0.65, abs=0.05)


def test_a_single_bit_is_a_difference(memory: tuple[MemoryStore, WireSite]) -> None:
    def one_bit(state: State, snapshot: Snapshot, rules: Settings) -> tuple[State, Decision]:
        after, decision = control.step(state, snapshot, rules)
        return after, structs.replace(
            decision, setpoint_kw=np.where(decision.setpoint_kw == 0.0, -0.0, decision.setpoint_kw)
        )

    assert not replay(memory[0], *ALWAYS, step=one_bit).same


def test_a_change_of_a_setting_shows(memory: tuple[MemoryStore, WireSite]) -> None:
    def other(stored: Settings) -> Settings:
        return structs.replace(stored, peak=structs.replace(stored.peak, limit_kw=stored.peak.limit_kw - 1.0))

    before, report = replay(memory[0], *ALWAYS), replay(memory[0], *ALWAYS, settings=other)
    assert not report.same
    assert set(report.settings_sha256).isdisjoint(before.settings_sha256)


def test_a_checkpoint_that_does_not_follow_is_told(memory: tuple[MemoryStore, WireSite]) -> None:
    store = MemoryStore()

    async def with_another_peak() -> None:
        for row in memory[0].decision_blocks(*ALWAYS):
            block = read_block(memory[0], row)
            if row.id == 3:
                block = structs.replace(
                    block, state=structs.replace(block.state, peak=structs.replace(block.state.peak, variance=7.0))
                )
            await store.add_decisions(row.start_s, row.end_s, row.cycles, encode_block(block), row.end_s)

    run_sim(with_another_peak())
    report = replay(store, *ALWAYS)
    assert report.broken_checkpoints >= 1
    assert not report.same


def test_another_program_is_named(memory: tuple[MemoryStore, WireSite]) -> None:
    store, other = MemoryStore(), structs.replace(made_here(), code_sha256="0" * 64)

    async def by_another() -> None:
        row = memory[0].decision_blocks(*ALWAYS)[0]
        block = structs.replace(read_block(memory[0], row), made_by=other)
        await store.add_decisions(row.start_s, row.end_s, row.cycles, encode_block(block), row.end_s)

    run_sim(by_another())
    assert replay(store, *ALWAYS).other_code == (other,)


# --- tampering ----------------------------------------------------------------------------------------------------------
def copied(memory: MemoryStore, path: Path) -> None:
    async def copy() -> None:
        store = SqliteStore.open(path, START_S)
        for row in memory.decision_blocks(*ALWAYS):
            data = memory.decision_block(row.id)
            assert data is not None
            await store.add_decisions(row.start_s, row.end_s, row.cycles, data, row.end_s)
        await store.close()

    asyncio.run(copy())


TAMPERED: dict[str, tuple[str, str]] = {
    "bytes": ("UPDATE decisions SET data = zeroblob(40) WHERE id = 2", "block 2"),
    "bytes and digest": (
        "UPDATE decisions SET data = x'00', sha256 = "
        "'6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d' WHERE id = 2",
        "block 2",
    ),
    "time": ("UPDATE decisions SET end_s = end_s + 1 WHERE id = 3", "block 3"),
    "deleted": ("DELETE FROM decisions WHERE id = 1", "block 1"),
    "added": (
        "INSERT INTO decisions (start_s, end_s, cycles, sha256, data) "
        "SELECT start_s, end_s, cycles, sha256, data FROM decisions WHERE id = 1",
        "block 5",
    ),
    "audit entry": (
        "UPDATE audit SET detail_json = replace(detail_json, '\"block\":2', '\"block\":9') WHERE id = 2",
        "broken at entry 2",
    ),
    "audit entry gone": ("DELETE FROM audit WHERE id = 2", "broken at entry 2"),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_tampering_is_found(memory: tuple[MemoryStore, WireSite], tmp_path: Path, kind: str) -> None:
    import sqlite3

    path, (statement, word) = tmp_path / "site.db", TAMPERED[kind]
    copied(memory[0], path)
    assert CliRunner().invoke(app, ["audit", "verify", "--store", str(path)]).exit_code == 0
    raw = sqlite3.connect(path)
    raw.execute(statement)
    raw.commit()
    raw.close()
    told = CliRunner().invoke(app, ["audit", "verify", "--store", str(path)])
    assert told.exit_code == 1
    assert word in told.output
    as_json = CliRunner().invoke(app, ["audit", "verify", "--store", str(path), "--json"])
    assert '"intact": false' in as_json.output


def test_a_block_whose_bytes_changed_is_not_replayed(memory: tuple[MemoryStore, WireSite], tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "site.db"
    copied(memory[0], path)
    raw = sqlite3.connect(path)
    raw.execute("UPDATE decisions SET data = zeroblob(40) WHERE id = 2")
    raw.commit()
    raw.close()
    period = ["--from", "2026-03-02T10:00:00Z", "--to", "2026-03-02T12:00:00Z", "--store", str(path)]
    told = CliRunner().invoke(app, ["replay", *period])
    assert told.exit_code == 2
    assert "block 2 is not what was stored" in told.output


def test_what_grew_old_is_no_tampering(memory: tuple[MemoryStore, WireSite]) -> None:
    store = MemoryStore()

    async def aged() -> None:
        for row in memory[0].decision_blocks(*ALWAYS):
            data = memory[0].decision_block(row.id)
            assert data is not None
            await store.add_decisions(row.start_s, row.end_s, row.cycles, data, row.end_s)
        first, second, _, last = store.decision_blocks(*ALWAYS)
        assert await store.forget_decisions(second.start_s, 10**9, START_S + 1e6) == 1
        assert [row.id for row in store.decision_blocks(*ALWAYS)] == [2, 3, 4]
        assert await store.forget_decisions(first.start_s, last.size_bytes, START_S + 1e6) == 2
        assert await store.forget_decisions(first.start_s, last.size_bytes, START_S + 1e6) == 0

    run_sim(aged())
    assert [row.id for row in store.decision_blocks(*ALWAYS)] == [4]
    assert store.verify_decisions().intact
    assert store.verify_audit().intact
    assert [entry.action for entry in store.acts()] == ["decisions.forget", "decisions.forget"]


# --- why, and from what -------------------------------------------------------------------------------------------------
def test_each_change_of_a_setpoint_has_a_reason_and_inputs_that_are_there(memory: tuple[MemoryStore, WireSite]) -> None:
    store, wire = memory
    found = list(changes(store, *ALWAYS, local))
    setpoints = np.array([setpoint for _, setpoint in wire.trace.setpoints])
    assert len(found) == (np.diff(setpoints, axis=0) != 0.0).sum() > 50
    blocks = {row.id: read_block(store, row) for row in store.decision_blocks(*ALWAYS)}
    for change in found:
        number, index = (int(part) for part in change.cycle.split(":"))
        snapshot = blocks[number].cycles[index].snapshot
        assert change.reason in Reason.__members__
        assert change.words
        meter, station, _ = change.inputs
        assert snapshot.meter is not None
        assert meter == f"meter@{snapshot.meter.at_s!r}"
        row = wire.here.table.ids.index(change.evse)
        assert float(station.partition("@")[2]) == snapshot.mono_s - snapshot.fleet.age_s[row]


def test_a_past_moment_is_told_as_it_was(memory: tuple[MemoryStore, WireSite]) -> None:
    store, wire = memory
    at_s = START_S + BUSY_S + 200.2
    found = past(store, "bay-3", at_s, local)
    assert found is not None
    when, setpoint = next(item for item in reversed(wire.trace.setpoints) if item[0] <= at_s)
    assert (found.at_s, found.setpoint_kw) == (when, setpoint[2])
    assert found.words.startswith({"SHAVING": "Gives to hold the limit"}.get(found.reason, ""))
    assert past(store, "bay-3", START_S - 500.0, local) is None
    with pytest.raises(KeyError):
        past(store, "bay-99", at_s, local)


def test_explain_at_tells_a_past_moment(memory: tuple[MemoryStore, WireSite], tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    copied(memory[0], path)
    told = CliRunner().invoke(app, ["explain", "bay-3", "--at", "2026-03-02T11:18:20+01:00", "--store", str(path)])
    assert told.exit_code == 0, told.output
    assert "bay-3 at 2026-03-02T11:18:19.500+01:00" in told.output
    assert "Inputs: meter@" in told.output
    for wish, word in (
        (["explain", "bay-3", "--at", "2026-03-02T11:18:20"], "offset"),
        (["explain", "bay-3", "--at", "2027-03-02T11:18:20Z"], "no decision"),
        (["explain", "bay-77", "--at", "2026-03-02T10:18:20Z"], "none of that name"),
        (["replay", "--from", "2026-03-02T10:18:20Z", "--to", "2026-03-02T10:18:20Z"], "before --to"),
        (["replay", "--from", "2027-03-02T10:18:20Z", "--to", "2028-03-02T10:18:20Z"], "no cycle"),
    ):
        told = CliRunner().invoke(app, [*wish, "--store", str(path)])
        assert told.exit_code == 2
        assert word in told.output


# --- the log itself -----------------------------------------------------------------------------------------------------
def test_a_store_that_fails_delays_the_log_and_only_so_many_blocks_wait() -> None:
    async def scenario(fails: dict[str, bool]) -> tuple[MemoryStore, DecisionLog, list[str]]:
        store, told = MemoryStore(lambda _: fails["now"]), list[str]()
        wire = WireSite(world(2), start_s=START_S + BUSY_S, store=store)
        kept = log_of(wire, block_cycles=4, on_loss=told.append)
        wire.start()
        await wire.after(8.0)
        fails["now"] = True
        await wire.after(4.0 * MOST_WAITING)
        assert kept.waiting == MOST_WAITING
        fails["now"] = False
        await wire.after(20.0)
        await wire.stop()
        await kept.close()
        return store, kept, told

    store, kept, told = on_wire(lambda: scenario({"now": False}))
    report = replay(store, *ALWAYS)
    assert kept.waiting == 0
    assert kept.lost_blocks == len(told) == report.missing_blocks > 0
    assert report.same


def test_a_log_that_breaks_stops_no_site() -> None:
    async def scenario() -> int:
        wire = WireSite(world(2), start_s=START_S)

        def broken(*_: object) -> None:
            raise RuntimeError("rehearsed")

        wire.site.watchers.append(broken)
        wire.start()
        await wire.after(5.0)
        await wire.stop()
        assert broken not in wire.site.watchers
        return wire.site.cycles

    assert on_wire(scenario) >= 9


def test_every_field_of_a_snapshot_is_kept() -> None:
    assert set(FLAGS) | set(NUMBERS) == set(FleetSample.__struct_fields__)
    assert set(SCALARS) <= set(Snapshot.__struct_fields__)


ODD = (math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, 1.7976931348623157e308, 1 / 3)


def test_odd_numbers_come_back_as_they_were() -> None:
    here = world(8)
    rules = settings(here)
    state = control.fresh(rules)
    values = np.array(ODD)
    cycles = []
    for k in range(6):
        odd = np.roll(values, k)
        fleet = structs.replace(_fleet(8), **dict.fromkeys(NUMBERS, odd + 0.0 * k))
        meter = [None, MeterSample(1.0, math.nan, Quality.INVALID), MeterSample(2.0, -1 / 3, Quality.LOST, 7.0)][k % 3]
        seen = Snapshot(
            mono_s=10.0 + k / 3, now_s=START_S + k / 7, meter=meter, fleet=fleet, estop=k == 2, meter_error_rate=k / 9,
            load_shed_kw=None if k % 2 else k / 3, grid=None if k < 3 else GridSample(1 / 3, 49.9, (230.1, math.nan)),
        )  # fmt: skip
        cycles.append(
            Cycle(snapshot=seen, setpoint_kw=odd, reason=np.full(8, k, dtype=np.uint8), state="ok", events=("a",) * k)
        )
    block = Block(
        run="r", number=0, continues=False, made_by=made_here(), settings=rules, state=state, cycles=tuple(cycles)
    )
    again = decode_block(encode_block(block))
    assert exact(again) == exact(block)
    assert exact(as_was(exact(state), State)) == exact(state)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.floats(width=64)),
    st.sampled_from([0.0, 1.0, -1.0]),
    st.booleans(),
)
def test_any_column_comes_back_bit_for_bit(values: Any, moves: float, rounded: bool) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.round(values, 3) if rounded else values
    rows, size = values.shape
    clock_s = moves * (1e5 + 0.5 * np.arange(rows))
    assert _unpack(_pack(values, clock_s), rows, size, clock_s).tobytes() == values.tobytes()


def test_powers_in_whole_watts_are_kept_as_such() -> None:
    """What is not known does not spoil the column; a number of more digits and a negative zero do."""
    watts = np.array([[7.125, math.nan, math.inf], [7.124, -0.001, -math.inf]])
    packed = {True: b"\1", False: b"\0"}
    for values, whole in ((watts, True), (watts + 1e-4, False), (np.full((2, 3), -0.0), False)):
        assert _pack(values, np.zeros(2))[:1] == packed[whole]


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_rubbish_is_no_block(memory: tuple[MemoryStore, WireSite], cut: int) -> None:
    data = memory[0].decision_block(1)
    assert data is not None
    for rubbish in (data[:cut], data[:cut] + b"x" + data[cut:], data + b"x"):
        with pytest.raises(DecisionLogError):
            decode_block(rubbish)


def test_a_minute_of_a_hundred_is_small() -> None:
    """Noise of a real meter included: under 64 kB a minute."""
    size, rng = 100, np.random.default_rng(1)
    here = world(size, arrivals=[])
    rules, cycles, state = settings(here), [], control.fresh(settings(here))
    begin, fleet = state, _fleet(size)
    for k in range(120):
        if k % 2 == 0:
            fleet = structs.replace(fleet, power_kw=np.round(rng.normal(7.0, 0.05, size), 3), soc=fleet.soc + 1e-4)
        mono_s = 1e5 + 0.5 * k + 1e-4 * rng.random()
        seen = Snapshot(
            mono_s=mono_s, now_s=START_S + mono_s, meter=MeterSample(mono_s, 150.0 + rng.normal()),
            fleet=structs.replace(fleet, age_s=mono_s - (1e5 + (k // 2) - np.linspace(0.1, 0.9, size))),
        )  # fmt: skip
        state, decision = control.step(state, seen, rules)
        cycles.append(
            Cycle(snapshot=seen, setpoint_kw=decision.setpoint_kw, reason=decision.reason, state=decision.state)
        )
    block = Block(
        run="r", number=0, continues=False, made_by=made_here(), settings=rules, state=begin, cycles=tuple(cycles)
    )
    data = encode_block(block)
    assert len(data) < 64_000
    assert all(exact(item.decision.setpoint_kw) == exact(item.cycle.setpoint_kw) for item in _again(data))


def _again(data: bytes) -> list[Replayed]:
    return list(decide_again(decode_block(data), 1))
