"""The twin's contactors: what opens is at zero, what has welded goes on, whatever is asked."""

import numpy as np

from gridtide.twin import evse
from gridtide.twin.battery import Batteries

YES, NO = np.array([True]), np.array([False])


def battery() -> Batteries:
    def one(value: float) -> np.ndarray:
        return np.array([value])

    return Batteries(one(60.0), one(36.0), one(11.0), one(11.0), one(0.8), one(0.05), one(0.05))


def flowing(power_kw: float) -> tuple[evse.EvseState, evse.Columns]:
    models = evse.columns([evse.MODELS["measured_v2g"]], np.array([0.94]))
    state = evse.command(evse.fresh(1, 25.0), np.array([power_kw]), models)
    return evse.step(state, battery(), models, 25.0, 60.0).state, models


def test_an_open_contactor_is_at_zero_at_once_even_on_a_slow_charger() -> None:
    state, models = flowing(-8.0)
    assert state.power_kw[0] == -8.0
    state = evse.open_contactors(state, YES, NO)
    done = evse.step(state, battery(), models, 25.0, 1.0)
    assert (done.ac_in_kwh[0], done.ac_out_kwh[0]) == (done.standby_kwh[0], 0.0)
    assert not state.welded[0]


def test_a_welded_contactor_keeps_its_power_and_hears_no_setpoint() -> None:
    state, models = flowing(-8.0)
    for asked_kw in (0.0, 5.0, -11.0):
        state = evse.open_contactors(evse.command(state, np.array([asked_kw]), models), YES, YES)
        state = evse.step(state, battery(), models, 25.0, 30.0).state
        assert state.power_kw[0] == -8.0
        assert state.welded[0]
    state = evse.open_contactors(state, NO, YES)
    state = evse.command(state, np.array([0.0]), models)
    assert evse.step(state, battery(), models, 25.0, 30.0).state.power_kw[0] == 0.0


def test_nothing_welds_without_current() -> None:
    state, _ = flowing(0.0)
    assert not evse.open_contactors(state, YES, YES).welded[0]
