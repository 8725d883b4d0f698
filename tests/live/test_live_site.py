"""Opening and ending a site: whatever fails, nothing stays open, nobody hides it, and the last zero leaves first."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import typer

from gridtide.app import running
from gridtide.app.commands.told import told_running
from gridtide.run import live as live_site
from gridtide.run.clock import WallClock
from gridtide.run.credentials import Credentials
from gridtide.run.live import LiveSite
from gridtide.run.systemd import Notifier, Supervision


class Parts:
    """Stand-ins for what a site owns; `closed` is the order of what happened."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.csms, self.server, self.stations = self, self, dict[str, Any]()
        self.fails = False

    async def tick_forever(self) -> None:
        await asyncio.Event().wait()

    async def run(self) -> None:
        await asyncio.Event().wait()

    def stop_all(self) -> None:
        self.closed.append("stop_all")

    def lessen(self, _share: float) -> bool:
        return False

    def closer(self, name: str, fails: bool = False) -> Any:
        async def close() -> None:
            self.closed.append(name)
            if fails:
                raise OSError(name)

        return type("Closer", (), {"close": staticmethod(close)})()

    def site(self, service_fails: bool = False) -> LiveSite:
        service = self.closer("service", service_fails)
        service.run, service.stop_all, service.clock = self.run, self.stop_all, WallClock()
        service.lessen, service.cycles, service.decision = self.lessen, 0, None
        service.watchers, service.listeners, service.closers = [], [], []
        listener = type("Listener", (), {"server": self.closer("listener", fails=service_fails)})()
        made = LiveSite(service, cast(Any, self), cast(Any, listener), cast(Any, self.closer("store")), Credentials())
        made.meter_server = cast(Any, self.closer("meter"))
        return made


def run(main: Any) -> None:
    asyncio.run(asyncio.wait_for(main, 10.0))


def test_everything_is_closed_once_even_when_closing_fails() -> None:
    parts = Parts()

    async def main() -> None:
        site = parts.site(service_fails=True)
        with pytest.raises(OSError, match="listener"):
            await site.close()
        await site.close()

    run(main())
    assert parts.closed == ["service", "listener", "meter", "store"]


def test_a_site_that_never_ran_leaves_no_coroutine(recwarn: pytest.WarningsRecorder) -> None:
    run(Parts().site().close())
    assert [str(warning.message) for warning in recwarn if "never awaited" in str(warning.message)] == []


def test_a_failing_job_ends_the_site_and_is_raised() -> None:
    parts = Parts()

    async def broken() -> None:
        raise LookupError("job")

    async def main() -> None:
        site = parts.site()
        site.add(broken)
        with pytest.raises(LookupError, match="job"):
            await site.run(asyncio.Event())

    run(main())
    assert parts.closed == ["stop_all", "service", "listener", "meter", "store"]


class Talking:
    """A conversation whose calls leave one a tick."""

    def __init__(self, calls: float, log: Callable[[str], None]) -> None:
        self.session, self.waiting_calls, self._log = self, calls, log

    def tick(self) -> None:
        self.waiting_calls = max(0.0, self.waiting_calls - 1.0)
        self._log(f"left {self.waiting_calls:g}")


@pytest.mark.parametrize("calls", [3.0, float("inf")])
def test_the_last_setpoints_leave_before_the_links_close(calls: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_site, "DRAIN_S", 0.2)
    monkeypatch.setattr(live_site, "DRAIN_STEP_S", 0.001)
    parts = Parts()
    parts.stations["bay"] = type("Station", (), {"conversation": Talking(calls, parts.closed.append)})()

    async def main() -> None:
        stop = asyncio.Event()
        stop.set()
        await parts.site().run(stop)

    run(main())
    assert parts.closed[0] == "stop_all"
    assert parts.closed[-4:] == ["service", "listener", "meter", "store"]
    assert parts.closed[-5] == ("left 0" if calls == 3.0 else "left inf")


def test_a_failing_page_ends_the_site_and_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(*_words: object, **_more: object) -> None:
        raise BrokenPipeError("page")

    monkeypatch.setattr(running, "serve", serve)
    monkeypatch.setattr(running, "create_app", lambda *_: None)
    parts, face = Parts(), running.Face(host="127.0.0.1", port=0, home=tmp_path)
    monkeypatch.setattr(running, "FleetDesk", lambda *_, **_more: type("Desk", (), {"run": parts.run}))
    monkeypatch.setattr(running, "keep_pauses_short", lambda: None)
    monkeypatch.setattr(running, "station_routes", lambda _: None)
    monkeypatch.setattr(running, "driver_routes", lambda *_: [])
    viewer = cast(Any, type("Viewer", (), {"place": ("Site", "UTC"), "plan": None}))

    async def main() -> None:
        with running.bind_page(face) as listener:
            await running.run_with_page(parts.site(), viewer, face, listener, lambda _: None)

    with pytest.raises(BrokenPipeError, match="page"):
        run(main())
    assert parts.closed[-1] == "store"


def test_a_bound_page_port_is_taken_for_the_second(tmp_path: Path) -> None:
    with running.bind_page(running.Face(host="127.0.0.1", port=0, home=tmp_path)) as first:
        second = running.Face(host="127.0.0.1", port=int(first.getsockname()[1]), home=tmp_path)
        with pytest.raises(OSError, match="in use"):
            running.bind_page(second)


def test_other_machines_are_let_in_only_by_leave(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"allow_remote = true"):
        running.bind_page(running.Face(host="0.0.0.0", port=0, home=tmp_path), "site.toml")
    listener: socket.socket = running.bind_page(running.Face(host="0.0.0.0", port=0, home=tmp_path, allow_remote=True))
    listener.close()


def test_an_error_of_a_running_site_is_no_error_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, told_running():
        raise ValueError("a row is 7: give one of 6")
    assert ended.value.exit_code == 1
    assert "failure of its own: ValueError: a row is 7" in capsys.readouterr().err


def test_the_printed_commands_find_this_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    running.greet(running.Face(host="127.0.0.1", port=0, home=tmp_path / "a b"), 8099, "x", said.append)
    told = f"--url http://127.0.0.1:8099 --token-file '{tmp_path / 'a b' / 'token'}'"
    assert [line for line in said if line.endswith(told)] == said[-2:]
    monkeypatch.setenv("GRIDTIDE_HOME", str(tmp_path))
    running.greet(running.Face(host="127.0.0.1", port=0, home=tmp_path), 8080, "x", said.append)
    assert said[-1].endswith("gridtide status")


def test_a_site_whose_cycles_stand_still_ends_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_site, "LOST_S", 0.3)
    parts = Parts()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="no control cycle"):
            await parts.site().run(asyncio.Event())

    run(main())
    assert parts.closed == ["stop_all", "service", "listener", "meter", "store"]


def test_a_store_that_does_not_close_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_site, "STOP_S", 0.3)
    parts = Parts()

    async def hangs() -> None:
        parts.closed.append("hangs")
        await asyncio.Event().wait()

    async def main() -> None:
        site, stop = parts.site(), asyncio.Event()
        site.store.close = hangs  # type: ignore[method-assign]
        site.listener.server.close = hangs  # type: ignore[method-assign]
        stop.set()
        await asyncio.wait_for(site.run(stop), 2.0)

    run(main())
    assert parts.closed == ["stop_all", "service", "hangs", "meter", "hangs"]


class Heard(Notifier):
    """A supervisor that writes down what it is told and when."""

    def __init__(self) -> None:
        super().__init__(Supervision("/nowhere", 0.15))
        self.told: list[tuple[str, int]] = []
        self.site: Any = None

    def _send(self, words: str) -> None:
        self.told.append((words.partition("\n")[0], self.site.cycles))


def test_the_supervisor_is_fed_while_cycles_run_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_site, "HEALTHY_S", 0.4)
    monkeypatch.setattr(live_site, "LOST_S", 1.5)
    parts, heard = Parts(), Heard()

    async def main() -> None:
        site = parts.site()
        parts.online = 2  # type: ignore[attr-defined]
        site.notifier, heard.site = heard, site.service

        async def cycles() -> None:
            for _ in range(10):
                await asyncio.sleep(0.1)
                site.service.cycles += 1
            await asyncio.Event().wait()

        site.add(cycles)
        with pytest.raises(RuntimeError, match="no control cycle"):
            await site.run(asyncio.Event())

    run(main())
    words = [said for said, _ in heard.told]
    # Ready with the first cycle, and on its way out in the end.
    assert heard.told[words.index("READY=1")][1] == 1
    assert words[-1] == "STOPPING=1"
    feeds = [cycle for said, cycle in heard.told if said == "WATCHDOG=1"]
    assert len([cycle for cycle in feeds if cycle < 10]) >= 5
    # 1.5 s without a cycle pass before the end; for the first 0.4 s of them it is fed at most nine times.
    assert len([cycle for cycle in feeds if cycle == 10]) <= 9
