"""Every invariant that one call of the guard can show is broken by at least three defects planted in its source.

A defect is a piece of the kernel's text that is replaced. When the kernel changes and a piece is no longer there, plant the same
mistake in the new text: an invariant that nothing can break proves nothing.
"""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from gridtide.control import guard, needs
from gridtide.model.decision import Reason
from tests.property import guard_cases
from tests.property.guard_cases import GUARD, NEED, NOW_S, Case, case, violations
from tests.property.test_guard import LOSSES, spoilt

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

SEEDS = range(5000)
CLEAN = range(40)
MANY_ROWS = 20
NASTY = (np.nan, np.inf, -np.inf, 0.0, 1e308, -1e308, 5e-324, -1.0)

DEFECTS = [
    ("I1", "no margin is kept", "limits.import_margin_kw if limits.export_kw <= 0.0 else", ""),
    ("I1", "who cannot be seen is taken for steady", "- unsure.hidden_swing_kw - least", "- least"),
    ("I1", "the last reading counts, not the lowest", "room = verdict.low_kw -", "room = verdict.power_kw -"),
    ("I1", "charging that was only wished is load", "np.minimum(np.maximum(known, 0.0), np.maximum(cut.power_kw - WATT_KW, 0.0))",
     "np.maximum(cut.power_kw, 0.0)"),
    ("I1", "a report of before the last setpoint counts", "np.fmax(unsure.known_kw, state.setpoint_kw))", "unsure.known_kw)"),
    ("I2", "discharge earns credit", "room = cap - uncontrolled -",
     "room = cap - uncontrolled + float(np.maximum(-cut.power_kw, 0.0).sum()) -"),
    ("I2", "what a silent station takes is not set aside", "silent, table.fallback_kw, 0.0),\n        float(",
     "silent, 0.0, 0.0),\n        float("),
    ("I2", "an unseen discharge hides load", "float(table.discharge_kw.sum(where=may_give))", "0.0"),
    ("I2", "load shedding is not heard", "if snapshot.load_shed_kw is not None:", "if False:"),
    ("I2", "only the first group has a cap", "enumerate(limits.group_kw)", "enumerate(limits.group_kw[:1])"),
    ("I2", "only two phases have a fuse", "for phase in range(3)", "for phase in range(2)"),
    ("I2", "the fuse blows when all three phases give", "giving = _fit(giving, share,", "giving = _fit(giving, share * 0.5,"),
    ("I3", "the floor counts, not the window", "above = fleet.soc - lowest", "above = fleet.soc - floor_soc * 0.0 - 0.2"),
    ("I3", "the floor is off by a twentieth", "above = fleet.soc - lowest", "above = fleet.soc - lowest + 0.05"),
    ("I3", "batteries on wheels count as storage", "reachable | table.storage", "True"),
    ("I3", "only storage has a floor", "above = fleet.soc - lowest", "above = np.where(table.storage, fleet.soc - lowest, 1.0)"),
    ("I4", "consent is not asked for", "may = fleet.may_discharge & (", "may = ("),
    ("I4", "a fault stops nothing", "cut.zero(fleet.fault, Reason.FAULT)", "pass"),
    ("I4", "only a silent station's fault counts", "cut.zero(fleet.fault,", "cut.zero(fleet.fault & unsure.silent,"),
    ("I4", "an empty bay gives", "cut.zero(~fleet.connected, Reason.NO_VEHICLE)", "pass"),
    ("I5", "the ramp starts from the other direction",
     "np.where(np.sign(state.setpoint_kw) == sign, np.abs(state.setpoint_kw), 0.0)", "np.abs(state.setpoint_kw)"),
    ("I5", "every cycle is a second long", "table.ramp_kw_per_s * cycle_s, 0.0", "table.ramp_kw_per_s, 0.0"),
    ("I5", "the least power comes on top", "before + np.maximum(ramp_kw, ", "before + np.add(ramp_kw, "),
    ("I5", "only discharge ramps", "cut.bind(sign * np.minimum(np.abs(cut.power_kw), reach)",
     "cut.bind(np.where(sign < 0.0, -np.minimum(np.abs(cut.power_kw), reach), cut.power_kw)"),
    ("I6", "the hold time is over at once", ">= table.hold_s)", ">= 0.0 * table.hold_s)"),
    ("I6", "only turning to discharge is held", "turning = (sign != 0.0)", "turning = (sign < 0.0)"),
    ("I6", "a rest in between is forgotten", "direction = np.where(flows, sign, state.direction)", "direction = sign"),
    ("I6", "the instant of a turn is not kept", "np.where(turned, now_s, state.turned_s)", "state.turned_s"),
    ("I7", "silence is not heard", "cut.zero(unsure.silent & fleet.connected, Reason.SILENT)", "pass"),
    ("I7", "an unknown age is fresh", "silent = ~(fleet.age_s <= settings.silent_s)", "silent = fleet.age_s > settings.silent_s"),
    ("I7", "silence begins with the end of the lease", "<= settings.silent_s)", "<= settings.lease_s)"),
    ("I7", "a meter that is not trusted is used", "if not verdict.trusted:\n        cut.zero_discharge",
     "if False:\n        cut.zero_discharge"),
    ("I9b", "a wish is added to what flows", "np.where(finite, wish_kw, 0.0)",
     "(np.where(finite, wish_kw, 0.0) + state.setpoint_kw)"),
    ("I9b", "the caller's reasons are written to", "wish_reason.copy()", "wish_reason"),
    ("I9b", "the state is written to", "sign = np.sign(setpoint_kw)\n    flows",
     "sign = np.sign(setpoint_kw)\n    state.setpoint_kw[:] = setpoint_kw\n    flows"),
    ("I15", "an unknown power hides nothing", "blind = fleet.connected & unseen", "blind = fleet.connected & silent"),
    ("I15", "no limit told is no limit", "np.minimum(fleet.discharge_limit_kw, table.discharge_kw), 0.0)",
     "np.minimum(fleet.discharge_limit_kw, table.discharge_kw), table.discharge_kw)"),
    ("I15", "an unknown charge is a full one", "snapshot.mono_s, snapshot.fleet\n",
     "snapshot.mono_s, _full_when_unknown(snapshot.fleet)\n"),
    ("I15", "who is silent for long does nothing", "swing = np.where(blind,", "swing = np.where(may_give,"),
    ("I18", "a wish is believed to be a number",
     "np.where(finite, wish_kw, 0.0).clip(-MOST_KW, MOST_KW)", "wish_kw"),
    ("I18", "a step may be as fine as it likes", "np.where(stepped <= size + 1e-9, stepped, 0.0)", "stepped"),
    ("I18", "rubbish raises", 'all="ignore"', 'all="raise"'),
    ("I18", "a cap is rounded", "room = cap - uncontrolled -", "room = math.floor(cap) - uncontrolled -"),
]  # fmt: skip

FULL_WHEN_UNKNOWN = """
def _full_when_unknown(fleet):
    from msgspec import structs
    return structs.replace(fleet, soc=np.where(np.isnan(fleet.soc), 1.0, fleet.soc))
"""


def planted(before: str, after: str) -> ModuleType:
    """The kernel with one piece of its text replaced."""
    text = Path(guard.__file__).read_text(encoding="utf-8")
    assert text.count(before) == 1, f"the kernel holds this piece {text.count(before)} times: {before!r}"
    module = ModuleType("planted_guard")
    exec(compile(text.replace(before, after) + FULL_WHEN_UNKNOWN, guard.__file__, "exec"), module.__dict__)
    return module


def _kernel() -> Any:
    """The kernel that cases ask now."""
    return vars(guard_cases)["guard"]


def breaks(name: str, seed: int) -> bool:
    """Whether the invariant of this id breaks for this case."""
    if name in CHECKS:
        return CHECKS[name](case(seed))
    here = case(seed, MANY_ROWS)
    _, setpoint, reason, _ = here.clamp()
    return any(found.split()[0] == name for found in violations(here, setpoint, reason))


def _turns_too_soon(here: Case) -> bool:
    """Wish, rest, wish the other way, half a second apart, against a record of turns that is kept here."""
    way, turned_s = here.state.direction.copy(), here.state.turned_s.copy()
    state = here.state
    for step, factor in enumerate((1.0, 0.0, -1.0)):
        now_s = NOW_S + 0.5 * step
        snapshot = structs.replace(here.snapshot, mono_s=now_s)
        state, setpoint, _, _ = structs.replace(
            here, snapshot=snapshot, wish_kw=here.wish_kw * factor, state=state
        ).clamp()
        sign = np.sign(setpoint)
        turning = (sign != 0.0) & (sign != way)
        if np.any(turning & (way != 0.0) & (now_s - turned_s < here.table.hold_s)):
            return True
        way, turned_s = np.where(turning, sign, way), np.where(turning, now_s, turned_s)
    return False


def _twice_is_more(here: Case) -> bool:
    """Whether the same call gives something else, writes to what it was handed, or wishing again adds up."""
    given = (here.wish_kw, here.state.setpoint_kw, here.state.turned_s, here.state.direction, here.snapshot.fleet.soc)
    kept = [values.copy() for values in given]
    need = needs.assess(here.table, here.snapshot.fleet, NEED, here.cycle_s)
    reason = np.full(here.table.size, Reason.SHAVING, dtype=np.uint8)
    told = [
        _kernel().clamp(
            here.wish_kw, reason, here.rank, here.snapshot, here.verdict, need, here.table, here.limits, here.state,
            GUARD, NEED, here.cycle_s,
        )
        for _ in range(2)
    ]  # fmt: skip
    again = structs.replace(here, state=told[0][0]).clamp()[1]
    same = np.array_equal(told[0][1], told[1][1], equal_nan=True)
    same &= all(np.array_equal(now, then, equal_nan=True) for now, then in zip(given, kept, strict=True))
    same &= bool((reason == Reason.SHAVING).all())
    return not same or bool(np.any(np.abs(again) > np.abs(here.wish_kw) + 1e-6))


def _more_without_evidence(here: Case) -> bool:
    """Whether some row, or all together, give more when one piece of evidence of one row is lost."""
    # With a least current another row may take over more than was lost.
    smooth = structs.replace(here.table, least_kw=np.zeros(here.table.size), step_kw=np.zeros(here.table.size))
    here = structs.replace(here, table=smooth, wish_kw=-np.abs(here.wish_kw))
    here = here.with_fleet(discharge_limit_kw=spoilt(here.snapshot.fleet.discharge_limit_kw, 0, 3.0))
    before = np.maximum(-here.clamp()[1], 0.0)
    for name, unknown in LOSSES:
        for row in range(here.table.size):
            blind = here.with_fleet(**{name: spoilt(getattr(here.snapshot.fleet, name), row, unknown)})
            more = np.maximum(-blind.clamp()[1], 0.0) - before
            # That a bay is empty is news: nothing there can change any more, and the others may give that much.
            together = name != "connected" and more.sum() > 0.001 * here.table.size
            if more[row] > 1e-6 or together:
                return True
    return False


def _not_total(here: Case) -> bool:
    """Whether one unlikely number anywhere raises, or gives what is not finite or more than the wish."""
    for value in NASTY:
        for spoilt_case in (
            structs.replace(here, wish_kw=spoilt(here.wish_kw, 0, value)),
            structs.replace(here, table=structs.replace(here.table, step_kw=spoilt(here.table.step_kw, 0, value))),
            structs.replace(here, limits=structs.replace(here.limits, transformer_kw=value)),
            structs.replace(here, cycle_s=value),
            here.with_fleet(capacity_kwh=spoilt(here.snapshot.fleet.capacity_kwh, 0, value)),
        ):
            try:
                setpoint = spoilt_case.clamp()[1]
            except (ArithmeticError, ValueError):
                return True
            wished = np.where(np.isfinite(spoilt_case.wish_kw), np.abs(spoilt_case.wish_kw), 0.0)
            if not np.all(np.abs(setpoint) <= wished + 1e-6):
                return True
    return False


CHECKS: dict[str, Callable[[Case], bool]] = {
    "I6": _turns_too_soon, "I9b": _twice_is_more, "I15": _more_without_evidence, "I18": _not_total,
}  # fmt: skip
INVARIANTS = ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I9b", "I15", "I18")


@pytest.mark.parametrize("name", INVARIANTS)
def test_the_kernel_itself_breaks_none_of_them(name: str) -> None:
    assert [seed for seed in CLEAN if breaks(name, seed)] == []


@pytest.mark.parametrize(("name", "mistake", "before", "after"), DEFECTS, ids=[f"{d[0]}: {d[1]}" for d in DEFECTS])
def test_a_defect_in_the_kernel_is_caught(
    name: str, mistake: str, before: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_cases, "guard", planted(before, after))
    assert any(breaks(name, seed) for seed in SEEDS), mistake


@pytest.mark.parametrize("name", INVARIANTS)
def test_every_invariant_has_three_defects(name: str) -> None:
    assert len([mistake for invariant, mistake, *_ in DEFECTS if invariant == name]) >= 3
