"""Options that cannot be meant: exit code 2, and a message that names the option, its value and the cure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gridtide.app.cli import app
from gridtide.app.commands.demo_home import STORE, fresh_store
from gridtide.app.commands.emulate import check_csms, read_passwords
from gridtide.app.commands.options import instant_of, zone_of

SITE = """
[site]
name = "Options"
timezone = "Europe/Berlin"
[grid]
transformer_kw = 900
[peak]
limit_kw = 450
[[stations]]
id = "bay"
charge_kw = 11
[server]
web = "0.0.0.0:8080"
"""


def told(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 2, done.output
    return done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("demo", "--model", "foo"), "--model is 'foo': give fast or measured_v2g"),
        (("demo", "--start", "garbage"), "--start is 'garbage': give a local date and time"),
        (("demo", "--port", "8081", "--ocpp-port", "8081"), "--ocpp-port is 8081: that is --port too"),
        (("emulate", "meter", "--port", "99999"), "65535"),
        (("emulate", "meter", "--timezone", "Nowhere/No"), "--timezone is 'Nowhere/No': give an IANA name"),
        (("emulate", "meter", "--preset", "foo"), "--preset is 'foo'"),
        (("emulate", "station", "--csms", "foo"), "--csms is 'foo': give the address"),
        (("emulate", "station", "--soc", "1.5"), "less than or equal to 1"),
        (("emulate", "station", "--charge-kw", "nan"), "less than or equal to 1000"),
        (("emulate", "station", "--stay-h", "0"), "--stay-h'"),
        (("emulate", "station", "--passwords", "none/of/it"), "--passwords is none/of/it"),
    ],
)
def test_what_cannot_be_meant_is_told(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    where = ("--home", str(tmp_path)) if words[0] == "demo" else ()
    assert said in told(*words, *where)
    assert list(tmp_path.iterdir()) == []


def test_an_offset_is_respected_and_a_plain_time_is_local() -> None:
    zone = zone_of("Europe/Berlin")
    assert instant_of("2019-05-29T10:26", zone) == instant_of("2019-05-29T08:26+00:00", zone)
    assert instant_of("2019-05-29T10:26Z", zone) - instant_of("2019-05-29T10:26", zone) == 7200.0


def _refusal(read: Callable[[Any], object], what: object) -> str:
    """The message of the ValueError that `read` raises, or nothing."""
    try:
        read(what)
    except ValueError as error:
        return str(error)
    return ""


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (zone_of, lambda value: instant_of(value, zone_of("UTC")), check_csms):
        assert (_refusal(read, text) or "--").startswith("--")


@pytest.mark.parametrize(
    ("text", "said"), [("", "holds no station"), ("bay-1\n", ":1: there is no password"), ("a b\na c\n", ":2: ")]
)
def test_a_password_file_is_told_by_its_line_without_its_secrets(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "passwords.txt"
    path.write_text(text)
    path.chmod(0o600)
    output = told("emulate", "station", "--passwords", str(path))
    assert said in output
    path.write_text("bay-1 secret\n\nbay-2 of two words \n")
    assert read_passwords(path) == {"bay-1": "secret", "bay-2": "of two words"}


@given(st.binary(max_size=60))
def test_any_password_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-passwords"
    path.write_bytes(data)
    path.chmod(0o600)
    refusal = _refusal(read_passwords, path)
    assert str(path) in refusal if refusal else all(read_passwords(path).values())


def test_a_demo_removes_its_own_store_and_nothing_else(tmp_path: Path) -> None:
    with fresh_store(tmp_path) as store:
        store.write_text("old")
        (store.parent / "theirs.txt").write_text("kept")
        with pytest.raises(ValueError, match="another demo runs there"), fresh_store(tmp_path):
            pass
        assert store.read_text() == "old"
    with fresh_store(tmp_path) as store:
        assert not store.exists()
        assert (store.parent / "theirs.txt").read_text() == "kept"


def test_a_store_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / STORE).write_text("a real site's")
    with pytest.raises(ValueError, match="no demo made"), fresh_store(tmp_path):
        pass
    assert (tmp_path / "demo" / STORE).read_text() == "a real site's"


def test_other_machines_need_leave_and_check_says_so(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    assert "needs server.allow_remote" in CliRunner().invoke(app, ["check", str(path), "--no-data"]).output
    path.write_text(SITE + "allow_remote = true\n")
    assert "server.names is empty" in CliRunner().invoke(app, ["check", str(path), "--no-data"]).output
    path.write_text(SITE + 'allow_remote = true\nnames = ["site.example", "a b"]\n')
    assert "server.names[2]" in told("check", str(path), "--no-data")
    path.write_text(SITE)
    assert "server.allow_remote = true" in told("run", str(path), "--home", str(tmp_path / "home"))
    assert list((tmp_path / "home").iterdir()) == []
