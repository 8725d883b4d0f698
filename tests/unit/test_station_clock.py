"""What is believed of a station's clock: late messages are not a clock that is behind."""

from gridtide.run.csms.station import BELIEVED_S, Provision, Station

WALL_S, MONO_S = 1_772_445_600.0, 500.0


def station() -> Station:
    made = Station(Provision(identity="bay-1", rows={1: 0}, dialect="refuse"))
    made.hear_clock(WALL_S, MONO_S, WALL_S)
    return made


def test_a_message_that_was_long_under_way_changes_nothing() -> None:
    made = station()
    made.hear_clock(WALL_S - 15.0, MONO_S + 1.0, WALL_S + 1.0)
    assert made.its_time_s(MONO_S + 2.0, 0.0) == WALL_S + 2.0
    assert made.skew_s == 0.0


def test_a_clock_that_is_ahead_is_believed_at_once() -> None:
    made = station()
    made.hear_clock(WALL_S + 2000.0, MONO_S, WALL_S)
    assert made.its_time_s(MONO_S + 2.0, 0.0) == WALL_S + 2002.0
    assert made.skew_s == 2000.0


def test_a_clock_that_was_set_back_is_believed_when_it_says_so_for_a_while() -> None:
    made = station()
    for second in range(int(BELIEVED_S)):
        made.hear_clock(WALL_S - 2000.0 + second, MONO_S + second, WALL_S + second)
        assert made.skew_s == 0.0
    made.hear_clock(WALL_S - 2000.0 + BELIEVED_S, MONO_S + BELIEVED_S, WALL_S + BELIEVED_S)
    assert made.skew_s == -2000.0
    assert made.its_time_s(MONO_S, 0.0) == WALL_S - 2000.0


def test_a_replay_of_old_messages_is_no_clock_that_is_behind() -> None:
    made = station()
    for second in range(60):
        # A minute of history every second.
        made.hear_clock(WALL_S - 3600.0 + 60.0 * second, MONO_S + second, WALL_S + second)
    assert made.its_time_s(MONO_S, 0.0) == WALL_S


def test_a_station_that_told_nothing_has_our_time_and_no_step_of_ours_reaches_one_that_did() -> None:
    fresh = Station(Provision(identity="bay-1", rows={1: 0}, dialect="refuse"))
    assert fresh.its_time_s(MONO_S, WALL_S) == WALL_S
    assert station().its_time_s(MONO_S + 1.0, 0.0) == WALL_S + 1.0
