"""Foresight at run time: what the site has seen, the plan in force, and when a new one is due.

The same object serves a live site and a study. `note` is told every cycle and is cheap; `question` takes down what is known,
`answer` does the work (in a worker thread on a live site), `accept` puts the plan in force and `advice` reads it. Load, stays and
peaks are learned from what the site itself sees.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date

import numpy as np
from msgspec import Struct, structs

from gridtide.control import demand_clock, site
from gridtide.control.guidance import Guidance
from gridtide.market.sums import ratchet_kw
from gridtide.market.tariff import Tariff, billing_period, local_time
from gridtide.model.decision import Decision, Snapshot
from gridtide.model.fleet import FleetSample, Floats
from gridtide.plan import foresight, store
from gridtide.plan.expected import ExpectSettings, added, by_hour, history, still_to_come
from gridtide.plan.forecast import Forecast, LoadSettings, fit, predict, update
from gridtide.plan.forecast_calendar import DAY_S, Calendar
from gridtide.plan.forecast_departures import VisitSettings, add_visits, no_visits, one_visit
from gridtide.plan.forecast_drift import DriftFinding
from gridtide.plan.forecast_visits import Visit
from gridtide.plan.foresight import Aims, ForesightSettings, Here, Known, Problem
from gridtide.plan.month import DayFacts, DayPeak, day_peak, later_peaks
from gridtide.plan.optimise import Plan, Planner
from gridtide.plan.optimise import Settings as PlanSettings
from gridtide.plan.registers import Peaks, Rates, Register, midnight_s, next_midnight_s, noted, rates
from gridtide.plan.stays import Stay

KEPT_DAYS = 60
"""Past days that the month-ahead target is drawn from."""
_SLOT_S = 900
_OVER = 1.001
REPLAN_S = 3600.0
UNKNOWN_S = 60.0
"""Pause while nothing is known of the load."""
_SAME = np.array([[0.1], [0.005], [0.5], [60.0]])
"""Changes of capacity (kWh), needed charge, energy to be delivered (kWh) and departure (s) that are none."""
_UNTOLD = -1e12
"""Stands for what nobody told."""
_EARLY = 0.25
"""Quantile of the departure that is planned for where nobody told one."""


class Past(Struct, frozen=True, eq=False, kw_only=True):
    """What was recorded before: load as means of quarter hours, stays that ended, and the peaks of earlier billing periods."""

    load_starts_s: Floats
    load_kw: Floats
    stays: tuple[Stay, ...] = ()
    stays_since_s: float = np.inf
    """From when on stays were recorded, UTC epoch s; inf: never."""
    peaks_kw: tuple[float, ...] = ()


NOTHING = Past(load_starts_s=np.zeros(0), load_kw=np.zeros(0))


class Ahead(Struct, frozen=True, eq=False):
    """What is expected from an instant on."""

    slot_s: float
    """Quarter hour in which the load was forecast, hour in which the rest was; UTC epoch s."""
    hour_s: float
    load: Forecast
    coming: list[Stay]
    """By hour of arrival."""


class Question(Struct, frozen=True, eq=False):
    """What a plan is asked; answering it needs nothing else, so that another thread may."""

    known: Known
    """Without the month's later peaks, which need the days."""
    days: tuple[DayPeak, ...]
    unlearned: tuple[DayFacts, ...]
    """Days that are over and not yet looked at with hindsight."""


class Answer(Struct, frozen=True, eq=False):
    """A plan, and the days learned on the way."""

    asked: Problem
    plan: Plan
    known: Known
    days: tuple[DayPeak, ...]
    learned: int


def make_ready(rows: int) -> None:
    """Compile what plans of a large fleet need, where numba is installed; takes seconds: never on an event loop."""
    if rows >= PlanSettings().exact_below // 2:  # vehicles still to come count, too
        store.warm_up()


class Planning:
    """What a site has seen, and its plan."""

    def __init__(
        self,
        tariff: Tariff,
        settings: site.Settings,
        past: Past,
        look: ForesightSettings | None = None,
        timer: Callable[[], float] | None = None,
    ) -> None:
        self._tariff, self._settings = tariff, settings
        self._look = look or ForesightSettings()
        self._here = Here(
            table=settings.table, limits=settings.limits, need=settings.need, interval=settings.interval, tariff=tariff
        )
        self._calendar = Calendar(timezone=tariff.timezone, holidays=_holidays(tariff))
        self._expect = ExpectSettings(calendar=self._calendar)
        self._planner = Planner(timer=timer)
        generates = settings.meter.generation_kw > 0.0 or settings.limits.export_kw > 0.0
        learn = LoadSettings(calendar=self._calendar, lowest_kw=-np.inf if generates else 0.0)
        self._load = fit(learn, past.load_starts_s, past.load_kw)
        self._own_kw = settings.peak.limit_kw
        self._slot_s, self._slot_kws, self._slot_seconds = -np.inf, 0.0, 0.0
        self._at_s = -np.inf
        self._slots: list[tuple[float, float]] = list(
            zip(past.load_starts_s[-2 * 96 :].tolist(), past.load_kw[-2 * 96 :].tolist(), strict=True)
        )
        self._recent: list[Stay] = []
        self._history = history(past.stays, past.stays_since_s, self._expect)
        self._open: dict[int, Stay] = {}
        self._asked = np.full((4, settings.table.size), _UNTOLD)
        self._bays = ~settings.table.storage
        self._there = np.zeros(settings.table.size, dtype=np.bool_)
        self._visits = add_visits(no_visits(VisitSettings(calendar=self._calendar)), map(_visit, past.stays))
        self._peaks, self._earlier_kw, self._period_s = Peaks(), list(past.peaks_kw), -np.inf
        self._days: tuple[DayPeak, ...] = ()
        self._unlearned = self._past_days(past)
        self._later: tuple[tuple[DayPeak, ...], float, dict[Register, list[float]]] | None = None
        self._day_s = -np.inf
        self._priced: Rates | None = None
        self._expected: Ahead | None = None
        self._aims: tuple[Answer, Aims] | None = None
        self._due = True
        self._planned_s = -np.inf
        self.in_force: Answer | None = None
        self.plans = 0

    # What is seen

    def note(self, snapshot: Snapshot, decision: Decision) -> None:
        """One cycle: the load without vehicles, who came and went, and the intervals that ended."""
        now_s = snapshot.now_s
        self._note_load(now_s, decision)
        self._note_stays(now_s, snapshot.fleet)
        self._note_peaks(snapshot, decision)
        self._at_s = now_s

    def ask_for(self, limit_kw: float) -> None:
        """The limit that people set, kW: another one is a reason to plan anew."""
        self._due |= limit_kw != self._own_kw
        self._own_kw = limit_kw

    def recall(self, starts_s: Floats, load_kw: Floats) -> None:
        """Load of before, kW, means of quarter hours that begin at `starts_s` (UTC epoch s), oldest first and before all others."""
        self._load = update(self._load, starts_s, load_kw)

    def _note_load(self, now_s: float, decision: Decision) -> None:
        span_s = now_s - self._at_s
        middle_s = now_s - 0.5 * span_s if 0.0 < span_s <= _SLOT_S else now_s
        slot_s = math.floor(middle_s / _SLOT_S) * _SLOT_S
        if slot_s != self._slot_s:
            self._close_slot()
            self._slot_s, self._slot_kws, self._slot_seconds = slot_s, 0.0, 0.0
        if decision.state == "ok" and 0.0 < span_s <= _SLOT_S and math.isfinite(decision.uncontrolled_kw):
            self._slot_kws += decision.uncontrolled_kw * span_s
            self._slot_seconds += span_s

    def _close_slot(self) -> None:
        """A quarter hour that was seen for at least half is learned; at a day's end so is the day."""
        if self._slot_seconds >= 0.5 * _SLOT_S:
            mean_kw = self._slot_kws / self._slot_seconds
            self._load = update(self._load, np.array([self._slot_s]), np.array([mean_kw]))
            self._slots.append((self._slot_s, mean_kw))
        if not np.isfinite(self._slot_s):
            return
        day_s = midnight_s(self._tariff, self._slot_s + _SLOT_S)
        if self._day_s < day_s and np.isfinite(self._day_s):
            self._learn_day(self._day_s, day_s)
            self._slots = [item for item in self._slots if item[0] >= day_s - DAY_S]
            self._recent = [stay for stay in self._recent if stay.departs_s > day_s]
        self._day_s = day_s

    def _note_stays(self, now_s: float, fleet: FleetSample) -> None:
        if self._history.since_s == np.inf:
            self._history = structs.replace(self._history, since_s=now_s)
        asked = np.array([fleet.capacity_kwh, fleet.need_soc, fleet.need_kwh, now_s + fleet.left_s])
        asked = np.where(np.isfinite(asked), asked, _UNTOLD)
        there = fleet.connected & self._bays
        # Another battery in a bay is another vehicle; another need or departure is another wish of the same driver.
        changed = np.abs(asked - self._asked) > _SAME
        if not np.count_nonzero(changed) and not np.count_nonzero(there != self._there):
            self._asked = asked
            return
        other = changed[0] & (self._asked[0] != _UNTOLD) & (asked[0] != _UNTOLD)
        left = self._there & (~there | other)
        came = there & (~self._there | other)
        for row in np.flatnonzero(left).tolist():
            self._ended(structs.replace(self._open.pop(row), departs_s=now_s))
        for row in np.flatnonzero(came).tolist():
            self._open[row] = self._described(row, now_s, now_s, fleet)
        for row in [row for row, stay in self._open.items() if not stay.capacity_kwh]:
            self._open[row] = self._described(row, self._open[row].arrived_s, now_s, fleet)
        self._due |= bool(left.any() or came.any() or (there & changed.any(axis=0)).any())
        self._asked, self._there = asked, there

    def _ended(self, stay: Stay) -> None:
        if stay.departs_s > stay.arrived_s:
            self._recent.append(stay)
            self._history = added(self._history, [stay], self._expect)
            self._visits = add_visits(self._visits, [_visit(stay)])

    def _described(self, row: int, arrived_s: float, now_s: float, fleet: FleetSample) -> Stay:
        """What is known of a vehicle that came, as history keeps it."""
        stay = foresight.stays_of(self._here, fleet, [row], now_s)[0]
        return structs.replace(stay, arrived_s=arrived_s, departs_s=np.inf)

    def _note_peaks(self, snapshot: Snapshot, decision: Decision) -> None:
        if snapshot.period_start_s > self._period_s:
            if np.isfinite(self._period_s):
                self._earlier_kw.append(max(self._peaks.reached_kw.values(), default=0.0))
            self._period_s = snapshot.period_start_s
            month = local_time(self._tariff, self._period_s + DAY_S).month
            self._peaks = Peaks(floor_kw=ratchet_kw(self._tariff, month, self._earlier_kw))
        length_s = self._settings.interval.length_s
        for end_s, mean_kw in decision.closed:
            if end_s - length_s >= self._period_s - 1.0:
                self._due |= mean_kw > self._target_kw(end_s - length_s) * _OVER
                self._peaks = noted(self._tariff, self._peaks, end_s - length_s, mean_kw)

    def _target_kw(self, start_s: float) -> float:
        """The peak that the plan in force held for an interval from `start_s`; inf without one. Beyond it a new plan is due."""
        held = self.in_force
        found = None if held is None else self._aims_at(max(start_s, float(held.asked.starts_s[0])))
        return math.inf if found is None else found.limit_kw

    @property
    def drift(self) -> DriftFinding | None:
        """That the load forecast is given up for now, None if it is not."""
        return self._load.finding

    # Days that are over

    def _past_days(self, past: Past) -> tuple[DayFacts, ...]:
        """The recorded days whose stays were recorded too."""
        if not past.load_starts_s.size or not np.isfinite(past.stays_since_s):
            return ()
        day_of = np.array([midnight_s(self._tariff, at_s) for at_s in past.load_starts_s[::4].tolist()])
        days = np.unique(day_of[day_of >= past.stays_since_s])[-KEPT_DAYS:]
        found = []
        for day_s in days.tolist():
            inside = (past.load_starts_s >= day_s) & (past.load_starts_s < next_midnight_s(self._tariff, day_s))
            if inside.sum() >= 90:
                found.append(self._day(past.load_starts_s[inside], past.load_kw[inside], past.stays))
        return tuple(found)

    def _learn_day(self, start_s: float, end_s: float) -> None:
        slots = [item for item in self._slots if start_s <= item[0] < end_s]
        if len(slots) < 90:
            return
        starts, load = (np.array(column) for column in zip(*slots, strict=True))
        going_on = [structs.replace(stay, departs_s=end_s + DAY_S) for stay in self._open.values()]
        self._unlearned = (*self._unlearned, self._day(starts, load, [*self._recent, *going_on]))

    def _day(self, starts_s: Floats, load_kw: Floats, stays: Sequence[Stay]) -> DayFacts:
        limits, begin_s = self._settings.limits, midnight_s(self._tariff, float(starts_s[0]))
        end_s = next_midnight_s(self._tariff, begin_s)
        at = rates(self._tariff, begin_s, float(_SLOT_S), round((end_s - begin_s) / _SLOT_S))
        return DayFacts(
            rates=at, load_kw=np.interp(at.starts_s, starts_s, load_kw),
            stays=[stay for stay in stays if stay.departs_s > begin_s and stay.arrived_s < end_s],
            import_cap_kw=limits.transformer_kw, floor_kw=foresight.least_import_kw(limits),
            wear_price_per_kwh=self._look.wear_per_kwh,
        )  # fmt: skip

    # Plans

    def due(self, now_s: float) -> bool:
        """Whether somebody came or left since the last plan, or it is an hour old."""
        return self._due or now_s - self._planned_s >= REPLAN_S

    def question(self, snapshot: Snapshot, state: site.State) -> Question | None:
        """What to plan now; None while nothing is known of the load: asked again a minute later. Else the next one is due an hour
        later, or as vehicles move."""
        self._due, self._planned_s = False, snapshot.now_s
        self._recall_peak(snapshot, state)
        known = self._known(snapshot, state)
        if known is None:
            self._planned_s -= REPLAN_S - UNKNOWN_S
            return None
        return Question(known, self._days, self._unlearned)

    def _recall_peak(self, snapshot: Snapshot, state: site.State) -> None:
        """After a restart the demand clock still knows the period's peak; where several registers share the month it cannot say
        whose it was."""
        clock, registers = state.demand, self._rates(snapshot.now_s).counts
        known = not self._peaks.reached_kw and clock.peak_kw > 0.0 and len(registers) == 1
        if known and registers[0].register[1] == 0 and abs(clock.period_start_s - snapshot.period_start_s) < 1.0:
            self._peaks = Peaks({registers[0].register: clock.peak_kw}, self._peaks.floor_kw)

    def learned(self, question: Question) -> tuple[DayPeak, ...]:
        """The days of a question that are over, looked at with hindsight."""
        return tuple(day_peak(facts, self._calendar) for facts in question.unlearned)

    def answer(self, question: Question) -> Answer:
        """The plan. Touches nothing but the planner's own memory: one thread at a time may run it beside everything else.

        Raises `HorizonError` for a problem that is none, `ArithmeticError` where the solver fails.
        """
        learned = self.learned(question)
        days = (*question.days, *learned)[-KEPT_DAYS:] if learned else question.days
        known = structs.replace(question.known, later_kw=self._later_kw(days, question.known.now_s))
        asked = foresight.problem(known, self._look)
        return Answer(asked, self._planner.plan(asked.horizon, asked.vehicles), known, days, len(learned))

    def _later_kw(self, days: tuple[DayPeak, ...], now_s: float) -> dict[Register, list[float]]:
        """What the rest of the billing period reaches anyway; made anew each day."""
        tomorrow_s, end_s = next_midnight_s(self._tariff, now_s), billing_period(self._tariff, now_s)[1]
        known = self._later
        if known is None or known[0] is not days or known[1] != tomorrow_s:
            known = days, tomorrow_s, later_peaks(days, self._tariff, tomorrow_s, end_s, self._calendar)
            self._later = known
        return known[2]

    def accept(self, answer: Answer) -> None:
        """The plan is in force."""
        self._days, self._unlearned = answer.days, self._unlearned[answer.learned :]
        self.in_force, self.plans = answer, self.plans + 1

    def advise(self, snapshot: Snapshot, state: site.State) -> Guidance | None:
        """Plan if it is due, and what the fast controller is told: for where there is time to wait for a plan."""
        if self.due(snapshot.now_s):
            question = self.question(snapshot, state)
            if question is not None:
                self.accept(self.answer(question))
        return self.advice(snapshot.now_s, snapshot.mono_s)

    def advice(self, now_s: float, mono_s: float) -> Guidance | None:
        """What the fast controller is told now."""
        return foresight.guidance(self._aims_at(now_s), now_s, mono_s)

    def _aims_at(self, now_s: float) -> Aims | None:
        """Read once for each step of a plan."""
        held = self.in_force
        if held is None:
            return None
        kept, until_s = self._aims, held.asked.starts_s
        if kept is None or kept[0] is not held or not until_s[kept[1].step] <= now_s < kept[1].ends_s:
            found = foresight.aims(held.asked, held.plan, held.known, now_s, self._settings.limits.transformer_kw)
            if found is None:
                return None
            self._aims = kept = held, found
        return kept[1]

    def _known(self, snapshot: Snapshot, state: site.State) -> Known | None:
        ahead = self._ahead(snapshot.now_s)
        if ahead is None:
            return None
        interval, clock = self._settings.interval, state.demand
        begun_s = interval.sub_start_s(snapshot.now_s)
        begun_kws = 0.0
        if abs(clock.sub_start_s - begun_s) < 1e-6:
            since_s = max(snapshot.now_s - clock.at_s, 0.0)
            begun_kws = demand_clock.window_energy_kws(clock, interval) + max(clock.power_kw, 0.0) * since_s
        return Known(
            here=self._here, now_s=snapshot.now_s, fleet=self._with_departures(snapshot.now_s, snapshot.fleet),
            rates=self._rates(snapshot.now_s), begun_kwh=begun_kws / 3600.0,
            peaks=self._peaks, later_kw={}, load=ahead.load,
            expected=still_to_come(ahead.coming, snapshot.now_s), own_limit_kw=self._own_kw,
        )  # fmt: skip

    def _rates(self, now_s: float) -> Rates:
        """The tariff from the last local midnight to beyond the plan's reach; asked once a day."""
        slot_s = self._settings.interval.sub_s
        day_s = self._settings.interval.sub_start_s(midnight_s(self._tariff, now_s) + 1e-6)
        if self._priced is None or self._priced.starts_s[0] != day_s:
            count = int(np.ceil((26.0 * 3600.0 + self._look.reach_h * 3600.0) / slot_s))
            self._priced = rates(self._tariff, day_s, slot_s, count)
        return self._priced

    def _with_departures(self, now_s: float, fleet: FleetSample) -> FleetSample:
        """Departures nobody told, from stays that began alike: rather too early than too late."""
        unknown = np.flatnonzero(fleet.connected & ~np.isfinite(fleet.left_s) & ~self._settings.table.storage)
        left = fleet.left_s.copy()
        for row in unknown.tolist():
            arrived_s = self._open[row].arrived_s if row in self._open else now_s
            guess = one_visit(self._visits, arrived_s, now_s, (_EARLY,))
            if guess is not None:
                left[row] = float(guess.departs_s[0]) - now_s
        return structs.replace(fleet, left_s=left) if unknown.size else fleet

    def _ahead(self, now_s: float) -> Ahead | None:
        """What is expected: the load made anew each quarter hour, the vehicles to come each hour."""
        last, reach_s = self._expected, (self._look.reach_h + 1.0) * 3600.0
        slot_s, hour_s = (float(np.floor(now_s / span) * span) for span in (_SLOT_S, 3600.0))
        if last is not None and last.slot_s == slot_s:
            return last
        load = predict(self._load, now_s, reach_s)
        if load is None:
            return None
        if last is not None and last.hour_s == hour_s:
            self._expected = structs.replace(last, slot_s=slot_s, load=load)
            return self._expected
        coming = by_hour(self._history, now_s, now_s + reach_s, self._expect)
        self._expected = Ahead(slot_s, hour_s, load, coming)
        return self._expected


def _holidays(tariff: Tariff) -> frozenset[date]:
    """The tariff's holidays as dates; those of every year for the years a site may live."""
    found = set()
    for item in tariff.holidays:
        for year in (item.year,) if item.year else range(2000, 2100):
            with suppress(ValueError):
                found.add(date(year, item.month, item.day))
    return frozenset(found)


def _visit(stay: Stay) -> Visit:
    need_kwh = max(stay.required_kwh - stay.energy_kwh, 0.0) / stay.efficiency
    return Visit(stay.arrived_s, stay.departs_s, need_kwh)
