"""What is believed of a station's clock: late messages are not a clock that is behind."""

from gridtide.run.csms.station import BELIEVED_S, TOLD_AGAIN_S, Provision, Station

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


def test_an_event_that_could_not_be_stored_comes_late_and_so_do_those_behind_it() -> None:
    made = station()
    assert not made.waited(WALL_S - 30.0, MONO_S, WALL_S)
    made.note_unstored(WALL_S + 1.0, MONO_S + 1.0)
    assert made.waited(WALL_S + 1.0, MONO_S + 31.0, WALL_S + 31.0)
    assert made.waited(WALL_S + 20.0, MONO_S + 31.0, WALL_S + 31.0)
    assert not made.waited(WALL_S - 3600.0, MONO_S + 31.0, WALL_S + 31.0), (
        "older than what was refused: its clock was set back"
    )


def test_what_waited_is_over_when_an_event_is_of_now_and_after_a_while() -> None:
    made = station()
    made.note_unstored(WALL_S, MONO_S)
    assert not made.waited(WALL_S + 31.0, MONO_S + 31.0, WALL_S + 31.0)
    assert not made.waited(WALL_S + 5.0, MONO_S + 32.0, WALL_S + 32.0)
    made.note_unstored(WALL_S, MONO_S)
    made.note_unstored(WALL_S + 3.0, MONO_S + 3.0)
    late_s = TOLD_AGAIN_S + 2.0
    assert made.waited(WALL_S, MONO_S + late_s, WALL_S + late_s), "from the newest failure on"
    late_s += 2.0
    assert not made.waited(WALL_S, MONO_S + late_s, WALL_S + late_s)
