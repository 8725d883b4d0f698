"""The demo itself: real sockets, a real browser, a person who watches, changes the limit and presses the emergency stop."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.live.test_page import Opened, browser  # noqa: F401 - the browser is a fixture
from tests.live.test_page import pytestmark as pytestmark

STARTED_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(page, login link) of a demo on free ports."""
    home = tmp_path_factory.mktemp("demo")
    out = home / "out.log"
    ports = ("--port", "0", "--ocpp-port", "0", "--meter-port", "0")
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-m",
        "gridtide.app.cli",
        "demo",
        *ports,
        "--home",
        str(home),
        "--exit-after",
        "150",
    ]
    with out.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        yield _addresses(out, process)
    finally:
        process.terminate()
        try:
            code = process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            process.wait(timeout=10)
            raise AssertionError(f"the demo does not stop:\n{out.read_text(errors='replace')}") from None
        assert code == 0, out.read_text(errors="replace")


def _addresses(out: Path, process: "subprocess.Popen[bytes]") -> tuple[str, str]:
    ends = time.monotonic() + STARTED_WITHIN_S
    while time.monotonic() < ends and process.poll() is None:
        text = out.read_text(errors="replace")
        found = re.search(r"Page:\s+(\S+)\nOperator:\s+(\S+)", text)
        if found:
            return found[1], found[2]
        time.sleep(0.2)
    raise AssertionError(out.read_text(errors="replace"))


@pytest.mark.xdist_group("processes")
def test_a_person_watches_changes_the_limit_and_stops_everything(demo: tuple[str, str], browser: Browser) -> None:  # noqa: F811
    opened = Opened(browser)
    page = opened.page
    page.goto(demo[1])
    expect(page.locator(opened.by("vehicle-row"))).to_have_count(12)
    expect(page.locator(opened.by("sentence"))).not_to_be_empty()
    first = page.locator(opened.by("site-power")).inner_text()
    expect(page.locator(opened.by("site-power"))).not_to_have_text(first)
    assert re.search(r"\d", page.locator(opened.by("saved")).inner_text())
    expect(page.locator(opened.by("vehicle-row")).filter(has_text=re.compile(r"giving")).first).to_be_visible(
        timeout=45_000
    )

    page.locator(opened.by("limit-open")).click()
    page.locator(opened.by("limit-input")).fill("500")
    page.locator(opened.by("buffer-input")).fill("40")
    page.locator(opened.by("limit-save")).click()
    expect(page.locator(opened.by("limit"))).to_contain_text("500")
    giving = page.locator(opened.by("vehicle-row")).filter(has_text=re.compile(r"giving"))
    expect(giving).to_have_count(0, timeout=20_000)

    page.locator(opened.by("estop")).click()
    page.locator(opened.by("estop-confirm")).click()
    expect(page.locator(opened.by("sentence"))).to_contain_text("Emergency stop")
    page.wait_for_timeout(3_000)
    for text in page.locator(opened.by("vehicle-power")).all_inner_texts():
        assert re.match(r"^[^\d]*0\.?0?\D", text), text
    assert opened.complaints == []
    assert all(url.startswith(demo[0]) for url in opened.foreign), opened.foreign


@pytest.mark.xdist_group("processes")
def test_the_page_fits_a_phone(demo: tuple[str, str], browser: Browser) -> None:  # noqa: F811
    opened = Opened(browser, width=390)
    opened.page.goto(demo[0])
    expect(opened.page.locator(opened.by("vehicle-row"))).to_have_count(12)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
