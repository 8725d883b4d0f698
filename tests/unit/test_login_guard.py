"""Budgets of failed logins, the list of strangers, and the judgement of an attempt: without sockets, on a clock in hand."""

import asyncio
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtide.run.admission import Admission, Admitted, Attempt, Refusal
from gridtide.run.clock import LoopClock
from gridtide.run.credentials import Credentials, basic_header
from gridtide.run.csms.registry import StationEntry
from gridtide.run.doors import RegistryDoors, StationDoor, TlsVersion, check_switch
from gridtide.run.login_guard import GuardLimits, LoginGuard, Reason
from gridtide.run.tls import PeerCertificate, peer_certificate


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.clock = LoopClock(lambda: self.now_s, 1.7e9)


def guard(limits: GuardLimits | None = None) -> tuple[LoginGuard, Time, list[tuple[str, str, str]]]:
    time = Time()
    told: list[tuple[str, str, str]] = []
    return LoginGuard(time.clock, lambda *words: told.append(words), limits), time, told


def test_a_budget_is_spent_and_comes_back() -> None:
    watch, time, _ = guard(GuardLimits(address_failures=3, address_failures_per_s=0.5))
    fails = [watch.failed("", "192.0.2.1", "192.0.2.1:5", "malformed identity") for _ in range(5)]
    assert fails == [False, False, False, True, True]
    assert not watch.worth_scrypt("192.0.2.1")
    assert watch.worth_scrypt("192.0.2.2")
    assert not watch.failed("", "192.0.2.2", "x", "malformed identity"), "another address has its own"
    time.now_s = 2.0
    assert watch.worth_scrypt("192.0.2.1")
    assert not watch.failed("", "192.0.2.1", "x", "malformed identity")
    assert watch.failed("", "192.0.2.1", "x", "malformed identity")
    time.now_s = 1e6
    assert [watch.failed("", "192.0.2.1", "x", "malformed identity") for _ in range(4)] == [False] * 3 + [True]


def test_an_identity_has_a_budget_over_all_addresses() -> None:
    watch, _, _ = guard(GuardLimits(identity_failures=3))
    fails = [watch.failed("bay-1", f"192.0.2.{n}", "x", "wrong password") for n in range(5)]
    assert fails == [False, False, False, True, True]
    assert not watch.failed("bay-2", "192.0.2.9", "x", "wrong password")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("unknown", "unknown", True),
    ],
)
def test_whoever_holds_a_network_has_one_budget(one: str, other: str, same: bool) -> None:
    watch, _, _ = guard(GuardLimits(address_failures=1))
    watch.failed("", one, "x", "malformed identity")
    assert watch.failed("", other, "x", "malformed identity") == same


def test_right_logins_of_one_station_have_a_budget_of_their_own() -> None:
    watch, time, told = guard(GuardLimits(identity_connects=2, identity_connects_per_s=1))
    for _ in range(50):
        watch.failed("bay-1", "192.0.2.1", "x", "wrong password")
    assert [watch.may_connect("bay-1", "p") for _ in range(3)] == [True, True, False], (
        "failures of others cost it nothing"
    )
    assert told[-1] == ("bay-1", "p", "too many attempts")
    assert watch.may_connect("bay-2", "p")
    time.now_s = 1.0
    assert watch.may_connect("bay-1", "p")


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=120))
def test_memory_is_bounded_whoever_comes(remembered: int, steps: list[tuple[int, bool]]) -> None:
    watch, _, _ = guard(GuardLimits(remembered=remembered, knocks=remembered))
    for number, known in steps:
        reason: Reason = "wrong password" if known else "unknown station"
        watch.failed(f"bay-{number}", f"192.0.2.{number}", "x", reason)
        watch.may_connect(f"bay-{number}", "x")
    for budgets in (watch._addresses, watch._identities, watch._connects):
        assert len(budgets) <= remembered
    assert len(watch.knocked()) <= remembered
    assert sum(watch.refused.values()) >= len(steps)


def test_strangers_are_listed_latest_first_and_can_be_forgotten() -> None:
    watch, time, told = guard(GuardLimits(knocks=2))
    for at_s, name in ((1.0, "a"), (2.0, "b"), (3.0, "a"), (4.0, "c")):
        time.now_s = at_s
        watch.failed(name, "192.0.2.1", f"192.0.2.1:{at_s:.0f}", "unknown station")
    first, second = watch.knocked()
    assert (first.identity, second.identity) == ("c", "a"), "the least recent one, b, had to go"
    assert (second.count, second.peer) == (2, "192.0.2.1:3")
    assert (second.first_seen_s, second.last_seen_s) == (1.7e9 + 1.0, 1.7e9 + 3.0)
    assert watch.forget_knock("a")
    assert not watch.forget_knock("a")
    assert [one.identity for one in watch.knocked()] == ["c"]
    assert len(told) == 4
    assert watch.refused["unknown station"] == 4


def test_known_stations_and_malformed_names_are_no_strangers() -> None:
    watch, _, _ = guard()
    for identity, reason in (
        ("bay-1", "wrong password"),
        ("", "malformed identity"),
        ("bay-1", "wrong security profile"),
    ):
        watch.failed(identity, "192.0.2.1", "x", reason)  # type: ignore[arg-type]
    assert watch.knocked() == ()


# --- judgement --------------------------------------------------------------------------------------------------------
CERTIFICATE = PeerCertificate(serial="SN-1", operator="Tests", number=7, not_after_s=1.7e9 + 10.0)
DOOR = StationDoor(security_profile=3, serial="SN-1")


class OneDoor:
    """The same door for `bay-1` and nobody else."""

    def __init__(self, door: StationDoor) -> None:
        self._one = door

    def door(self, identity: str) -> StationDoor | None:
        return self._one if identity == "bay-1" else None


def judge(door: StationDoor, attempt: Attempt, *, now_s: float = 0.0, registry: dict[str, str] | None = None) -> str:
    """`in`, or why not."""
    watch, time, _ = guard()
    time.now_s = now_s
    credentials = Credentials()
    lookup = None if registry is None else registry.get
    verdict = asyncio.run(Admission(credentials, watch, time.clock, OneDoor(door), lookup).judge(attempt))
    return "in" if isinstance(verdict, Admitted) else verdict.reason


def by_certificate(**changed: object) -> Attempt:
    fields: dict[str, object] = {
        "path": "/ocpp/bay-1", "address": "192.0.2.1", "peer": "192.0.2.1:1", "tls": "1.3", "certificate": CERTIFICATE,
        **changed,
    }  # fmt: skip
    return Attempt(**fields)  # type: ignore[arg-type]


def test_a_certificate_of_the_station_opens_its_door() -> None:
    assert judge(DOOR, by_certificate(operator="Tests", revoked=frozenset({8}))) == "in"
    assert judge(DOOR, by_certificate(), registry={"SN-1": "bay-1"}) == "in"


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (by_certificate(path="/ocpp/bay-2"), "unknown station"),
        (by_certificate(path="/ocpp/"), "malformed identity"),
        (by_certificate(certificate=None), "no certificate"),
        (by_certificate(revoked=frozenset({7})), "certificate revoked"),
        (by_certificate(operator="Others"), "certificate of another"),
        (by_certificate(certificate=PeerCertificate("SN-2", "Tests", 7, 1.8e9)), "certificate of another"),
        (by_certificate(certificate=PeerCertificate("bay-1", "Tests", 7, 1.8e9)), "certificate of another"),
        (by_certificate(certificate=PeerCertificate("sn-1", "Tests", 7, 1.8e9)), "certificate of another"),
        (by_certificate(tls="1.2"), "TLS version too old"),
        (by_certificate(tls=None), "wrong security profile"),
    ],
)
def test_any_other_certificate_does_not(attempt: Attempt, reason: str) -> None:
    assert reason in get_args(Reason)
    assert judge(DOOR, attempt) == reason


def test_dates_are_read_again_at_every_connection() -> None:
    assert judge(DOOR, by_certificate(), now_s=9.9) == "in"
    assert judge(DOOR, by_certificate(), now_s=10.0) == "certificate expired"


def test_a_door_without_a_serial_number_opens_for_no_certificate() -> None:
    nameless = by_certificate(certificate=PeerCertificate("", "", 7, 1.8e9))
    assert judge(StationDoor(security_profile=3), nameless) == "certificate of another"


def test_a_serial_number_registered_for_another_station_opens_nothing() -> None:
    assert judge(DOOR, by_certificate(), registry={"SN-1": "bay-2"}) == "certificate of another"


def test_a_station_that_is_switched_off_stays_out() -> None:
    assert judge(StationDoor(security_profile=3, serial="SN-1", enabled=False), by_certificate()) == "station disabled"


@pytest.mark.parametrize(
    ("now", "then", "tls", "certificate", "profile"),
    [
        (1, None, False, False, 1), (1, None, True, False, None), (1, None, True, True, None),
        (2, None, True, False, 2), (2, None, True, True, 2), (2, None, False, False, None),
        (3, None, True, True, 3), (3, None, True, False, 3), (3, None, False, False, None),
        (1, 2, False, False, 1), (1, 2, True, False, 2),
        (2, 3, True, False, 2), (2, 3, True, True, 3), (2, 3, False, False, None),
    ],
)  # fmt: skip
def test_a_station_connects_as_it_is_configured(
    now: int, then: int | None, tls: bool, certificate: bool, profile: int | None
) -> None:
    door = StationDoor(security_profile=now, next_profile=then)  # type: ignore[arg-type]
    assert door.profile_for(tls, certificate) == profile


@pytest.mark.parametrize("tls", [None, "1.2", "1.3"])
def test_without_doors_a_password_opens_what_the_listener_offers(tls: TlsVersion | None) -> None:
    watch, time, _ = guard()
    credentials = Credentials()
    password = credentials.issue("bay-1")
    admission = Admission(credentials, watch, time.clock)

    def verdict(identity: str, *headers: str) -> Admitted | Refusal:
        attempt = Attempt(path=f"/{identity}", authorization=headers, address="192.0.2.1", peer="x", tls=tls)
        return asyncio.run(admission.judge(attempt))

    right = basic_header("bay-1", password)
    assert verdict("bay-1", right) == Admitted("bay-1", 1 if tls is None else 2, password)
    assert verdict("bay-1") == Refusal("no credentials", 401)
    assert verdict("bay-1", right, right) == Refusal("no credentials", 401)
    assert verdict("bay-1", basic_header("bay-1", "x" * 20)) == Refusal("wrong password", 401)
    assert verdict("bay-2", basic_header("bay-2", password)) == Refusal("unknown station", 401)


@pytest.mark.parametrize(
    ("subject", "serial", "operator"),
    [
        ([("commonName", "SN-1"), ("organizationName", "Tests")], "SN-1", "Tests"),
        ([("commonName", "SN-1"), ("commonName", "SN-2")], "", ""),
        ([("organizationName", "A"), ("organizationName", "B"), ("commonName", "SN-1")], "SN-1", ""),
        ([], "", ""),
    ],
)
def test_a_name_given_twice_is_no_name(subject: list[tuple[str, str]], serial: str, operator: str) -> None:
    found = {
        "subject": tuple((part,) for part in subject),
        "serialNumber": "0A",
        "notAfter": "Nov 14 22:13:20 2023 GMT",
    }
    assert peer_certificate(found) == PeerCertificate(serial, operator, 10, 1.7e9)
    assert peer_certificate({}) is None
    assert peer_certificate(None) is None


def test_profiles_go_up_and_never_back_to_plain() -> None:
    for now, then in ((1, 2), (1, 3), (2, 3), (2, 2)):
        check_switch(now, then, version="2.0.1")  # type: ignore[arg-type]
    check_switch(3, 2, version="2.1", downgrade_allowed=True)
    for now, then, version, allowed in (
        (3, 2, "2.0.1", True), (3, 2, "2.1", False), (2, 1, "2.1", True), (3, 1, "2.1", True), (3, 1, "2.0.1", False),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="security_profile is"):
            check_switch(now, then, version=version, downgrade_allowed=allowed)  # type: ignore[arg-type]


def test_the_doors_of_the_registry_follow_it() -> None:
    stations: dict[str, StationEntry] = {}
    doors = RegistryDoors(stations)
    assert doors.door("bay-1") is None
    stations["bay-1"] = StationEntry(identity="bay-1", serial="SN-1", security_profile=3, tls_min="1.2", enabled=False)
    assert doors.door("bay-1") == StationDoor(security_profile=3, serial="SN-1", tls_min="1.2", enabled=False)
    del stations["bay-1"]
    assert doors.door("bay-1") is None
