"""The driver's page in a real browser over the real server: see the stay, say what is needed, learn that a link has ended."""

import asyncio
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs
from playwright.sync_api import Browser, Page, expect, sync_playwright

from gridtide.app.web.auth import Access
from gridtide.app.web.driver import driver_routes
from gridtide.app.web.server import create_app, listen, serve
from gridtide.run.csms.driver_links import DriverView, DriverWish, UnknownLink
from tests.live.fake_port import FakePort
from tests.live.page_fixture import NOW_S, TIMEZONE

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
SECRET = "s" * 43
VIEW = DriverView(
    site="Harbour Office", timezone=TIMEZONE, now_s=NOW_S, connected=True, bay="Bay 3", name="Van", state="charging",
    power_kw=7.4, soc=0.62, minimum_soc=0.3, target_soc=0.8, energy_kwh=8.4, missing_kwh=11.4, ready_s=NOW_S + 5_600.0,
    departs_s=NOW_S + 10_968.0, departure="on_track", reason="Charging while there is room: it still needs 11.4 kWh.",
    battery_offered=True, battery_used=True,
)  # fmt: skip
pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists() and shutil.which("chromium") is None,
    reason="chromium is not installed: no browser to look with",
)


class FakeDriver:
    """One stay, and what was asked of it."""

    def __init__(self) -> None:
        self.view, self.wishes, self.ended = VIEW, list[DriverWish](), False

    def knows_link(self, secret: str) -> bool:
        """The one secret, until the stay has ended."""
        return secret == SECRET and not self.ended

    def driver_view(self, secret: str) -> DriverView:
        """The stay as it was left."""
        if not self.knows_link(secret):
            raise UnknownLink("gone")
        return self.view

    async def driver_wish(self, secret: str, wish: DriverWish) -> DriverView:
        """Keep it; refuses departures that are too far off, as the real site does."""
        if wish.energy_kwh is not None and wish.energy_kwh > 100.0:
            raise ValueError("energy_kwh is 200: give less")
        self.wishes.append(wish)
        changes = {
            "departs_s": wish.departs_at_s,
            "minimum_soc": wish.minimum_soc,
            "battery_used": wish.may_discharge,
        }
        self.view = structs.replace(self.view, **{name: value for name, value in changes.items() if value is not None})
        return self.driver_view(secret)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = CHROMIUM if CHROMIUM.exists() else shutil.which("chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(executable), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def url(driver: FakeDriver) -> Iterator[str]:
    ready, held = threading.Event(), list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]]()
    with listen("127.0.0.1", 0) as listener:
        number = listener.getsockname()[1]
        app = create_app(FakePort(), Access("t" * 43, number, time.monotonic), driver_routes(driver, time.monotonic))

        async def run() -> None:
            started = asyncio.Event()
            serving = asyncio.ensure_future(serve(app, listener, started=started))
            held.append((asyncio.get_running_loop(), serving))
            await started.wait()
            ready.set()
            await asyncio.gather(serving, return_exceptions=True)

        thread = threading.Thread(target=asyncio.run, args=(run(),))
        thread.start()
        try:
            assert ready.wait(20.0)
            yield f"http://127.0.0.1:{number}"
        finally:
            loop, serving = held[0]
            loop.call_soon_threadsafe(serving.cancel)
            thread.join(20.0)
            assert not thread.is_alive()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A phone that has opened the link; must end without a complaint and without a foreign request."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, timezone_id="Asia/Tokyo")
    one = context.new_page()
    one.set_default_timeout(15_000)
    complaints, asked = list[str](), list[str]()
    one.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    one.on("pageerror", lambda error: complaints.append(str(error)))
    one.on("request", lambda request: asked.append(request.url))
    one.goto(f"{url}/driver#{SECRET}")
    yield one
    context.close()
    assert [text for text in complaints if "404" not in text and "400" not in text] == []
    assert asked
    assert [address for address in asked if not address.startswith(url)] == []
    assert [address for address in asked if SECRET in address.partition("#")[0]] == []


def test_the_stay_at_a_glance(page: Page) -> None:
    expect(page.locator('[data-test="sentence"]')).to_have_text(re.compile("On track: ready by 17:25"))
    expect(page.locator('[data-test="figure"]')).to_have_text("62%")
    expect(page.locator('[data-test="bay"]')).to_have_text("Bay 3")
    expect(page.locator('[data-test="reason"]')).to_contain_text("still needs")
    expect(page.locator("#facts")).to_contain_text("7.4")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing runs off a phone's edge"


def test_wishes_are_sent_once_and_shown(page: Page, driver: FakeDriver) -> None:
    save = page.locator('[data-test="save"]')
    expect(page.locator('[data-test="leaves"]')).to_have_value("17:25")
    expect(save).to_be_disabled()
    page.locator('[data-test="leaves"]').fill("16:30")
    page.locator('[data-test="battery"]').check()
    page.locator('[data-test="minimum"]').fill("45")
    save.click()
    expect(page.locator('[data-test="saved"]')).to_contain_text("Saved at")
    (wish,) = driver.wishes
    # The site is in Amsterdam, whatever clock the phone shows.
    assert wish.departs_at_s == pytest.approx(NOW_S + 10_968.0 - 3_300.0, abs=31.0)
    assert (wish.may_discharge, wish.minimum_soc, wish.energy_kwh) == (False, 0.45, None)
    expect(save).to_be_disabled()


def test_a_time_that_is_past_is_tomorrows(page: Page, driver: FakeDriver) -> None:
    page.locator('[data-test="leaves"]').fill("08:00")
    expect(page.locator("#leaves-day")).to_have_text("tomorrow")
    page.locator('[data-test="save"]').click()
    expect(page.locator('[data-test="saved"]')).to_contain_text("Saved at")
    assert driver.wishes[0].departs_at_s is not None
    assert 60_000.0 < driver.wishes[0].departs_at_s - NOW_S < 66_000.0


def test_a_refusal_is_told_and_what_was_typed_stays(page: Page, driver: FakeDriver) -> None:
    page.locator('[data-test="energy"]').fill("200")
    page.locator('[data-test="save"]').click()
    expect(page.locator('[data-test="error"]')).to_contain_text("give less")
    expect(page.locator('[data-test="energy"]')).to_have_value("200")
    expect(page.locator('[data-test="save"]')).to_be_enabled()
    assert driver.wishes == []


def test_what_is_unknown_or_not_offered_is_not_asked(page: Page, driver: FakeDriver) -> None:
    driver.view = structs.replace(
        VIEW, soc=None, target_soc=None, minimum_soc=None, departs_s=None, departure="unknown", battery_offered=False
    )
    expect(page.locator('[data-test="figure"]')).to_contain_text("kWh taken")
    expect(page.locator('[data-test="minimum"]')).to_be_hidden()
    expect(page.locator('[data-test="battery"]')).to_be_hidden()


def test_the_end_of_a_stay_ends_the_page(page: Page, driver: FakeDriver) -> None:
    expect(page.locator('[data-test="figure"]')).to_be_visible()
    driver.ended = True
    expect(page.locator('[data-test="sentence"]')).to_have_text("This link is not valid any more.")
    expect(page.locator('[data-test="save"]')).to_be_hidden()


def test_without_a_secret_nothing_is_asked_of_the_site(browser: Browser, url: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    one = context.new_page()
    asked: list[str] = []
    one.on("request", lambda request: asked.append(request.url))
    one.goto(f"{url}/driver")
    expect(one.locator('[data-test="sentence"]')).to_contain_text("needs the link")
    assert not any("/api/" in address for address in asked)
    context.close()
