"""The page's sentence and the line beneath it: what is known, and no more."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gridtide.model.view import VehicleView
from gridtide.run.sentences import NBSP, sentence, subline

NOW_S = 8 * 3600.0 + 86_400.0
"""08:00 on the second day."""


def clock(at_s: float) -> str:
    return f"{int(at_s % 86_400) // 3600:02d}:{int(at_s % 3600) // 60:02d}"


def day(at_s: float) -> str:
    return ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[int(at_s // 86_400) % 7]


def vehicle(number: int = 1, **fields: Any) -> VehicleView:
    base: dict[str, Any] = {
        "evse_id": f"bay-{number}", "bay": f"Bay {number}", "name": "", "state": "resting", "soc": 0.5, "floor_soc": 0.2,
        "window_low_soc": 0.4, "window_high_soc": 0.8, "target_soc": None, "power_kw": 0.0, "setpoint_kw": 0.0,
        "departs_s": None, "departure": "unknown", "departure_note": "", "reason": "", "detail": "", "silent_s": None,
        "max_charge_kw": 11.0, "max_discharge_kw": 11.0, "override": None,
    }  # fmt: skip
    return VehicleView(**{**base, **fields})


def line(*vehicles: VehicleView) -> str:
    return subline(vehicles, clock, now_s=NOW_S, day=day)


def test_no_vehicle_only_where_every_row_is_empty() -> None:
    assert line() == line(vehicle(state="empty")) == "No vehicle is plugged in."
    four = [vehicle(number) for number in range(4)]
    assert line(*four, vehicle(5, state="empty")) == "Four vehicles are plugged in; their departures are not told."
    assert line(vehicle()) == "One vehicle is plugged in; its departure is not told."
    assert subline(four, clock) == "Four vehicles are plugged in; their departures are not told."


def test_who_should_have_left_is_not_on_track() -> None:
    late = vehicle(1, departs_s=NOW_S - 2700.0, departure="on_track")
    fine = vehicle(2, departs_s=NOW_S + 3600.0, departure="met")
    assert line(late, fine) == "One departure is on track; Bay 2 leaves first, at 09:00. Bay 1 is overdue since 07:15."
    assert line(late) == "Bay 1 is overdue since 07:15."
    assert "overdue since Mon 20:00, and one other." in line(
        late, vehicle(2, departs_s=NOW_S - 43_200.0, departure="at_risk")
    )


def test_a_departure_on_another_day_says_which() -> None:
    assert "at Wed 07:00." in line(vehicle(departs_s=NOW_S + 23 * 3600.0, departure="on_track"))
    assert "at 09:00." in line(vehicle(departs_s=NOW_S + 3600.0, departure="on_track"))
    assert "at Tue 09:00." in line(vehicle(departs_s=NOW_S + 7 * 86_400.0 + 3600.0, departure="on_track"))


def test_silence_and_risk_are_told_beside_the_rest() -> None:
    silent = vehicle(1, state="silent", silent_s=300.0, departs_s=NOW_S + 60.0, departure="on_track")
    risky = vehicle(2, departs_s=NOW_S + 60.0, departure="at_risk")
    assert line(silent, risky, vehicle(3)) == (
        f"Bay 2 may leave short. Bay 1 has been silent for 5{NBSP}min. The departure of one vehicle is not told."
    )


@given(
    st.lists(
        st.builds(
            vehicle, st.integers(1, 20), state=st.sampled_from(["empty", "resting", "charging", "giving", "silent"]),
            departs_s=st.none() | st.floats(0.0, 1e6), departure=st.sampled_from(["met", "on_track", "at_risk", "unknown"]),
        ),
        max_size=6,
    )
)  # fmt: skip
def test_every_plugged_vehicle_is_spoken_of(vehicles: list[VehicleView]) -> None:
    said = line(*vehicles)
    assert (said == "No vehicle is plugged in.") == all(v.state == "empty" for v in vehicles)
    assert said.endswith(".")
    assert "  " not in said


def test_fail_safe_tells_the_trouble_or_the_age() -> None:
    assert sentence("safe", 450.0, 0.0, [], 12.0) == (
        f"No discharge: the meter cannot be trusted, last good reading 12{NBSP}s ago."
    )
    told = sentence("safe", 450.0, 0.0, [], 0.4, trouble="the meter's value has not changed for 30 s")
    assert told == "No discharge: the meter's value has not changed for 30 s."
