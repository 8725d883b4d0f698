"""The page in a real browser over the real server: sign in once, watch, change the limit, stop and go on."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.live.fake_server import Served, served

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists() and shutil.which("chromium") is None,
    reason="chromium is not installed: no browser to look with",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = CHROMIUM if CHROMIUM.exists() else shutil.which("chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(executable), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def site() -> Iterator[Served]:
    with served() as running:
        yield running


class Opened:
    """One page with everything it complained about."""

    def __init__(self, browser: Browser, width: int = 1280) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda asked: self.foreign.append(asked.url))

    def by(self, name: str) -> str:
        """Selector of a part by its test name."""
        return f'[data-test="{name}"]'


@pytest.fixture
def opened(browser: Browser, site: Served) -> Iterator[Opened]:
    """Signed in through the one-time link; must end without a complaint and without a foreign request."""
    one = Opened(browser)
    one.page.goto(f"{site.url}/login?token={site.access.issue_login()}")
    expect(one.page.locator("#site")).to_have_text("Harbour Office")
    yield one
    one.context.close()
    assert one.complaints == []
    assert one.foreign
    assert [url for url in one.foreign if not url.startswith(site.url)] == []


def test_link_opens_the_page_without_the_token_in_its_address(opened: Opened, site: Served) -> None:
    assert opened.page.url == f"{site.url}/"
    (cookie,) = opened.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert opened.page.evaluate("document.cookie") == ""


def test_values_change_by_themselves(opened: Opened) -> None:
    when = opened.page.locator("#when")
    first = when.inner_text()
    expect(when).not_to_have_text(first)
    expect(opened.page.locator(opened.by("site-power"))).to_have_text(re.compile(r"\d"))
    expect(opened.page.locator(opened.by("stale"))).to_be_hidden()
    expect(opened.page.locator("#rows > *").first).to_be_visible()


def test_new_limit_is_kept_and_shown(opened: Opened, site: Served) -> None:
    opened.page.click(opened.by("limit-open"))
    opened.page.fill(opened.by("limit-input"), "480")
    opened.page.fill(opened.by("buffer-input"), "20")
    opened.page.click(opened.by("limit-save"))
    expect(opened.page.locator("#limits")).to_be_hidden()
    expect(opened.page.locator(opened.by("limit"))).to_have_text(re.compile("480"))
    assert site.port.acts == [("set_limit", 480.0, 20.0, "page")]


def test_emergency_stop_and_on_again(opened: Opened, site: Served) -> None:
    page = opened.page
    page.click(opened.by("estop"))
    page.click(opened.by("estop-confirm"))
    expect(page.locator("#state-word")).to_have_text("Emergency stop")
    assert site.port.acts == [("estop", "page")]
    page.click(opened.by("estop-clear"))
    page.click(opened.by("estop-confirm"))
    expect(page.locator(opened.by("estop-clear"))).to_be_hidden()
    expect(page.locator("#state-word")).not_to_have_text("Emergency stop")
    assert site.port.acts[1:] == [("clear_estop", "page")]


def test_vehicle_by_hand_with_a_slash_in_its_id(opened: Opened, site: Served) -> None:
    page = opened.page
    page.locator("#rows").get_by_text("Pool car 4").first.click()
    page.locator(opened.by("override-hold")).locator("visible=true").first.click()
    expect(page.get_by_text("By hand: hold for").first).to_be_visible()
    assert site.port.acts == [("override", "cs07/1", "hold", None, 60.0, "page")]


def test_phone_has_no_sideways_scroll(browser: Browser, site: Served) -> None:
    one = Opened(browser, width=390)
    one.page.goto(site.url)
    expect(one.page.locator("#site")).to_have_text("Harbour Office")
    expect(one.page.locator("#rows > *").first).to_be_visible()
    assert one.page.evaluate("document.documentElement.scrollWidth") <= 390
    one.context.close()
    assert one.complaints == []


def test_without_the_key_one_may_look_but_not_touch(browser: Browser, site: Served) -> None:
    """On this machine; the write is refused and the page says what it needs."""
    one = Opened(browser)
    one.page.goto(site.url)
    expect(one.page.locator("#site")).to_have_text("Harbour Office")
    expect(one.page.locator(one.by("auth"))).to_be_hidden()
    one.page.click(one.by("estop"))
    one.page.click(one.by("estop-confirm"))
    expect(one.page.locator(one.by("auth"))).to_be_visible()
    expect(one.page.locator(one.by("auth"))).to_contain_text("needs its key")
    expect(one.page.locator(one.by("auth")).get_by_role("link", name="Sign in")).to_have_attribute("href", "/login")
    one.context.close()
    assert site.port.acts == []
    assert all("401" in text for text in one.complaints)


def test_page_says_when_its_server_has_ended(browser: Browser) -> None:
    """Ended while the page is open: the stream must not hold the server up, and the page says so."""
    one = Opened(browser)
    with served() as site:
        one.page.goto(site.url)
        expect(one.page.locator("#site")).to_have_text("Harbour Office")
    expect(one.page.locator(one.by("stale"))).to_be_visible()
    one.context.close()
