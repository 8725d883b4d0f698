"""Three second connections within an hour alarm once, until an hour has passed without one."""

import pytest

from gridtide.run.csms.rivals import WINDOW_S, RivalWatch

H = WINDOW_S


@pytest.mark.parametrize(
    ("refused_s", "alarms"),
    [
        ((0, 1, 2), [2]),
        ((0, 1), []),
        ((0, H / 2, H), []),
        ((0, H / 2, H - 1), [2]),
        ((0, 1, 2, 3, 4, 5), [2]),
        # Never quiet for an hour: still the same alarm, a day long.
        (tuple(range(0, 86_400, 1_200)), [2]),
        ((*range(3), *range(3, 86_400, 1_799)), [2]),
        # Quiet for an hour: the next three are a new one.
        ((0, 1, 2, 2 + H, 3 + H, 4 + H), [2, 5]),
        ((0, 1, 2, 1 + H, 2 + H, 3 + H), [2]),
    ],
)
def test_when_people_are_alarmed(refused_s: tuple[float, ...], alarms: list[int]) -> None:
    watch = RivalWatch()
    told = [number for number, at_s in enumerate(refused_s) if watch.refused(1e6 + at_s)]
    assert told == alarms
