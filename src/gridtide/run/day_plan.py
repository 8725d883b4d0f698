"""The plan of one day, made at its midnight: the load as forecast from the days before, the day's sessions as known beforehand.

Vehicles that came the evening before and are still there are not in it: what is in their batteries depends on what was done then.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from msgspec import structs

from gridtide.control import site
from gridtide.market.tariff import Tariff, billing_period
from gridtide.model.decision import Snapshot
from gridtide.model.plan_view import PlanView
from gridtide.plan.month import DayPeak
from gridtide.plan.registers import Peaks, Register
from gridtide.plan.stays import Stay
from gridtide.run.plan_view import plan_view
from gridtide.run.planning import Answer, Planning
from gridtide.run.study import StudyInputs
from gridtide.twin import plant as twin
from gridtide.twin.arrivals import Arrival


def day_plan(
    inputs: StudyInputs,
    asked_kwh: Mapping[str, float],
    clock: Callable[[float], str],
    timer: Callable[[], float] | None = None,
) -> PlanView:
    """The plan from the study's start to its end, in steps of the billed (sub-)interval.

    `asked_kwh`: AC energy that each session is to get, by its id; without an entry what a study would give it, which is never more
    than full power over the stay. `clock` writes an instant, `timer` tells CPU seconds. The peak reached so far is what the
    billing period's days before could have been lived with. Raises `ValueError` where no load before the day is known.
    """
    slots = round((inputs.end_s - inputs.start_s) / inputs.settings.interval.sub_s)
    # Who comes and goes is known here: no time is kept in hand.
    look = structs.replace(inputs.look, reach_h=(inputs.end_s - inputs.start_s) / 3600.0, fine_steps=slots, kept_h=0.0)
    planning = Planning(inputs.tariff, inputs.settings, inputs.past, look, timer)
    question = planning.question(_midnight(inputs), site.fresh(inputs.settings))
    if question is None:
        raise ValueError(
            "no load before the day is known: choose a later day, give a load file that begins earlier, or raise "
            "planner.history_days"
        )
    days = planning.learned(question)
    stays = [_stay(inputs, number, item, asked_kwh) for number, item in enumerate(inputs.world.arrivals)]
    known = structs.replace(question.known, expected=stays, peaks=_reached(inputs.tariff, days, inputs.start_s))
    answer = planning.answer(structs.replace(question, known=known, days=days, unlearned=()))
    view = plan_view(answer, inputs.world.table.ids, inputs.start_s, clock)
    return _named(view, answer, inputs)


def _midnight(inputs: StudyInputs) -> Snapshot:
    """What the site sees as the day begins: empty bays, and the stationary battery."""
    nobody = structs.replace(inputs.world, arrivals=(), departures=())
    plant = twin.start(nobody, inputs.start_s, inputs.storage)
    return Snapshot(
        mono_s=inputs.start_s, now_s=inputs.start_s, meter=None,
        fleet=twin.fleet_sample(nobody, plant, np.zeros(nobody.table.size)),
        period_start_s=billing_period(inputs.tariff, inputs.start_s)[0],
    )  # fmt: skip


def _stay(inputs: StudyInputs, number: int, item: Arrival, asked_kwh: Mapping[str, float]) -> Stay:
    table, need, row = inputs.world.table, inputs.settings.need, item.row
    efficiency, stored_kwh = float(table.efficiency[row]), item.soc * item.capacity_kwh
    asked = max(asked_kwh.get(item.session_id, 0.0), item.need_kwh)
    return Stay(
        key=f"session {number}", arrived_s=item.arrived_s, departs_s=item.departs_s,
        charge_kw=float(table.charge_kw[row]), discharge_kw=float(table.discharge_kw[row]) if item.may_discharge else 0.0,
        efficiency=efficiency, capacity_kwh=max(need.window_high_soc, item.target_soc) * item.capacity_kwh,
        energy_kwh=stored_kwh, required_kwh=stored_kwh + asked * efficiency, least_kwh=need.window_low_soc * item.capacity_kwh,
        group=int(table.group[row]) if inputs.settings.limits.group_kw else -1,
    )  # fmt: skip


def _reached(tariff: Tariff, days: Sequence[DayPeak], now_s: float) -> Peaks:
    """The peaks of the running billing period, as far as its days before are known."""
    from_s = billing_period(tariff, now_s)[0]
    reached: dict[Register, float] = {}
    for day in days:
        for (charge, period), peak_kw in day.peak_kw.items():
            monthly = charge < 0 or tariff.demand[charge].per == "month"
            if monthly and from_s <= day.start_s < now_s:
                register = (charge, 0, period)
                reached[register] = max(reached.get(register, 0.0), peak_kw)
    return Peaks(reached)


def _named(view: PlanView, answer: Answer, inputs: StudyInputs) -> PlanView:
    """The view with the bay of every session, where a live site would know only a vehicle still to come."""
    keys, first, ids = answer.asked.vehicles.keys, len(answer.asked.rows), inputs.world.table.ids
    short = (keys.index(item.who) - first for item in answer.plan.shortfalls if item.who in keys[first:])
    missed = []
    for item in view.missed:
        if item.who == "expected":
            bay = ids[inputs.world.arrivals[next(short)].row]
            item = structs.replace(item, who=bay, words=item.words.replace("A vehicle still to come", bay, 1))
        missed.append(item)
    return structs.replace(view, missed=tuple(missed))
