"""Station passwords: hashing, choice, rotation without locking a station out, files, and the reading of Basic headers."""

import asyncio
import base64
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtide.run.credentials import (
    MAX_OFFERED,
    CredentialError,
    Credentials,
    basic_header,
    basic_password,
    provision,
    write_secret,
)

CHOSEN = "a-password-an-operator-chose"


def test_a_generated_password_fits_ocpp_and_is_never_the_same() -> None:
    credentials = Credentials()
    made = {credentials.issue("bay-1") for _ in range(50)}
    assert len(made) == 50
    assert all(16 <= len(password) <= 40 for password in made)
    assert len(base64.urlsafe_b64decode(next(iter(made)))) * 8 >= 128
    assert sum(credentials.accepts("bay-1", password) for password in made) == 1


@pytest.mark.parametrize(
    "password", ["", "x" * 15, "x" * 41, "fifteen-chars-ä-and", "line\nbreak-and-more", "a\0-nul-and-some-more"]
)
def test_a_chosen_password_must_fit(password: str) -> None:
    with pytest.raises(CredentialError, match="bay-1") as refusal:
        Credentials().take("bay-1", password)
    assert not password or password not in str(refusal.value)


def test_a_chosen_password_is_kept_as_scrypt_and_a_generated_one_as_sha256(tmp_path: Path) -> None:
    path = tmp_path / "stations.json"
    credentials = Credentials()
    credentials.save(path)
    credentials.take("bay-1", CHOSEN)
    credentials.issue("bay-2")
    kept = msgspec.json.decode(path.read_bytes())
    assert kept["bay-1"]["scheme"] == "scrypt"
    assert kept["bay-2"].get("scheme", "sha256") == "sha256"
    assert Credentials.load(path).accepts("bay-1", CHOSEN)
    assert not Credentials.load(path).accepts("bay-1", CHOSEN + "x")


def test_quick_never_runs_scrypt_and_remembers_what_was_right() -> None:
    credentials = Credentials()
    credentials.take("bay-1", CHOSEN)
    assert credentials.quick("bay-1", CHOSEN) is None
    assert asyncio.run(credentials.check("bay-1", CHOSEN)) is True
    assert credentials.quick("bay-1", CHOSEN) is True
    assert credentials.quick("bay-1", CHOSEN + "x") is None, "a wrong one is not told from an unknown one"
    assert credentials.quick("bay-9", CHOSEN) is False
    credentials.take("bay-1", "another-password-now")
    assert credentials.quick("bay-1", CHOSEN) is None, "a change forgets what was right"
    assert not credentials.accepts("bay-1", CHOSEN)


def test_a_password_changed_while_scrypt_ran_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = Credentials()
    credentials.take("bay-1", CHOSEN)
    real = credentials._verifier

    entry = credentials._entries["bay-1"]
    matches = type(entry).matches

    def changed_meanwhile(self: object, password: str) -> bool:
        right = matches(self, password)  # type: ignore[arg-type]
        credentials._entries["bay-1"] = msgspec.structs.replace(entry)
        return right

    monkeypatch.setattr(type(entry), "matches", changed_meanwhile)
    credentials._slow("bay-1", CHOSEN)
    monkeypatch.undo()
    assert credentials._verified == {}
    assert real("bay-1", "x")


def test_unknown_and_removed_identities_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "stations.json"
    credentials = Credentials()
    credentials.save(path)
    password = credentials.issue("bay-1")
    assert not credentials.accepts("bay-2", password)
    assert credentials.remove("bay-1")
    assert not credentials.remove("bay-1")
    assert not credentials.accepts("bay-1", password)
    assert not Credentials.load(path).known("bay-1")


# --- rotation (A01) ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("first", ["confirmed", "entered"])
def test_the_old_password_ends_once_the_new_one_was_accepted_and_used(tmp_path: Path, first: str) -> None:
    path = tmp_path / "stations.json"
    credentials = Credentials()
    credentials.save(path)
    old = credentials.issue("bay-1")
    new = credentials.rotate("bay-1")
    assert credentials.rotation("bay-1") == "offered"
    assert Credentials.load(path).accepts("bay-1", new), "it is on the disk before any station can hear of it"
    steps: list[Callable[[], object]] = [
        partial(credentials.confirm, "bay-1"),
        partial(credentials.entered, "bay-1", new),
    ]
    for step in steps if first == "confirmed" else reversed(steps):
        assert credentials.accepts("bay-1", old)
        assert credentials.accepts("bay-1", new)
        step()
    assert credentials.rotation("bay-1") == "none"
    credentials.store()
    for kept in (credentials, Credentials.load(path)):
        assert not kept.accepts("bay-1", old)
        assert kept.accepts("bay-1", new)


def test_a_login_with_the_old_password_ends_nothing() -> None:
    credentials = Credentials()
    old = credentials.issue("bay-1")
    new = credentials.rotate("bay-1")
    credentials.confirm("bay-1")
    assert not credentials.entered("bay-1", old)
    assert not credentials.entered("bay-9", new)
    assert credentials.rotation("bay-1") == "accepted"
    assert credentials.accepts("bay-1", old)


def test_a_refused_new_password_ends_and_the_old_one_stays() -> None:
    credentials = Credentials()
    old = credentials.issue("bay-1")
    new = credentials.rotate("bay-1")
    credentials.abandon("bay-1")
    assert not credentials.accepts("bay-1", new)
    assert credentials.accepts("bay-1", old)
    with pytest.raises(CredentialError, match="rotate it first"):
        credentials.confirm("bay-1")


def test_a_lost_answer_locks_nobody_out() -> None:
    """The station may hold any of the passwords that were offered; what is offered without end is bounded."""
    credentials = Credentials()
    old = credentials.issue("bay-1")
    offered = [credentials.rotate("bay-1") for _ in range(MAX_OFFERED)]
    assert all(credentials.accepts("bay-1", password) for password in (old, *offered))
    newest = credentials.rotate("bay-1")
    assert not credentials.accepts("bay-1", offered[0])
    assert not credentials.entered("bay-1", offered[1]), "only the newest one ends a rotation"
    credentials.confirm("bay-1")
    assert credentials.entered("bay-1", newest)
    assert [credentials.accepts("bay-1", one) for one in (old, *offered, newest)] == [False] * 4 + [True]


def test_a_chosen_password_can_be_rotated_too() -> None:
    credentials = Credentials()
    credentials.take("bay-1", CHOSEN)
    assert credentials.accepts("bay-1", CHOSEN)
    new = credentials.rotate("bay-1")
    assert credentials.quick("bay-1", new) is True
    credentials.confirm("bay-1")
    credentials.entered("bay-1", new)
    assert credentials.quick("bay-1", CHOSEN) is False


def test_only_a_known_station_can_be_rotated() -> None:
    for act in (Credentials().rotate, Credentials().confirm, Credentials().abandon, Credentials().rotation):
        with pytest.raises(CredentialError, match="provision the station first"):
            act("bay-1")


# --- files ------------------------------------------------------------------------------------------------------------
def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "stations.json"
    write_secret(path, b'{"bay-1":{"salt":"ab","digest":"1bfe9a5a2a3fb0a2e4b35b4cb8a4ba5b"}}')
    assert Credentials.load(path).known("bay-1")


DAMAGED = [
    b"", b"{", b'{"bay-1":1}', b'{"bay-1":{"salt":"x"}}', b"\xff", b'{"a":{"salt":"","digest":"","scheme":"md5"}}',
]  # fmt: skip


@pytest.mark.parametrize("data", DAMAGED)
def test_a_damaged_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "stations.json"
    write_secret(path, data)
    with pytest.raises(CredentialError, match="damaged"):
        Credentials.load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "stations.json"
    credentials = Credentials()
    credentials.save(path)
    password = credentials.issue("bay-1")
    (tmp_path / "stations.json.new").mkdir()
    with pytest.raises(OSError):
        credentials.issue("bay-1")
    with pytest.raises(OSError):
        credentials.remove("bay-1")
    assert credentials.accepts("bay-1", password)
    assert Credentials.load(path).accepts("bay-1", password)


def test_provisioning_twice_keeps_what_is_right(tmp_path: Path) -> None:
    path = tmp_path / "stations.json"
    issued = provision(path, ["bay-1", "bay-2"], {"bay-2": CHOSEN})
    assert set(issued) == {"bay-1"}
    kept = path.read_bytes()
    assert provision(path, ["bay-1", "bay-2"], {"bay-2": CHOSEN}) == {}
    assert path.read_bytes() == kept, "no new salt for the same password"
    assert set(provision(path, ["bay-3"], {"bay-2": "another-password-now"})) == {"bay-3"}
    assert Credentials.load(path).accepts("bay-1", issued["bay-1"])
    assert Credentials.load(path).accepts("bay-2", "another-password-now")


# --- Basic headers ----------------------------------------------------------------------------------------------------
def test_an_identity_may_hold_colons() -> None:
    header = basic_header("site:7:bay", "pass:word-of-enough-chars")
    assert basic_password(header, "site:7:bay") == "pass:word-of-enough-chars"
    assert basic_password(header, "site") == "7:bay:pass:word-of-enough-chars", "which is not the password of `site`"
    assert basic_password(header, "site:7:ba") is None


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic ",
        "Basic =",
        "Bearer x",
        "Basic " + "QQ" * 300,
        "Basic ä",
        "Basic YmF5LTE=",
        "Basic /w==",
        "basic\tYmF5",
    ],
)
def test_a_malformed_header_proves_nothing(header: str | None) -> None:
    assert basic_password(header, "bay-1") is None


names = st.text("ABCabc0123*+=:|@._-", min_size=1, max_size=48)


@given(names, st.text(st.characters(codec="utf-8"), max_size=40), st.sampled_from(["Basic ", "basic ", "BASIC "]))
def test_what_is_written_is_read(identity: str, password: str, scheme: str) -> None:
    header = scheme + basic_header(identity, password)[6:]
    assert basic_password(header, identity) == password


@given(st.text(max_size=700) | st.binary(max_size=60).map(lambda raw: "Basic " + base64.b64encode(raw).decode()), names)
def test_any_header_is_read_or_refused(header: str, identity: str) -> None:
    password = basic_password(header, identity)
    assert password is None or header.lower().startswith("basic ")


@given(st.text(max_size=50))
def test_any_password_is_compared(password: str) -> None:
    credentials = Credentials()
    right = credentials.issue("bay-1")
    assert credentials.accepts("bay-1", password) == (password == right)
