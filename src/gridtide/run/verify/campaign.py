"""Runs of one seed each: a warm-up, random faults with every invariant checked, healing; and the same site without a fault."""

import gc
import math
import random
import resource
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import numpy as np
import structlog
from msgspec import Struct, structs
from numpy.typing import NDArray

from gridtide.control.trust import TrustSettings
from gridtide.run.simloop import run_sim
from gridtide.run.verify import books
from gridtide.run.verify import case as cases
from gridtide.run.verify.fault import Safe
from gridtide.run.verify.faults import BY_ID, Fault, Planned, rests, schedule, seconds, site_of, spelt
from gridtide.run.verify.following import Following
from gridtide.run.verify.invariants import LEASE_S, NOTHING_KW, REACTION_S, Invariants, Violation
from gridtide.run.verify.rig import Rig

WARM_S: Final = 90.0
"""Stations boot, vehicles are recognised, the first plans are made."""
HEALED_S: Final = 60.0
"""After the last fault full service is back within this time (L1)."""
STEP_S: Final = 5.0
"""A station that was out of touch and is accepted again is in step after this time."""
MORE_S: Final = 1.0
"""A violation that is looked for again must be there by so much later."""
ALONE_S: Final = 70.0
"""So long after the last fault was mended nothing of it is left: a charging lease, a report, a pause."""
WELD_KW: Final = TrustSettings().weld_kw
EVSES: Final = 10
"""Stations of a site, where nobody says how many."""
QUIET_SHARE: Final = 0.25
"""So much of the time is run again without a fault (L2)."""


class Timing(Struct, frozen=True):
    """How soon a fault's safe state was reached."""

    id: str
    to_safe_s: float


class Outcome(Struct, frozen=True, kw_only=True):
    """What one run showed."""

    seed: int
    duration_s: float
    evses: int = EVSES
    faults: tuple[Planned, ...]
    violations: tuple[Violation, ...]
    timings: tuple[Timing, ...] = ()
    gave_kwh: float = 0.0
    """Energy vehicles gave: a run in which nobody gives shows little."""
    peak_ratio: float = 1.0
    """Highest interval over max(limit, the building's alone) (I12, reported)."""
    trace: str = ""
    cpu_s: float = 0.0

    @property
    def command(self) -> str:
        """How to see it again."""
        evses = "" if self.evses == EVSES else f" --evses {self.evses}"
        duration = seconds(self.duration_s)
        return f"gridtide verify --seed {self.seed} --duration {duration}{evses} --faults '{spelt(self.faults)}'"


_TOGETHER: Final[dict[Safe, Safe]] = {"all still": "nothing given", "nothing charged": "as always"}
"""What is asked beside other faults."""


class _Watch:
    """One fault under way: is its safe state reached in time, and kept?"""

    def __init__(self, planned: Planned, fault: Fault, deaf: NDArray[np.bool_]) -> None:
        """`deaf`: rows that did not hear the controller when it began."""
        self.planned, self.fault, self.deaf = planned, fault, deaf
        self.due_s = planned.at_s + fault.t_f_s
        self.unsafe_s = -math.inf
        """When ground truth was last outside the safe state, of the fault's own time."""
        self.was_excused = False
        """It was outside after that, which another fault excuses: such a time says nothing of this one."""
        self.has_tripped = False
        """The controller's grid protection did: killed before, it knows of nothing."""
        self.occupant = -1
        """The vehicle at the row when it began."""
        self.told_s = planned.at_s
        """When the controller last did not know of the end of the row's transaction."""
        self.bad_seen_s = 0.0
        """For how long the controller had seen a bad grid when it began."""
        self.transaction: str | None = None
        """What ran at the row when it began."""

    def is_over(self, rig: Rig, at_s: float) -> bool:
        """Whether it is to be mended: its time is over, or its vehicle has left."""
        has_left = self.fault.of_vehicle and rig.emulated.plant.occupant[self.planned.row] != self.occupant
        return has_left or self.planned.at_s + self.planned.lasts_s <= at_s

    def is_safe(self, rig: Rig, heard: NDArray[np.bool_], *, is_alone: bool) -> bool:
        """Whether ground truth is in the fault's safe state, at the rows that hear the controller (or do it by themselves).

        A station that other faults put out of step charges at its fallback until it is in step again: of several faults at once
        "all still" asks that nothing is given. "All stopped" asks for both at every station in touch, in step or not.
        """
        power, row = rig.power_kw, self.planned.row
        safe = self.fault.safe
        if not is_alone:
            safe = _TOGETHER.get(safe, safe)
        match safe:
            case "nothing given":
                return not bool((power[heard] < -NOTHING_KW).any())
            case "nothing charged":
                return not bool((power[heard] > NOTHING_KW).any())
            case "row excluded":
                return self._is_excluded(rig, bool(heard[row]))
            case "row gives nothing" if self.fault.by_change and self.deaf[row]:
                return True
            case "row gives nothing":
                return not power[row] < -NOTHING_KW
            case "row still":
                return not abs(power[row]) > NOTHING_KW
            case "all still" | "all stopped":
                return not bool((np.abs(power[heard]) > NOTHING_KW).any())
            case _:
                return True

    def _is_excluded(self, rig: Rig, is_heard: bool) -> bool:
        """Whether the controller counts out the welded row; later than that only where it has known of the end, and could see the
        power that flows, long enough."""
        row, at_s = self.planned.row, rig.at_s
        known = None if rig.csms is None else rig.csms.stations[rig.case.here.table.ids[row]]
        is_seen = is_heard and known is not None and row not in known.transactions
        if not is_seen or abs(rig.power_kw[row]) <= WELD_KW:
            self.told_s = at_s
        if rig.site is not None and rig.site.state.trust.open.welded[row]:
            return True
        if not rig.emulated.plant.evse.welded[row]:
            return True
        is_unseen = at_s > self.due_s and at_s - self.told_s <= self.fault.t_f_s + STEP_S
        self.was_excused |= is_unseen
        return is_unseen


class _Run:
    """One run in virtual time."""

    def __init__(self, case: cases.Case, planned: Sequence[Planned], duration_s: float) -> None:
        self.case, self.duration_s = case, duration_s
        self.planned = sorted(planned, key=lambda item: item.at_s)
        self.invariants = Invariants(case.here.table.size)
        self._following = Following(np.full(case.here.table.size, -math.inf))
        self.timings: list[Timing] = []
        self._waiting = list(self.planned)
        self._active: list[_Watch] = []
        self._mended_s = -math.inf
        self._deaf_until_s = np.full(case.here.table.size, -math.inf)
        self._apart_until_s = np.full(case.here.table.size, -math.inf)
        """Stations out of touch; the deaf may also be out of step."""
        watched = case.settings.protection.grid
        self._rules = None if watched is None else watched.profile
        self._unsaid: set[str | None] = set()
        """Transactions that began while their station used message ids twice: that the vehicle may give was taken for a repetition,
        and nothing in OCPP asks for it again."""
        self._left_until_s = -math.inf
        """The site has left its grid, and nothing flows before then."""
        self._left_alone = True
        """Beside no other fault: else only giving must wait for sure."""
        self.gave_kwh = 0.0

    async def go(self) -> str:
        """Play it; the trace's digest."""
        rig = self._rig()
        try:
            rig.start()
            await rig.pass_time(self.duration_s)
            for invariant, what in books.wrong(rig):
                self.invariants.fail(invariant, rig.at_s, what)
        finally:
            await rig.close()
            # An error that nobody looked at is told when its task is forgotten.
            gc.collect()
            self._crashes(rig)
        return rig.trace.hexdigest()

    def _rig(self) -> Rig:
        return Rig(self.case, self._tick)

    def _crashes(self, rig: Rig) -> None:
        for failure in rig.failures:
            self.invariants.fail("crash", rig.at_s, failure)
        rig.failures.clear()

    def _tick(self, rig: Rig) -> None:
        at_s = rig.at_s
        if rig.failures:
            self._crashes(rig)
        self._mend(rig, at_s)
        self._begin(rig, at_s)
        if at_s >= 1.0:
            self.invariants.look(rig)
        self._watch(rig, at_s)
        self._judge_service(rig, at_s)
        self.gave_kwh += float(-np.minimum(rig.power_kw, 0.0).sum()) / 36_000.0

    def _begin(self, rig: Rig, at_s: float) -> None:
        while self._waiting and self._waiting[0].at_s <= at_s:
            planned = self._waiting.pop(0)
            watch = _Watch(planned, BY_ID[planned.id], self._deaf_until_s >= at_s)
            if watch.fault.of_vehicle:
                watch.occupant = int(rig.emulated.plant.occupant[planned.row])
                if watch.occupant < 0:
                    continue
            watch.bad_seen_s, watch.transaction = rig.bad_seen_s, _transaction(rig, planned.row)
            watch.fault.begin(rig, planned.row, random.Random(planned.luck))
            rig.trace.record(rig.true_clock.monotonic(), "world", "begin", planned.id.encode())
            self._active.append(watch)
            for invariant in watch.fault.excuses:
                until = self.invariants.excuses.until_s
                end_s = watch.due_s if math.isfinite(watch.due_s) else planned.at_s + planned.lasts_s + 2.0
                until[invariant] = max(until.get(invariant, -math.inf), end_s)

    def _mend(self, rig: Rig, at_s: float) -> None:
        for watch in [item for item in self._active if item.is_over(rig, at_s)]:
            self._active.remove(watch)
            saw_s = rig.bad_seen_s - watch.bad_seen_s
            if (
                self._rules is not None
                and rests(watch.fault, self._rules)
                and saw_s > watch.fault.t_f_s
                and watch.has_tripped
            ):
                self._left_until_s = at_s + self._rules.enter_delay_s
                self._left_alone = not any(
                    item.at_s <= at_s and item.at_s + item.lasts_s + STEP_S > watch.planned.at_s
                    for item in self.planned if item != watch.planned
                )  # fmt: skip
            if math.isinf(watch.fault.t_f_s):  # what it hid can be seen from now on
                for hidden in self._active:
                    hidden.due_s = max(hidden.due_s, at_s + hidden.fault.t_f_s)
            watch.fault.mend(rig, watch.planned.row)
            rig.trace.record(rig.true_clock.monotonic(), "world", "mend", watch.planned.id.encode())
            self._mended_s = at_s
            if math.isfinite(watch.unsafe_s) and not watch.was_excused and watch.fault.safe != "as always":
                self.timings.append(Timing(watch.planned.id, round(watch.unsafe_s - watch.planned.at_s, 3)))

    def _watch(self, rig: Rig, at_s: float) -> None:
        """I8: bounded response; of several faults the slowest counts."""
        hearing = self._hearing(rig, at_s)
        for watch in self._active:
            if watch.fault.id == "FT11b":
                self._unsaid |= {_transaction(rig, watch.planned.row)} - {watch.transaction, None}
            watch.has_tripped |= rig.site is not None and bool(rig.site.state.protection.grid.tripped)
            concerned = self._concerned(watch, hearing, at_s)
            is_alone = len(self._active) == 1 and at_s > self._mended_s + ALONE_S
            if watch.is_safe(rig, concerned, is_alone=is_alone):
                continue
            if at_s <= watch.planned.at_s + watch.fault.t_f_s + 1e-6:
                watch.unsafe_s = at_s
            else:
                watch.was_excused = True
            if at_s > self._due_s(watch) + 0.1 + 1e-6:
                what = (
                    f"{watch.planned.id} ({watch.fault.name}) since {watch.planned.at_s} s: not '{watch.fault.safe}' but "
                    + _flows(rig, concerned)
                )
                self.invariants.fail("I8", at_s, what)

        if at_s < self._left_until_s:
            self._rest(rig, at_s, hearing)

    def _concerned(self, watch: _Watch, hearing: NDArray[np.bool_], at_s: float) -> NDArray[np.bool_]:
        """Rows at which a fault's safe state is asked for now."""
        if watch.fault.safe in ("all stopped", "row excluded"):
            return self._apart_until_s < at_s
        if at_s > watch.due_s + LEASE_S and watch.fault.safe == "nothing given":
            # Until it is due a discharge may still be renewed; then even who hears nothing stops.
            return np.ones_like(hearing)
        if not watch.fault.detaches:
            return hearing
        # It is out of touch by itself; whom another fault keeps from hearing has until the lease ends.
        concerned = ~watch.deaf
        for other in self._active:
            if other is not watch and other.fault.detaches:
                concerned[slice(None) if other.planned.row < 0 else other.planned.row] = False
        return concerned

    def _rest(self, rig: Rig, at_s: float, hearing: NDArray[np.bool_]) -> None:
        """FT24: nothing flows before the grid was good for as long as the profile says."""
        is_alone = self._left_alone and not self._active and at_s > self._mended_s + ALONE_S
        flowing = (np.abs(rig.power_kw) if is_alone else -rig.power_kw) > NOTHING_KW
        if (flowing & hearing).any():
            left_s = self._left_until_s - at_s
            self.invariants.fail("I8", at_s, f"back {left_s:.0f} s too early: {_flows(rig, flowing & hearing)}")

    def _hearing(self, rig: Rig, at_s: float) -> NDArray[np.bool_]:
        """Rows that the controller reaches now, and did for a while."""
        for watch in self._active:
            if watch.fault.detaches:
                rows = slice(None) if watch.planned.row < 0 else watch.planned.row
                self._deaf_until_s[rows] = np.maximum(self._deaf_until_s[rows], at_s + watch.fault.returns_s)
                self._apart_until_s[rows] = np.maximum(self._apart_until_s[rows], at_s + watch.fault.returns_s)
        for row, name in enumerate(self.case.here.table.ids):
            known = rig.csms.stations[name] if rig.csms is not None else None
            # A station may find the answer to its boot absurd (the year 9948): then it is not accepted by its own word. And a
            # transaction that could not be stored is nobody's yet: the station tells it again.
            if known is None or known.accepted is None or not rig.stations[row].connected:
                self._apart_until_s[row] = max(self._apart_until_s[row], at_s + STEP_S)
            elif row in known.transactions:
                continue
            self._deaf_until_s[row] = max(self._deaf_until_s[row], at_s + STEP_S)
        # A vehicle that has just been plugged in is at its station's fallback until its first setpoint.
        return (self._deaf_until_s < at_s) & ~(rig.emulated.plant.at_s - _came_s(rig) < REACTION_S)

    def _due_s(self, watch: _Watch) -> float:
        """Together with others that began meanwhile the slowest response counts."""
        row = watch.planned.row
        return max(item.due_s for item in self._active if item.planned.row in (-1, row) or row < 0)

    def _judge_service(self, rig: Rig, at_s: float) -> None:
        """L1: some time after the last fault everything works again. L2: without a fault nothing ever stops."""
        if self._active or self._waiting or at_s < max(WARM_S, self._mended_s + HEALED_S):
            return
        # Who left the grid, or could not see it for long, waits for good values first.
        if self._rules is not None and at_s < rig.good_since_s + self._rules.enter_delay_s + HEALED_S:
            return
        missing = _missing_service(rig, self._unsaid) or self._following.missing(
            rig, at_s, self.invariants, is_quiet=not self.planned
        )
        if missing:
            self.invariants.fail("L1" if self.planned else "L2", at_s, missing)


def _flows(rig: Rig, concerned: NDArray[np.bool_]) -> str:
    """What flows where, in words."""
    power = rig.power_kw
    flowing = np.flatnonzero(concerned & (np.abs(power) > NOTHING_KW))
    return ", ".join(f"{power[row]:.1f} kW at row {row}" for row in flowing) or "nothing"


def _transaction(rig: Rig, row: int) -> str | None:
    """What runs at a row, as far as the management system knows."""
    if rig.csms is None or row < 0:
        return None
    return rig.csms.stations[rig.case.here.table.ids[row]].transactions.get(row)


def _missing_service(rig: Rig, unsaid: set[str | None]) -> str:
    """What does not work, in words; of vehicles whose transaction is `unsaid` nobody knows that they may give."""
    site, csms = rig.site, rig.csms
    if site is None or csms is None or site.decision is None:
        return "no decision is made"
    if site.decision.state != "ok":
        return f"the site is {site.decision.state}"
    ids = rig.case.here.table.ids
    away = [
        ids[row] for row, station in rig.stations.items()
        if not station.connected or csms.stations[ids[row]].accepted is None
    ]  # fmt: skip
    if away:
        return f"not connected: {', '.join(away)}"
    plant = rig.emulated.plant
    standing = (plant.occupant >= 0) & plant.may_discharge & (plant.at_s - _came_s(rig) > HEALED_S)
    # A station that refused a discharge is not asked again until its next transaction.
    refused = [row for station in csms.stations.values() for row in station.refused]
    standing[refused] = False
    if unsaid:
        standing[[row for row in range(standing.size) if _transaction(rig, row) in unsaid]] = False
    barred = np.flatnonzero(standing & ~site.board.may_discharge)
    if barred.size:
        return f"may not give although it could: {', '.join([rig.case.here.table.ids[row] for row in barred])}"
    return ""


def _came_s(rig: Rig) -> np.ndarray:
    arrivals = rig.emulated.here.arrivals
    return np.array([arrivals[index].arrived_s if index >= 0 else math.inf for index in rig.emulated.plant.occupant])


def run_case(
    seed: int, duration_s: float, evses: int, planned: Sequence[Planned], until_s: float = math.inf
) -> Outcome:
    """One run of a seed with these faults, or its beginning until `until_s`. CPU seconds are this process's."""
    structlog.configure(processors=[_mute])
    began = _cpu_s()
    case = site_of(seed, duration_s, evses, planned)
    run = _Run(case, planned, min(duration_s, until_s))
    try:
        trace = run_sim(run.go(), seed=seed)
    except Exception as error:
        trace = ""
        run.invariants.violations.append(Violation(-1.0, "crash", f"{type(error).__name__}: {error}"))
    blocks = list(run.invariants.blocks_kwh.values())[1:-1]
    ratio = 1.0
    if blocks:
        alone_kw, with_kw = max(b for _, b in blocks) * 4.0, max(a for a, _ in blocks) * 4.0
        ratio = with_kw / max(case.settings.peak.limit_kw, alone_kw)
    return Outcome(
        seed=seed, duration_s=duration_s, evses=evses, faults=tuple(run.planned), violations=tuple(run.invariants.violations),
        timings=tuple(run.timings), gave_kwh=round(run.gave_kwh, 3), peak_ratio=round(ratio, 4), trace=trace,
        cpu_s=_cpu_s() - began,
    )  # fmt: skip


def run_seed(seed: int, duration_s: float, evses: int) -> tuple[Outcome, Outcome]:
    """A seed with its faults, and the beginning of it without."""
    planned = schedule(seed, evses, WARM_S, duration_s - HEALED_S - 15.0)
    return run_case(seed, duration_s, evses, planned), run_case(seed, max(QUIET_SHARE * duration_s, 300.0), evses, ())


def smallest(outcome: Outcome, evses: int, tries: int = 60) -> Outcome:
    """The same violation with as few faults as can be found by leaving out halves, quarters and at last single ones.

    What comes after the violation is left out at once, and no run is played further than it takes.
    """
    first = outcome.violations[0]
    until_s = first.at_s + MORE_S if 0.0 < first.at_s < outcome.duration_s - MORE_S else outcome.duration_s
    best = structs.replace(outcome, faults=tuple(item for item in outcome.faults if item.at_s <= until_s))
    size = max(len(best.faults) // 2, 1)
    while tries > 0 and best.faults:
        for start in range(0, len(best.faults), size):
            fewer = best.faults[:start] + best.faults[start + size :]
            shown = run_case(outcome.seed, outcome.duration_s, evses, fewer, until_s=until_s)
            tries -= 1
            if any(item.invariant == first.invariant for item in shown.violations):
                best = shown
                break
        else:
            if size == 1:
                break
            size = max(size // 2, 1)
    return best


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _mute(_log: object, _name: str, _words: object) -> "dict[str, object]":
    raise structlog.DropEvent


def campaign(seeds: Sequence[int], duration_s: float, evses: int, processes: int) -> Iterator[tuple[Outcome, Outcome]]:
    """Runs of many seeds, as they are done, on several processes."""
    if processes <= 1:
        for seed in seeds:
            yield run_seed(seed, duration_s, evses)
        return
    with ProcessPoolExecutor(processes) as pool:
        waiting = [pool.submit(run_seed, seed, duration_s, evses) for seed in seeds]
        for done in waiting:
            yield done.result()
