"""The commands about stations, tokens, OCPP calls, tests and sessions against a real site and its API in this process."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gridtide.app.cli import app
from gridtide.app.commands.discharge import duration_of
from gridtide.app.commands.ocpp import payload_of
from gridtide.app.commands.sessions import local_instant
from gridtide.app.commands.tokens import expiry_of
from gridtide.app.web.server import listen, serve
from gridtide.run.csms.discharge_test import TestReport
from gridtide.run.csms.discharge_timing import Measured, Sample, judge, sentence
from gridtide.run.csms.operate import CallOutcome
from gridtide.run.login_guard import LoginGuard
from tests.unit.test_station_routes import CARD, TOKEN, Face

Run = Callable[..., Any]


class FromZero(asyncio.SelectorEventLoop):
    """Real time that begins with the loop: what happens must not depend on how long the machine has been up."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        super().__init__()

    def time(self) -> float:
        return time.monotonic() - self._began_s


class Live:
    """A face in a thread of its own, on real time."""

    def __init__(self) -> None:
        self.face: Face
        self.url = ""
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=self._live)

    def _live(self) -> None:
        with asyncio.Runner(loop_factory=FromZero) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        with listen("127.0.0.1", 0) as listener:
            number = listener.getsockname()[1]
            self.face = Face(port=number)
            self.face.guard = LoginGuard(self.face.wire.clock)
            self.face.wire.start()
            started = asyncio.Event()
            serving = asyncio.ensure_future(serve(self.face.app, listener, started=started))
            await started.wait()
            self.url = f"http://127.0.0.1:{number}"
            self._ready.set()
            await self._stop.wait()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await self.face.wire.stop()

    def do(self, act: Callable[[], Any]) -> Any:
        """Run `act` on the site's own thread."""

        async def acted() -> Any:
            found = act()
            return await found if asyncio.iscoroutine(found) else found

        return asyncio.run_coroutine_threadsafe(acted(), self._loop).result(10.0)

    def __enter__(self) -> "Live":
        self._thread.start()
        assert self._ready.wait(20.0), "the site did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20.0)
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def site() -> Iterator[Live]:
    with Live() as running:
        wire, deadline = running.face.wire, time.monotonic() + 20.0
        while time.monotonic() < deadline:
            # The emulated stations boot, and the meter earns its trust, in real time.
            if wire.csms.stations["bay-1"].transactions and wire.site.decision and wire.site.decision.state == "ok":
                break
            time.sleep(0.05)
        yield running


@pytest.fixture
def run(site: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("GRIDTIDE_HOME", str(tmp_path))
    monkeypatch.setenv("GRIDTIDE_URL", site.url)
    monkeypatch.setenv("COLUMNS", "200")
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN + "\n")

    def invoke(*words: str, code: int = 0, **more: Any) -> Any:
        done = CliRunner().invoke(app, list(words), **more)
        assert done.exit_code == code, f"{done.exit_code}: {done.stdout}{done.stderr}{done.exception!r}"
        return done

    return invoke


def test_stations_are_listed_and_shown(run: Run) -> None:
    table = run("stations").stdout
    assert "bay-1" in table
    assert "online" in table
    assert {row["identity"] for row in json.loads(run("stations", "list", "--json").stdout)} >= {"bay-1", "bay-2"}
    shown = run("stations", "show", "bay-2").stdout
    assert "Cannot discharge: No vehicle is in a transaction here." in shown
    assert json.loads(run("stations", "show", "bay-1", "--json").stdout)["station"]["identity"] == "bay-1"
    assert "no station 'x'" in run("stations", "show", "x", code=2).stderr


def test_add_and_remove_with_the_password_told_once(site: Live, run: Run, tmp_path: Path) -> None:
    done = run("stations", "add", "yard-1", "--evses", "2", "--charge", "22kW", "--discharge", "10kW")
    password = done.stdout.strip()
    assert site.face.credentials.accepts("yard-1", password)
    evses = json.loads(run("stations", "show", "yard-1", "--json").stdout)["registered"]["evses"]
    assert [(one["id"], one["charge_kw"], one["discharge_kw"]) for one in evses] == [(1, 22, 10), (2, 22, 10)]
    out = tmp_path / "password"
    done = run("stations", "add", "yard-2", "--out", str(out))
    assert done.stdout == ""
    assert out.stat().st_mode & 0o777 == 0o600
    assert site.face.credentials.accepts("yard-2", out.read_text().strip())
    assert "it exists" in run("stations", "add", "yard-3", "--out", str(out), code=2).stderr
    assert "yard-3" not in site.face.wire.csms.stations
    assert "unit" in run("stations", "add", "yard-3", "--charge", "22", code=2).stderr
    run("stations", "remove", "yard-1")
    assert "no station" in run("stations", "remove", "yard-1", code=2).stderr


def test_knocked_and_accept(site: Live, run: Run) -> None:
    assert "Nobody" in run("stations", "knocked").stdout
    site.do(lambda: site.face.guard.failed("st\x1b[2Jranger", "10.0.0.9", "10.0.0.9:7", "unknown station"))
    assert "\x1b[2J" not in run("stations", "knocked").stdout
    site.do(lambda: site.face.guard.failed("stranger", "10.0.0.9", "10.0.0.9:7", "unknown station"))
    assert "10.0.0.9:7" in run("stations", "knocked").stdout
    password = run("stations", "accept", "stranger").stdout.strip()
    assert site.face.credentials.accepts("stranger", password)
    assert "has not knocked" in run("stations", "accept", "nobody", code=2).stderr


def test_a_group_without_a_command_lists_as_json_too(run: Run) -> None:
    assert "bay-1" in {row["identity"] for row in json.loads(run("stations", "--json").stdout)}
    assert isinstance(json.loads(run("tokens", "--json").stdout), list)
    assert "behind the command" in run("stations", "--json", "show", "bay-1", code=2).stderr
    assert "behind the command" in run("tokens", "--json", "list", code=2).stderr


def test_words_that_cannot_be_meant_are_told_with_a_cure(run: Run) -> None:
    """Not as the schema's regular expressions."""
    for told in (
        run("stations", "add", "yard 4", code=2).stderr, run("stations", "add", "yard-4", "--dialect", "q", code=2).stderr,
        run("stations", "accept", "x", "--dialect", "q", code=2).stderr,
        run("tokens", "add", "c", "--departure", "25:00", code=2).stderr,
        run("tokens", "add", "c", "--departure", "17:30+02:00", code=2).stderr,
    ):  # fmt: skip
        assert "give" in told
        assert "regex" not in told
        assert "enum" not in told
    run("tokens", "add", "early", "--departure", "7:30")
    assert "07:30" in [one["departure"] for one in json.loads(run("tokens", "--json").stdout)]
    assert "b'" not in run("ocpp", "call", "bay-1", "Reset", "{", code=2).stderr


def test_who_knocked_is_accepted_on_any_profile(site: Live, run: Run) -> None:
    site.do(lambda: site.face.guard.failed("tls-1", "10.0.0.9", "10.0.0.9:7", "unknown station"))
    assert "serial" in run("stations", "accept", "tls-1", "--security-profile", "3", code=2).stderr
    words = ("--security-profile", "3", "--serial", "SN-1", "--charge", "22kW", "--json")
    assert json.loads(run("stations", "accept", "tls-1", *words).stdout)["identity"] == "tls-1"
    entry = json.loads(run("stations", "show", "tls-1", "--json").stdout)["registered"]
    assert (entry["security_profile"], entry["serial"], entry["evses"][0]["charge_kw"]) == (3, "SN-1", 22)


def test_a_password_in_a_file_is_not_told_in_json(site: Live, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "secret"
    told = run("stations", "add", "yard-5", "--json", "--out", str(out)).stdout
    assert json.loads(told) == {"identity": "yard-5"}
    assert site.face.credentials.accepts("yard-5", out.read_text().strip())
    told = run("stations", "add", "yard-6", "--json").stdout
    assert site.face.credentials.accepts("yard-6", json.loads(told)["password"])


def test_rotate_ends_with_one_where_the_station_is_offline(run: Run) -> None:
    run("stations", "add", "far-1")
    assert "not connected" in run("stations", "rotate", "far-1", code=1).stderr
    assert "no password" in run("stations", "rotate", "bay-2", code=2).stderr


def test_tokens(site: Live, run: Run) -> None:
    run("tokens", "add", "AA-1", "--name", "Ann", "--departure", "17:30", "--minimum", "50", "--no-discharge",
        "--expires", "2030-01-31")  # fmt: skip
    (one,) = [t for t in json.loads(run("tokens", "list", "--json").stdout) if t["id_token"] == "AA-1"]
    assert (one["minimum_soc"], one["departure"], one["may_discharge"], one["expires_s"]) == (
        0.5, "17:30", False, 1_896_048_000,
    )  # fmt: skip
    entries = site.face.wire.csms.registry.tokens
    run("tokens", "block", "aa-1")
    assert (entries["ISO14443:aa-1"].status, entries["ISO14443:aa-1"].name) == ("Blocked", "Ann")
    assert "Blocked" in run("tokens").stdout
    run("tokens", "block", "AA-1", "--undo")
    assert (entries["ISO14443:aa-1"].status, entries["ISO14443:aa-1"].name) == ("Accepted", "Ann")
    assert "none of type" in run("tokens", "block", "BB", code=2).stderr
    assert "departure" in run("tokens", "add", "BB", "--departure", "25:00", code=2).stderr
    assert "--expires" in run("tokens", "add", "BB", "--expires", "soon", code=2).stderr
    run("tokens", "remove", "AA-1")
    run("tokens", "remove", "AA-1", code=2)


def test_links_and_qr(site: Live, run: Run, tmp_path: Path) -> None:
    run("tokens", "add", CARD)
    out = tmp_path / "code.svg"
    done = run("tokens", "link", CARD, "--base", "https://site.example", "--qr", str(out))
    address = done.stdout.strip()
    assert address.startswith("https://site.example/driver#")
    assert site.do(lambda: site.face.desk.knows_link(address.partition("#")[2]))
    assert out.read_text().startswith("<?xml")
    assert out.stat().st_mode & 0o777 == 0o600
    local = run("stations", "link", "bay-1", "--qr", "terminal")
    assert f"{site.url}/driver#" in local.stdout
    assert "█" in local.stdout or "▄" in local.stdout
    assert "--base" in local.stderr
    assert "no vehicle" in run("stations", "link", "bay-2", code=2).stderr
    before = len(site.face.wire.store.registry("driver_link"))
    assert "--qr" in run("tokens", "link", CARD, "--qr", "code.png", code=2).stderr
    assert len(site.face.wire.store.registry("driver_link")) == before


def test_ocpp_call(run: Run, tmp_path: Path) -> None:
    text = '{"requestedMessage": "Heartbeat"}'
    assert "status" in json.loads(run("ocpp", "call", "bay-1", "TriggerMessage", text).stdout)
    path = tmp_path / "payload.json"
    path.write_text(text)
    done = json.loads(run("ocpp", "call", "bay-1", "TriggerMessage", f"@{path}", "--json").stdout)
    assert done["status"] == "answered"
    assert done["elapsed_s"] >= 0.0
    assert json.loads(run("ocpp", "call", "bay-1", "TriggerMessage", "-", input=text).stdout)["status"]
    assert "knows no such request" in run("ocpp", "call", "bay-1", "Heartbeat", code=2).stderr
    assert "JSON is" in run("ocpp", "call", "bay-1", "TriggerMessage", "[1]", code=2).stderr
    run("stations", "add", "far-2")
    assert "not connected" in run("ocpp", "call", "far-2", "TriggerMessage", text, code=1).stderr


@pytest.mark.parametrize(
    ("status", "said"), [("error", "answered with an error: NotSupported"), ("failed", "did not answer: NotSupported")]
)
def test_an_ocpp_error_ends_with_one(
    site: Live, run: Run, monkeypatch: pytest.MonkeyPatch, status: str, said: str
) -> None:
    async def refused(*_: object) -> CallOutcome:
        return CallOutcome(status=status, code="NotSupported", description="not here\x1b[2J")  # type: ignore[arg-type]

    monkeypatch.setattr(site.face.desk, "call", refused)
    told = run("ocpp", "call", "bay-1", "Reset", '{"type": "Immediate"}', code=1).stderr
    assert said in told
    assert "\x1b" not in told


def test_test_discharge_tells_figures_and_fails_with_one(site: Live, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No vehicle" in run("test-discharge", "bay-2", "--rate", "5kW", code=1).stdout
    assert "--rate" in run("test-discharge", "bay-1", "--rate", "5", code=2).stderr
    assert "--duration" in run("test-discharge", "bay-1", "--rate", "5kW", "--duration", "5", code=2).stderr
    assert "rate_kw" in run("test-discharge", "bay-1", "--rate", "500kW", code=2).stderr

    async def passed(identity: str, evse: int, rate_kw: float, duration_s: float, actor: str) -> TestReport:
        samples = tuple(Sample(99.0 + k, power) for k, power in enumerate((5.0, 5.0, -5.0, -5.0)))
        figures = judge(
            Measured(rate_kw=rate_kw, asked_s=99.9, decided_s=100.0, sent_s=100.01, allowed_kw=rate_kw, ended_s=104.0,
                     samples=samples)
        )  # fmt: skip
        return TestReport(
            station=identity, evse=evse, at_s=1e9, duration_s=duration_s, words=sentence(figures), figures=figures
        )

    monkeypatch.setattr(site.face.desk, "test_discharge", passed)
    done = run("test-discharge", "bay-1", "--rate", "5kW", "--duration", "2min")
    assert "Passed" in done.stdout
    assert "Control path:" in done.stdout
    found = json.loads(run("test-discharge", "bay-1", "--rate", "5kW", "--json").stdout)
    assert (found["duration_s"], found["figures"]["verdict"]) == (30, "pass")


def test_profile_and_clear_faults(site: Live, run: Run) -> None:
    run("stations", "add", "yard-9")
    run("profile", "yard-9", "charge-only")
    assert site.face.wire.csms.registry.mode("yard-9") == "charge-only"
    run("profile", "yard-9", "perhaps", code=2)
    run("profile", "nowhere", "charge-only", code=2)
    site.do(lambda: site.face.wire.csms.stations["bay-2"].tampered.add(1))
    assert "tampering at bay-2" in run("clear-faults").stdout
    assert json.loads(run("clear-faults", "--json").stdout)["tampered"] == []


def test_sessions_export_erase_and_forget(site: Live, run: Run, tmp_path: Path) -> None:
    csv = run("sessions", "export", "--from", "2026-01-01", "--to", "2026-12-31").stdout
    assert csv.startswith("started,ended,station")
    assert CARD in csv
    assert json.loads(run("sessions", "export", "--format", "json").stdout)[0]["station"] == "bay-1"
    assert json.loads(run("sessions", "export", "--format", "cdr").stdout) == []
    out = tmp_path / "sessions.csv"
    run("sessions", "export", "--out", str(out))
    assert out.stat().st_mode & 0o777 == 0o600
    assert "it exists" in run("sessions", "export", "--out", str(out), code=2).stderr
    assert "--from" in run("sessions", "export", "--from", "then", code=2).stderr
    run("tokens", "erase", CARD, code=1, input="n\n")
    assert CARD in run("sessions", "export").stdout
    assert "events were changed" in run("tokens", "erase", CARD, "--yes").stdout
    assert CARD not in run("sessions", "export").stdout
    assert "0 transactions" in run("sessions", "forget", "--before", "2025-01-01", "--yes").stdout
    assert "before_s" in run("sessions", "forget", "--before", "2090-01-01", "--yes", code=2).stderr


def test_a_wrong_token_changes_nothing(site: Live, run: Run, tmp_path: Path) -> None:
    run("stations", "add", "yard-7")
    (tmp_path / "token").write_text("w" * 43)
    assert "token" in run("stations", "remove", "yard-7", code=1).stderr
    assert "yard-7" in site.face.wire.csms.stations


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30.0), ("2min", 120.0), ("1.5 min", 90.0)])
def test_durations(text: str, seconds: float) -> None:
    assert duration_of(text, "--duration") == seconds


@pytest.mark.parametrize("text", ["30", "-1s", "1h", "", "s"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(ValueError, match="--duration"):
        duration_of(text, "--duration")


def test_words_of_options(tmp_path: Path) -> None:
    from zoneinfo import ZoneInfo

    berlin = ZoneInfo("Europe/Berlin")
    assert local_instant("2026-03-02T11:00", berlin, "--from") == 1_772_445_600.0
    assert local_instant("2026-03-02T10:00+00:00", berlin, "--from") == 1_772_445_600.0
    assert expiry_of("2030-01-31") == 1_896_048_000.0
    assert payload_of('{"a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match="no file"):
        payload_of(f"@{tmp_path}/none")
    with pytest.raises(ValueError, match="JSON has more"):
        payload_of('{"a":"' + "x" * 300_000 + '"}')
