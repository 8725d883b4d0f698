"""A demo that plans ahead, over real sockets: its plan comes by itself, and page, API and terminal tell the same one."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from playwright.sync_api import Browser, expect

from gridtide.app.client import SiteClient, SiteError
from gridtide.model.plan_view import PlanView
from tests.live.test_demo import _addresses
from tests.live.test_page import Opened, browser, pytestmark

__all__ = ["browser", "pytestmark"]
PLANNED_WITHIN_S = 60.0


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[str]:
    """The page's address of a demo with `[planner]`."""
    site, out = tmp_path / "site.toml", tmp_path / "out.log"
    builtin = (resources.files("gridtide.data") / "demo.toml").read_text()
    site.write_text(builtin + "\n[planner]\nenabled = true\n")
    ports = ("--port", "0", "--ocpp-port", "0", "--meter-port", "0", "--exit-after", "150")
    command = [
        sys.executable,
        "-u",
        "-m",
        "gridtide.app.cli",
        "demo",
        "--site",
        str(site),
        "--home",
        str(tmp_path),
        *ports,
    ]
    with out.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield _addresses(out, process)[0]
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0, out.read_text(errors="replace")


def _plan(client: SiteClient) -> PlanView:
    """The first plan; until it is made the site says so, or is too busy to answer."""
    ends, said = time.monotonic() + PLANNED_WITHIN_S, ""
    while time.monotonic() < ends:
        try:
            return client.ask(PlanView, "GET", "/plan")
        except SiteError as error:
            said = str(error)
        time.sleep(0.5)
    raise AssertionError(said)


@pytest.mark.xdist_group("processes")
def test_a_site_plans_by_itself_and_tells_it_everywhere(demo: str, browser: Browser, tmp_path: Path) -> None:
    client = SiteClient(demo, tmp_path / "token")
    plan = _plan(client)
    assert plan.target_kw is not None
    ends = datetime.fromtimestamp(plan.steps[-1].end_s, ZoneInfo(client.view().timezone))
    ahead_s = plan.steps[-1].end_s - plan.steps[0].start_s
    assert ahead_s >= 24 * 3600.0 - 1.0 or (ahead_s >= 8 * 3600.0 - 1.0 and (ends.hour, ends.minute) == (0, 0))
    assert len(plan.vehicles) > 0
    assert plan == msgspec.convert(msgspec.to_builtins(plan), PlanView)
    view = client.view()
    assert view.plan is not None
    assert view.plan.made_s is not None
    assert view.limit_kw == pytest.approx(view.demand.limit_kw)

    command = [
        sys.executable,
        "-m",
        "gridtide.app.cli",
        "status",
        "--url",
        demo,
        "--token-file",
        str(tmp_path / "token"),
    ]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
    assert re.search(r"Plan of \w{3} \d\d:\d\d: holds \d+\.\d kW", told), told

    opened = Opened(browser)
    opened.page.goto(demo)
    expect(opened.page.locator("#plan-say")).to_have_text(re.compile(r"^Plans to hold \d+\skW until "))
    expect(opened.page.locator("#plan-svg path.st")).to_have_count(1)
    opened.context.close()
    assert opened.complaints == []
