"""One call of the guard to the watt: borders, tolerances, the order of cuts, what is reserved, and what is remembered."""

import copy
from typing import Any

import numpy as np
import pytest
from msgspec import Struct, structs

from gridtide.control import guard, needs
from gridtide.control.guard import GuardSettings, GuardState
from gridtide.control.meter import Verdict
from gridtide.control.needs import NeedSettings
from gridtide.model.decision import GridPermit, Reason
from gridtide.model.fleet import SiteLimits
from tests.unit.builders import HOUR_S, evse_table, fleet_sample, snapshot

NAN, INF = float("nan"), float("inf")
NOW_S = 1000.0
PHASE_1, PHASE_2 = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)


class Told(Struct, frozen=True, eq=False):
    """The guard's answer."""

    kw: list[float]
    reason: list[Reason]
    events: tuple[str, ...]
    after: GuardState


def told(*wish_kw: float, **given: Any) -> Told:
    """Ask the guard of a believed site at 500 kW behind 1 MW; `fleet`, `table`, `limits`, `need`, `state`: what is otherwise."""
    size = len(wish_kw)
    table = evse_table(size, **({"efficiency": 1.0} | given.pop("table", {})))
    fleet = fleet_sample(size, **given.pop("fleet", {}))
    limits = SiteLimits(**({"transformer_kw": 1000.0} | given.pop("limits", {})))
    cycle_s, rules = given.pop("cycle_s", 1.0), NeedSettings()
    need = structs.replace(
        needs.assess(table, fleet, rules, cycle_s),
        **{name: np.full(size, value) for name, value in given.pop("need", {}).items()},
    )
    state = structs.replace(
        guard.fresh(size),
        **{k: np.array(v) if isinstance(v, list) else v for k, v in given.pop("state", {}).items()},
    )
    rank = np.array(given.pop("rank", range(size)), dtype=np.float64)
    verdict, permit = given.pop("verdict", Verdict(True, 500.0, 500.0)), given.pop("permit", GridPermit())
    after, setpoint, reason, events = guard.clamp(
        np.array(wish_kw), np.full(size, Reason.MANUAL, dtype=np.uint8), rank, snapshot(NOW_S, None, fleet, **given),
        verdict, need, table, limits, state, GuardSettings(), rules, cycle_s, permit=permit,
    )  # fmt: skip
    return Told(setpoint.tolist(), [Reason(value) for value in reason], events, after)


def metered(power_kw: float, low_kw: float | None = None) -> Verdict:
    """A trusted meter."""
    return Verdict(True, power_kw, power_kw if low_kw is None else low_kw)


ONE_GIVING: list[tuple[dict[str, Any], float, Reason]] = [
    ({"fleet": {"discharge_limit_kw": 0.5}}, -0.5, Reason.RATING),
    ({"fleet": {"discharge_limit_kw": NAN}}, 0.0, Reason.RATING),
    ({"fleet": {"discharge_limit_kw": -1.0}}, 0.0, Reason.RATING),
    ({"table": {"discharge_kw": 0.5}}, -0.5, Reason.RATING),
    ({"fleet": {"soc": 0.0}}, 0.0, Reason.FLOOR),
    ({"fleet": {"soc": 1.0}}, -15.0, Reason.MANUAL),
    ({"fleet": {"soc": 1.3}}, 0.0, Reason.SOC_UNKNOWN),
    ({"fleet": {"capacity_kwh": 0.0}}, 0.0, Reason.SOC_UNKNOWN),
    ({"fleet": {"capacity_kwh": 0.5, "soc": 0.9}}, -15.0, Reason.MANUAL),
    ({"fleet": {"soc": 0.2}, "table": {"storage": True}}, 0.0, Reason.FLOOR),
    ({"fleet": {"soc": 0.4, "need_soc": NAN}}, 0.0, Reason.WINDOW),
    # 0.05 x 9 kWh x 0.8 within 60 s, 0.05 x 0.01 kWh x 0.8 within 0.5 s
    ({"fleet": {"soc": 0.45, "capacity_kwh": 8.0, "need_soc": NAN}, "table": {"efficiency": 0.8}, "cycle_s": 91.0},
     -0.05 * 8.0 * 0.8 * 3600.0 / 91.0, Reason.NEAR_FLOOR),
    ({"fleet": {"soc": 0.45, "capacity_kwh": 0.01, "need_soc": NAN}, "table": {"efficiency": 0.8}, "cycle_s": 0.5},
     -2.88, Reason.NEAR_FLOOR),
    ({"fleet": {"may_discharge": False}}, 0.0, Reason.CHARGE_ONLY),
    ({"fleet": {"soc": 0.415, "need_soc": NAN}}, -11.0, Reason.NEAR_FLOOR),
    ({"fleet": {"age_s": 2.0}}, -15.0, Reason.MANUAL),
    ({"fleet": {"age_s": 2.1}}, 0.0, Reason.SILENT),
    ({"permit": GridPermit(discharge_share=0.5)}, -11.0, Reason.GRID),
    ({"permit": GridPermit(discharge_share=0.0)}, 0.0, Reason.GRID),
    ({"permit": GridPermit(discharge_share=NAN)}, 0.0, Reason.GRID),
    ({"permit": GridPermit(charge_share=0.0)}, -15.0, Reason.MANUAL),
    ({"permit": GridPermit(in_service=False)}, 0.0, Reason.GRID),
    ({"state": {"reverse_until_s": NOW_S}}, -15.0, Reason.MANUAL),
    ({"state": {"reverse_until_s": NOW_S + 0.1}}, 0.0, Reason.REVERSE_POWER),
    ({"limits": {"phase_a": 100.0, "phase_v": 220.0}, "table": {"phase_share": [PHASE_1]}}, -15.0, Reason.MANUAL),
    ({"limits": {"phase_a": 50.0, "phase_v": 220.0}, "table": {"phase_share": [PHASE_1]}}, -11.0, Reason.PHASE),
]  # fmt: skip


@pytest.mark.parametrize(("given", "kw", "reason"), ONE_GIVING)
def test_one_row_that_gives(given: dict[str, Any], kw: float, reason: Reason) -> None:
    answer = told(-15.0, **dict(given))
    assert answer.kw == [pytest.approx(kw, abs=1.001e-3)]
    assert abs(answer.kw[0]) <= abs(kw) + 1e-9
    assert answer.reason == [reason]


ONE_CHARGING: list[tuple[dict[str, Any], float, Reason]] = [
    ({"fleet": {"charge_limit_kw": 0.5}}, 0.5, Reason.RATING),
    ({"fleet": {"soc": 1.0}}, 0.0, Reason.REACHED),
    ({"fleet": {"soc": 0.999}}, 15.0, Reason.MANUAL),
    ({"fleet": {"soc": 1.5}}, 0.0, Reason.REACHED),
    ({"limits": {"transformer_kw": 500.5}}, 0.5, Reason.TRANSFORMER),
    ({"limits": {"group_kw": (0.25,)}, "table": {"group": 0}}, 0.25, Reason.GROUP),
    ({"limits": {"group_kw": (NAN,)}, "table": {"group": 0}}, 0.0, Reason.GROUP),
    ({"limits": {"group_kw": (50.0,)}, "table": {"group": 0}, "permit": GridPermit(group_kw=(8.0,))}, 8.0, Reason.GROUP),
    ({"limits": {"group_kw": (8.0,)}, "table": {"group": 0}, "permit": GridPermit(group_kw=(50.0,))}, 8.0, Reason.GROUP),
    ({"limits": {"group_kw": (8.0,)}, "table": {"group": 0}, "permit": GridPermit(group_kw=(NAN,))}, 0.0, Reason.GROUP),
    ({"limits": {"group_kw": (50.0, 8.0)}, "table": {"group": 1}, "permit": GridPermit(group_kw=(1.0,))}, 8.0, Reason.GROUP),
    ({"limits": {"phase_a": 1.0, "phase_v": 250.0}, "table": {"phase_share": [PHASE_1]}}, 0.25, Reason.PHASE),
    ({"limits": {"phase_a": 10.0, "phase_v": 200.0}}, 6.0, Reason.PHASE),
    ({"load_shed_kw": 500.5}, 0.5, Reason.LOAD_SHED),
    ({"load_shed_kw": 0.5, "verdict": metered(0.0)}, 0.5, Reason.LOAD_SHED),
    ({"load_shed_kw": -5.0, "verdict": metered(0.0)}, 0.0, Reason.LOAD_SHED),
    ({"load_shed_kw": NAN, "verdict": metered(0.0)}, 0.0, Reason.LOAD_SHED),
    ({"permit": GridPermit(import_kw=508.0)}, 8.0, Reason.TRANSFORMER),
    ({"permit": GridPermit(import_kw=NAN)}, 0.0, Reason.TRANSFORMER),
    ({"permit": GridPermit(import_kw=2000.0), "limits": {"transformer_kw": 508.0}}, 8.0, Reason.TRANSFORMER),
    ({"permit": GridPermit(import_kw=2000.0), "limits": {"transformer_kw": NAN}}, 0.0, Reason.TRANSFORMER),
    ({"permit": GridPermit(charge_share=0.5)}, 11.0, Reason.GRID),
    ({"permit": GridPermit(charge_share=NAN)}, 0.0, Reason.GRID),
    ({"permit": GridPermit(discharge_share=0.0)}, 15.0, Reason.MANUAL),
    ({"permit": GridPermit(in_service=False)}, 0.0, Reason.GRID),
    ({"verdict": Verdict(False, 500.0, 500.0), "limits": {"static_building_kw": 990.0}}, 10.0, Reason.METER),
    ({"table": {"ramp_kw_per_s": 0.5}, "cycle_s": 2.0}, 1.0, Reason.RAMP),
    ({"table": {"ramp_kw_per_s": NAN}}, 0.0, Reason.RAMP),
    ({"table": {"ramp_kw_per_s": -3.0}}, 0.0, Reason.RAMP),
    ({"table": {"ramp_kw_per_s": 0.1, "least_kw": 1.4}}, 1.4, Reason.RAMP),
    ({"table": {"ramp_kw_per_s": 0.1, "least_kw": 0.5}}, 0.5, Reason.RAMP),
    ({"table": {"ramp_kw_per_s": 0.1, "least_kw": -1.0}}, 0.1, Reason.RAMP),
    ({"table": {"ramp_kw_per_s": 2.0}, "state": {"setpoint_kw": [3.0]}}, 5.0, Reason.RAMP),
    ({"table": {"ramp_kw_per_s": 2.0}, "state": {"setpoint_kw": [-3.0]}}, 2.0, Reason.RAMP),
    ({"table": {"hold_s": 60.0}, "state": {"direction": [-1.0], "turned_s": [NOW_S - 60.0]}}, 15.0, Reason.MANUAL),
    ({"table": {"hold_s": 60.0}, "state": {"direction": [-1.0], "turned_s": [NOW_S - 59.9]}}, 0.0, Reason.HOLD),
    ({"table": {"hold_s": 60.0}, "state": {"direction": [1.0], "turned_s": [NOW_S - 1.0]}}, 15.0, Reason.MANUAL),
    ({"table": {"least_kw": 15.0}}, 15.0, Reason.MANUAL),
    ({"table": {"least_kw": 15.01}}, 0.0, Reason.LEAST_CURRENT),
    ({"table": {"step_kw": 4.0}}, 12.0, Reason.MANUAL),
]  # fmt: skip


@pytest.mark.parametrize(("given", "kw", "reason"), ONE_CHARGING)
def test_one_row_that_charges(given: dict[str, Any], kw: float, reason: Reason) -> None:
    answer = told(15.0, **dict(given))
    assert answer.kw == [pytest.approx(kw, abs=1e-9)]
    assert answer.reason == [reason]


def test_small_wishes_are_bound_like_large_ones() -> None:
    single = {"group": 0, "phase_share": [PHASE_1]}
    assert told(0.5, table=single, limits={"group_kw": (0.25,)}).kw == [0.25]
    assert told(0.5, table=single, limits={"phase_a": 1.0, "phase_v": 250.0}).kw == [0.25]
    assert told(0.5, table=single, limits={"phase_a": 4.0, "phase_v": 250.0}).kw == [0.5]


def test_charging_that_goes_on_is_no_building_load() -> None:
    answer = told(22.0, fleet={"power_kw": 22.0}, verdict=metered(480.0), limits={"transformer_kw": 480.0})
    assert answer.kw == [22.0]


@pytest.mark.parametrize("wish_kw", [NAN, INF, -INF])
def test_a_wish_that_is_no_number_is_nothing_and_says_so(wish_kw: float) -> None:
    answer = told(wish_kw)
    assert (answer.kw, answer.reason) == ([0.0], [Reason.NOT_FINITE])


def test_the_least_current_is_no_reason_where_nothing_was_wished() -> None:
    answer = told(0.0, 1.0, table={"least_kw": 1.4})
    assert (answer.kw, answer.reason) == ([0.0, 0.0], [Reason.MANUAL, Reason.LEAST_CURRENT])


def test_setpoints_are_whole_watts_without_a_negative_zero() -> None:
    answer = told(-0.0004, 0.0126, 14.9999999999)
    assert answer.kw == [0.0, 0.012, 15.0]
    assert not np.signbit(answer.kw[0])


def test_no_wish_counts_beyond_a_gigawatt() -> None:
    huge: dict[str, Any] = {
        "table": {"charge_kw": 1e308, "discharge_kw": 1e308, "ramp_kw_per_s": 1e308},
        "fleet": {"soc": 0.9, "capacity_kwh": 1e9, "need_soc": NAN},
        "limits": {"transformer_kw": 1e9},
    }
    assert told(1e308, 1e308, **dict(huge)).kw == [guard.MOST_KW] * 2
    assert told(-1e308, -1e308, verdict=metered(1e9), **dict(huge)).kw == [-guard.MOST_KW] * 2


def test_a_step_too_coarse_to_be_rounded_to_allows_nothing() -> None:
    coarse = {"charge_kw": 2e6, "ramp_kw_per_s": 1e9, "step_kw": 1e6}
    assert told(999_999.9995, table=coarse, limits={"transformer_kw": 1e9}).kw == [0.0]


def test_heat_of_one_row_says_nothing_of_the_next() -> None:
    answer = told(15.0, 15.0, -15.0, -15.0, fleet={"temperature_c": [NAN, 80.0, 80.0, NAN]})
    assert answer.kw == [15.0, 11.0, -11.0, -15.0]
    assert answer.reason == [Reason.MANUAL, Reason.WARM, Reason.WARM, Reason.MANUAL]


def test_a_bound_within_a_nanowatt_changes_nothing() -> None:
    cut = guard._Cut(np.array([1.0, 1.0]), np.zeros(2, dtype=np.uint8))
    cut.bind(np.array([1.0 - 1e-9, 1.0 - 3e-9]), Reason.RATING)
    assert cut.reason.tolist() == [0, Reason.RATING]


RANKED: list[tuple[dict[str, Any], tuple[float, ...]]] = [
    ({"limits": {"transformer_kw": 530.0}}, (0.0, 20.0, 10.0)),
    ({"limits": {"group_kw": (30.0,)}, "table": {"group": 0}}, (0.0, 20.0, 10.0)),
    ({"limits": {"phase_a": 100.0, "phase_v": 300.0}, "table": {"phase_share": [PHASE_1] * 3}}, (0.0, 20.0, 10.0)),
]


@pytest.mark.parametrize(("given", "kw"), RANKED)
@pytest.mark.parametrize("rank", [(2.0, 0.0, 1.0), (NAN, -3.0, 7.0), (INF, 0.5, 1e300)])
def test_who_ranks_lower_keeps_its_charging(given: dict[str, Any], kw: tuple[float, ...], rank: Any) -> None:
    answer = told(20.0, 20.0, 20.0, rank=rank, **dict(given))
    assert answer.kw == pytest.approx(kw)


def test_who_ranks_lower_keeps_its_discharge() -> None:
    fuse = {"limits": {"phase_a": 100.0, "phase_v": 300.0}, "table": {"phase_share": [PHASE_1] * 2}}
    assert told(-20.0, -20.0, rank=(1.0, 0.0), **fuse).kw == pytest.approx([-10.0, -20.0])
    margin = told(-20.0, -20.0, rank=(1.0, 0.0), verdict=metered(40.0))
    assert margin.kw == pytest.approx([-10.0, -20.0])
    assert margin.reason == [Reason.EXPORT_MARGIN, Reason.MANUAL]


def test_rows_of_one_rank_keep_their_order() -> None:
    size = 60
    answer = told(*[20.0] * size, rank=np.tile([3.0, 1.0], size // 2), limits={"transformer_kw": 500.0 + 45 * 20.0})
    assert answer.kw == [20.0] * 30 + [20.0 if row % 2 else 0.0 for row in range(30, 60)]


def test_resting_rows_take_no_room() -> None:
    first = {"rank": (1.0, 0.0)}
    assert told(22.0, 0.0, limits={"transformer_kw": 522.0}, **first).kw == [22.0, 0.0]
    assert told(22.0, 0.0, limits={"group_kw": (22.0,)}, table={"group": 0}, **first).kw == [22.0, 0.0]
    fuse = {"limits": {"phase_a": 100.0, "phase_v": 220.0}, "table": {"phase_share": [PHASE_1] * 2}}
    assert told(-22.0, 0.0, **fuse, **first).kw == [-22.0, 0.0]
    assert told(22.0, 0.0, **fuse, **first).kw == [22.0, 0.0]


def test_a_cap_of_one_group_is_not_the_others_business() -> None:
    grouped = {"group": [0, -1]}
    assert told(20.0, 20.0, table=grouped, limits={"group_kw": (0.0,)}).kw == [0.0, 20.0]
    assert told(20.0, 20.0, table=grouped, limits={"group_kw": (8.0,)}).kw == [8.0, 20.0]
    phases = {"phase_share": [PHASE_1, PHASE_2]}
    limits = {"phase_a": 100.0, "phase_v": 80.0}
    assert told(20.0, 5.0, table=phases, limits=limits).kw == pytest.approx([8.0, 5.0])
    assert told(-20.0, 5.0, table=phases, limits=limits).kw == pytest.approx([-8.0, 5.0])


@pytest.mark.parametrize(("limits", "cut"), [
    ({"transformer_kw": 514.5}, True), ({"transformer_kw": 515.0}, False), ({"transformer_kw": 515.0 - 5e-7}, False),
    ({"group_kw": (14.5,)}, True), ({"group_kw": (15.0,)}, False),
])  # fmt: skip
def test_a_full_connection_is_told(limits: dict[str, Any], cut: bool) -> None:
    assert told(15.0, limits=limits, table={"group": 0}).events == (("max_capacity_reached",) if cut else ())


@pytest.mark.parametrize(
    ("age_s", "kw"), [(3.0, 0.0), (10.0, 0.0), (10.5, 20.0), (12.0, 20.0), (NAN, 0.0), (INF, 20.0)]
)
def test_a_silent_vehicle_may_be_giving_for_two_leases(age_s: float, kw: float) -> None:
    """22 kW of discharge that may run unseen make 480 kW of metered import up to 502 kW of load."""
    answer = told(22.0, 0.0, fleet={"age_s": [0.0, age_s]}, verdict=metered(480.0), limits={"transformer_kw": 500.0})
    assert answer.kw == [kw, 0.0]


def test_what_a_silent_station_reported_last_is_not_counted_on() -> None:
    fleet = {"age_s": [0.0, 3.0], "power_kw": [0.0, 10.0]}
    assert told(-22.0, 0.0, fleet=fleet, verdict=metered(60.0)).kw == [-6.0, 0.0]
    fleet = {"age_s": [0.0, 60.0], "power_kw": [0.0, 10.0]}
    answer = told(22.0, 0.0, fleet=fleet, verdict=metered(480.0), limits={"transformer_kw": 490.0})
    assert answer.kw == [10.0, 0.0]


def test_the_fallback_of_a_silent_station_is_set_aside() -> None:
    away: dict[str, Any] = {"age_s": [0.0, 60.0], "connected": [True, False]}
    four: dict[str, Any] = {"fallback_kw": 4.0}
    assert told(-22.0, 0.0, fleet=away, table=four, verdict=metered(30.0)).kw == [-16.0, 0.0]
    assert told(22.0, 0.0, fleet=away, table=four, limits={"transformer_kw": 520.0}).kw == [16.0, 0.0]
    away = {"age_s": [0.0, 60.0, 0.0], "connected": [True, False, True]}
    group = four | {"group": [0, 0, -1]}
    assert told(22.0, 0.0, 22.0, fleet=away, table=group, limits={"group_kw": (20.0,)}).kw == [16.0, 0.0, 22.0]
    fuse = {"phase_a": 100.0, "phase_v": 200.0}
    same = four | {"phase_share": [PHASE_1, PHASE_1, PHASE_2]}
    assert told(22.0, 0.0, 5.0, fleet=away, table=same, limits=fuse).kw == [16.0, 0.0, 5.0]
    apart = four | {"phase_share": [PHASE_1, PHASE_2, PHASE_2]}
    assert told(22.0, 0.0, 5.0, fleet=away, table=apart, limits=fuse).kw == [20.0, 0.0, 5.0]


def test_known_power_is_within_a_tenth_and_a_kilowatt_of_the_rating() -> None:
    table = evse_table(6, charge_kw=[10.0] * 4 + [0.0] * 2, discharge_kw=[20.0] * 4 + [0.0] * 2)
    fleet = fleet_sample(6, power_kw=[-22.9, -23.1, 11.9, 12.1, -1.0, 1.0])
    assert guard.known_kw(fleet, table).tolist() == pytest.approx([-22.9, NAN, 11.9, NAN, -1.0, 1.0], nan_ok=True)


EXPORT: list[tuple[tuple[float, float], tuple[float, float], float, float, float]] = [
    # wishes, reported powers, lowest import, allowed export, discharge
    ((-22.0, 0.0), (0.0, 0.0), 20.0, 0.0, -10.0),
    ((-0.5, 0.0), (0.0, 0.0), 10.2, 0.0, -0.2),
    ((-22.0, 10.0), (0.0, 0.0), 20.0, 0.0, -10.0),  # charging that has not begun earns nothing
    ((-22.0, 10.0), (0.0, 10.0), 30.0, 0.0, -19.999),  # what goes on earns a watt less than it is
    ((-22.0, 4.0), (0.0, 10.0), 30.0, 0.0, -13.999),
    ((-22.0, 0.0), (0.0, 10.0), 30.0, 0.0, -10.0),  # it is about to end
    ((-22.0, 0.0), (-8.0, 0.0), 12.0, 0.0, -10.0),  # what it gives already is in the reading
    ((-22.0, 0.0), (0.0, 0.0), 5.0, 0.5, -5.5),
    ((-22.0, 0.0), (0.0, 0.0), 5.0, 40.0, -22.0),
]


@pytest.mark.parametrize(("wish_kw", "power_kw", "low_kw", "export_kw", "kw"), EXPORT)
def test_the_planned_import_stays_at_the_margin(
    wish_kw: tuple[float, float], power_kw: tuple[float, float], low_kw: float, export_kw: float, kw: float
) -> None:
    answer = told(
        *wish_kw, fleet={"power_kw": power_kw}, verdict=metered(400.0, low_kw), limits={"export_kw": export_kw}
    )
    assert answer.kw[0] == pytest.approx(kw, abs=1e-9)


OLD: list[tuple[tuple[float, float], tuple[float, float], float, float, float]] = [
    # reported powers, last setpoints, their age, age of the reports, discharge
    ((-8.0, 0.0), (-3.0, 0.0), 1.0, 0.5, -5.0),
    ((-8.0, 0.0), (-3.0, 0.0), 1.0, 0.4, -10.0),  # it was seen since
    ((-8.0, 0.0), (-3.0, 0.0), 0.4, 0.0, -5.0),
    ((-8.0, 0.0), (-3.0, 0.0), 1.0, NAN, 0.0),
    ((-8.0, 0.0), (-9.0, 0.0), 0.5, 0.5, -10.0),  # more may not flow yet
    ((0.0, 0.0), (0.0, 2.0), 0.5, 0.5, 0.0),  # what it charges may be in the reading, and is about to end
    ((0.0, 5.0), (0.0, 5.0), INF, 1.9, -2.0),
]


@pytest.mark.parametrize(("power_kw", "setpoints", "moved_s", "age_s", "kw"), OLD)
def test_a_report_from_before_the_last_setpoint_is_not_counted_on(
    power_kw: tuple[float, float], setpoints: tuple[float, float], moved_s: float, age_s: float, kw: float
) -> None:
    answer = told(
        -22.0, 0.0, fleet={"power_kw": power_kw, "age_s": age_s}, verdict=metered(400.0, 12.0 + 5.0 * (power_kw[1] > 0.0)),
        state={"setpoint_kw": list(setpoints), "moved_s": [NOW_S - moved_s] * 2},
    )  # fmt: skip
    assert answer.kw[0] == pytest.approx(kw, abs=1e-9)


@pytest.mark.parametrize(("power_kw", "setpoints", "until_s", "events", "after_s"), [
    (-0.5, [-5.0, 0.0], -INF, (), -INF),
    (-0.2, [-5.0, 0.0], -INF, (), -INF),
    (-0.6, [-5.0, 0.0], -INF, ("reverse_power",), NOW_S + 10.0),
    (-0.6, [-5.0, 0.0], NOW_S, ("reverse_power",), NOW_S + 10.0),
    (-0.6, [-5.0, 0.0], NOW_S + 1.0, (), NOW_S + 10.0),
    (-0.6, [0.0, 5.0], -INF, (), NOW_S + 10.0),
    (-0.6, [0.0, 0.5], -INF, (), NOW_S + 10.0),
])  # fmt: skip
def test_reverse_power_is_told_when_somebody_gave(
    power_kw: float, setpoints: list[float], until_s: float, events: tuple[str, ...], after_s: float
) -> None:
    answer = told(0.0, 0.0, verdict=metered(power_kw), state={"setpoint_kw": setpoints, "reverse_until_s": until_s})
    assert answer.events == events
    assert answer.after.reverse_until_s == after_s


def test_allowed_export_is_no_reverse_power() -> None:
    state = {"setpoint_kw": [-5.0]}
    assert told(0.0, verdict=metered(-40.4), limits={"export_kw": 40.0}, state=state).events == ()
    assert told(0.0, verdict=metered(-40.6), limits={"export_kw": 40.0}, state=state).events == ("reverse_power",)


def test_what_is_remembered() -> None:
    state = {"setpoint_kw": [0.0] * 5, "direction": [1.0, -1.0, 1.0, -1.0, 0.0], "turned_s": [7.0] * 5}
    after = told(5.0, 5.0, 0.0, -5.0, -5.0, state=state).after
    assert after.setpoint_kw.tolist() == [5.0, 5.0, 0.0, -5.0, -5.0]
    assert after.direction.tolist() == [1.0, 1.0, 1.0, -1.0, -1.0]
    assert after.turned_s.tolist() == [7.0, NOW_S, 7.0, 7.0, NOW_S]
    assert after.moved_s.tolist() == [NOW_S, NOW_S, -INF, NOW_S, NOW_S]
    assert (after.estop, after.reverse_until_s) == (False, -INF)
    new = guard.fresh(2)
    assert (new.setpoint_kw.tolist(), new.direction.tolist(), new.turned_s.tolist()) == (
        [0.0] * 2,
        [0.0] * 2,
        [-INF] * 2,
    )


def test_who_was_away_is_remembered_until_it_flows_again_and_that_counts_as_a_turn() -> None:
    """Rows: back and flowing, back and resting, resting, gone, flowing on."""
    fleet = {"connected": [True, True, True, False, True]}
    before = {"direction": [1.0] * 5, "turned_s": [7.0] * 5, "away": [True, True, False, False, False]}
    after = told(5.0, 0.0, 0.0, 0.0, 5.0, fleet=fleet, state=before).after
    assert after.away.tolist() == [False, True, False, True, False]
    assert after.turned_s.tolist() == [NOW_S, 7.0, 7.0, 7.0, 7.0]
    quiet = told(0.0, 0.0, 0.0, 0.0, 0.0, fleet=fleet, state=before).after
    assert quiet.away.tolist() == [True, True, False, True, False]
    assert quiet.turned_s.tolist() == [7.0] * 5
    assert (quiet.setpoint_kw.tolist(), quiet.direction.tolist()) == ([0.0] * 5, [1.0] * 5)
    assert quiet.moved_s.tolist() == [-INF] * 5
    assert not guard.fresh(2).away.any()


def test_a_reverse_flow_is_remembered_while_others_charge() -> None:
    after = told(5.0, state={"reverse_until_s": NOW_S + 30.0}).after
    assert after.reverse_until_s == NOW_S + 30.0


def test_charging_that_a_limit_leaves_too_small_to_flow_earns_no_discharge() -> None:
    """3 kW are left by the group, 4 kW are the least that flows: the other vehicle may give what the building takes."""
    table = {"least_kw": [4.0, 0.0], "group": [0, -1]}
    given = {"table": table, "limits": {"group_kw": (3.0,), "export_kw": 0.0}, "verdict": metered(30.0)}
    fleet = {"power_kw": [3.0, 0.0]}
    alone = told(0.0, -20.0, fleet=fleet, **copy.deepcopy(given)).kw
    assert told(22.0, -20.0, fleet=fleet, **copy.deepcopy(given)).kw == alone
    assert -20.0 < alone[1] < 0.0


@pytest.mark.parametrize("age_s", [0.0, 60.0])
def test_what_was_told_is_passed_on_however_old_it_is(age_s: float) -> None:
    fleet = fleet_sample(2, power_kw=[7.0, -3.0], age_s=[0.0, age_s])
    assert guard.look(fleet, evse_table(2), GuardSettings()).told_kw.tolist() == [7.0, -3.0]


def test_an_emergency_stop_is_told_once_and_stays() -> None:
    first = told(5.0, -5.0, 0.0, estop=True)
    assert (first.kw, first.reason, first.events) == ([0.0] * 3, [Reason.ESTOP] * 3, ("estop",))
    assert first.after.estop
    later = told(5.0, state={"estop": True})
    assert (later.kw, later.events, later.after.estop) == ([0.0], (), True)


REFILL: list[tuple[float, float, float, float]] = [
    # need, charging power, one-way efficiency, seconds to win back a minute of 22 kW
    (0.6, 22.0, 1.0, 60.0),
    (0.6, 11.0, 0.9, 60.0 * 22.0 / (11.0 * 0.81)),
    (0.9, 11.0, 0.9, 60.0 * 22.0 / (11.0 * 0.81 * 0.5)),
    (0.999, 11.0, 0.9, 60.0 * 22.0 / (11.0 * 0.81 * 0.025)),
    (0.6, 0.5, 1.0, 60.0 * 22.0 / 0.5),
    (0.6, 0.0, 1.0, 60.0 * 22.0 / 1e-6),
]


@pytest.mark.parametrize(("need_soc", "charge_kw", "efficiency", "refill_s"), REFILL)
def test_giving_costs_its_own_time_and_the_time_to_win_it_back(
    need_soc: float, charge_kw: float, efficiency: float, refill_s: float
) -> None:
    """Kept besides: two cycles and 45 minutes."""
    bound_s = refill_s + 2.0 * 60.0 + 2700.0

    def gives(spare_s: float) -> bool:
        answer = told(
            -15.0, cycle_s=60.0, table={"efficiency": efficiency},
            fleet={"soc": 0.55, "need_soc": need_soc, "left_s": 1e12},
            need={"spare_s": spare_s, "wants": True, "charge_kw": charge_kw},
        )  # fmt: skip
        assert answer.reason == [Reason.MANUAL if answer.kw[0] else Reason.DEPARTURE]
        return answer.kw[0] == -15.0

    assert gives(bound_s * 1.000001)
    assert not gives(bound_s * 0.999999)
    if efficiency == 1.0 and charge_kw == 22.0:
        assert not gives(bound_s)


def test_the_time_left_is_kept_when_nothing_is_missing_yet() -> None:
    """Hardly more than needed: 60 s to win back, two cycles, 45 minutes."""

    def gives(left_s: float) -> bool:
        return told(-15.0, cycle_s=60.0, fleet={"soc": 0.6001, "left_s": left_s}).kw != [0.0]

    assert [gives(left_s) for left_s in (2879.5, 2880.0, 2880.5, INF, NAN)] == [False, False, True, False, False]


@pytest.mark.parametrize(("surplus", "capacity_kwh", "efficiency", "cycle_s", "gives"), [
    (0.0092, 100.0, 0.8, 60.0, True), (0.0091, 100.0, 0.8, 60.0, False), (0.009166, 100.0, 0.8, 60.0, False),
    (0.3, 0.5, 1.0, 0.1, True),
])  # fmt: skip
def test_a_surplus_of_two_cycles_may_be_given_at_the_last_moment(
    surplus: float, capacity_kwh: float, efficiency: float, cycle_s: float, gives: bool
) -> None:
    """22 kW for two minutes at 80 % are 0.9167 kWh out of the battery."""
    fleet = {"soc": 0.6 + surplus, "capacity_kwh": capacity_kwh, "left_s": 60.0}
    answer = told(-15.0, cycle_s=cycle_s, table={"efficiency": efficiency}, fleet=fleet)
    assert answer.kw == [-15.0 if gives else 0.0]


def test_a_surplus_of_exactly_two_cycles_is_kept() -> None:
    fleet = {"soc": 0.75, "need_soc": 0.5, "capacity_kwh": 3.0, "left_s": 60.0}
    assert told(-15.0, cycle_s=60.0, table={"discharge_kw": 22.5}, fleet=fleet).kw == [0.0]


@pytest.mark.parametrize(("need_soc", "kw"), [(NAN, -14.4), (-1.0, -14.4), (0.0, 0.0)])
def test_without_a_need_there_is_no_departure_to_miss(need_soc: float, kw: float) -> None:
    fleet = {"soc": 0.7, "capacity_kwh": 0.8, "need_soc": need_soc, "left_s": 60.0}
    assert told(-22.0, cycle_s=60.0, fleet=fleet).kw == [pytest.approx(kw)]


def test_storage_has_no_departure() -> None:
    fleet = {"soc": 0.55, "need_soc": 0.6, "left_s": 60.0}
    assert told(-15.0, fleet=fleet, table={"storage": True}).kw == [-15.0]
    assert told(-15.0, fleet=fleet | {"left_s": 8 * HOUR_S}).kw == [-15.0]
