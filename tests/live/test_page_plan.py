"""The page's plan in a real browser: what is planned and missed in words, and the states in which there is no plan to show."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from litestar import Router
from msgspec import structs
from playwright.sync_api import Browser, Page, expect

from gridtide.app.web.plan import plan_routes
from gridtide.model.plan_view import PlanView
from tests.live.fake_port import FakePort
from tests.live.fake_server import Served, served
from tests.live.plan_fixture import MISSED, FakeDesk, PlannedPort, sample_plan
from tests.live.test_page import Opened, browser, pytestmark

__all__ = ["browser", "pytestmark"]
PHONE = 390


def _routes(port: FakePort) -> list[Router]:
    assert isinstance(port, PlannedPort)
    return [plan_routes(FakeDesk(port))]


@contextmanager
def opened(
    browser: Browser, plan: PlanView | None, *, age_s: float = 0.0, width: int = 1280, scheme: str = "light"
) -> Iterator[tuple[Page, Served]]:
    """The page of a site with this plan; must end without a complaint."""
    with served(make=lambda now: PlannedPort(now, plan, age_s), more=_routes) as site:
        one = Opened(browser, width)
        one.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        one.page.goto(site.url)
        expect(one.page.locator("#site")).to_have_text("Harbour Office")
        yield one.page, site
        one.context.close()
        assert one.complaints == []
        assert [url for url in one.foreign if not url.startswith(site.url)] == []


def test_target_until_when_and_worth(browser: Browser) -> None:
    with opened(browser, sample_plan()) as (page, _):
        expect(page.locator("#plan-say")).to_have_text(re.compile(r"^Plans to hold 444\skW until Wed \d\d:00\.$"))
        expect(page.locator("#plan-note")).to_have_text(re.compile(r"^One kW more of peak would save €\s11\.90\.$"))
        expect(page.locator("#plan-calm")).to_be_visible()
        expect(page.locator("#plan-missed")).to_be_hidden()
        expect(page.locator("#plan-svg path.st")).to_have_attribute("d", re.compile(r"^M[\d.]+ [\d.]+H"))
        expect(page.locator("#plan-svg path.lim")).to_have_count(1)


def test_the_limit_of_the_page_is_the_plans_target(browser: Browser) -> None:
    """The demand clock goes by what is held; the editor by what people set."""
    with opened(browser, sample_plan()) as (page, _):
        expect(page.locator('[data-test="limit"]')).to_have_text(re.compile("444"))
        page.click('[data-test="limit-open"]')
        expect(page.locator("#limit-input")).to_have_value("450")
        expect(page.locator("#limit-hint")).to_contain_text(re.compile(r"The plan holds 444\skW now"))
        page.click("#limit-cancel")
        expect(page.locator("#limits")).to_be_hidden()


def test_what_is_missed_is_told_by_bay_with_how_much_and_why(browser: Browser) -> None:
    with opened(browser, sample_plan(MISSED)) as (page, _):
        items = page.locator("#plan-missed li")
        expect(items).to_have_count(2)
        said = r"^Bay\s7 misses 21\.4\skWh at\s15:12: full power from arrival to departure is not enough\.$"
        expect(items.first).to_have_text(re.compile(said))
        expect(items.last).to_have_text(
            re.compile(r"exceeded by 18\.3\skW .* the building alone is already beyond it\.$")
        )
        expect(page.locator("#plan-calm")).to_be_hidden()


def test_a_tariff_without_a_peak_at_this_hour(browser: Browser) -> None:
    with opened(browser, sample_plan(untargeted_h=2.0)) as (page, _):
        expect(page.locator("#plan-say")).to_have_text(
            re.compile(r"^No peak counts until \d\d:\d\d; then 444\skW is to be held\.$")
        )


def test_first_plan_is_being_made(browser: Browser) -> None:
    with opened(browser, None) as (page, site):
        expect(page.locator("#plan-say")).to_have_text("The first plan is being made.")
        expect(page.locator("#plan-note")).to_contain_text(re.compile(r"own limit of 450\skW"))
        expect(page.locator("#plan-plot")).to_be_hidden()
        assert isinstance(site.port, PlannedPort)
        site.port.plan = sample_plan()
        expect(page.locator("#plan-say")).to_contain_text("Plans to hold")
        expect(page.locator("#plan-plot")).to_be_visible()


@pytest.mark.parametrize(
    ("age_s", "say", "note"),
    [
        (2.0 * 3600.0, "Plans to hold", r"It is 2\sh .*old: a new one could not be made\."),
        (26.0 * 3600.0, "The last plan is over: the site holds its own limit", "A new one could not be made"),
    ],
)
def test_a_plan_that_is_old_or_over(browser: Browser, age_s: float, say: str, note: str) -> None:
    with opened(browser, sample_plan(MISSED), age_s=age_s) as (page, _):
        expect(page.locator("#plan-say")).to_contain_text(say)
        expect(page.locator("#plan-note")).to_contain_text(re.compile(note))
        expect(page.locator("#plan")).to_have_class(re.compile("aged"))


def test_a_new_plan_takes_the_place_of_the_old_one(browser: Browser) -> None:
    with opened(browser, sample_plan(MISSED)) as (page, site):
        expect(page.locator("#plan-missed li")).to_have_count(2)
        assert isinstance(site.port, PlannedPort)
        site.port.plan = structs.replace(sample_plan(), made_s=sample_plan().made_s + 60.0, value_per_kw=3.25)
        expect(page.locator("#plan-note")).to_contain_text("3.25")
        expect(page.locator("#plan-calm")).to_be_visible()
        expect(page.locator("#plan-missed")).to_be_hidden()


def test_a_site_without_foresight_has_no_plan(browser: Browser) -> None:
    with served() as site:
        one = Opened(browser)
        one.page.goto(site.url)
        expect(one.page.locator("#site")).to_have_text("Harbour Office")
        expect(one.page.locator("#rows > *").first).to_be_visible()
        expect(one.page.locator("#plan")).to_be_hidden()
        assert not any("/plan" in url and url.endswith("/plan") for url in one.foreign)
        one.context.close()
        assert one.complaints == []


def test_keys_read_the_hours(browser: Browser) -> None:
    with opened(browser, sample_plan()) as (page, _):
        read = page.locator("#plan-read")
        expect(read).to_have_text(re.compile("^Now: expected load"))
        page.locator("#plan-plot").focus()
        page.keyboard.press("End")
        expect(read).to_have_text(re.compile(r"^\d\d:00 to \d\d:00: expected load .* planned for up to"))
        page.keyboard.press("Escape")
        expect(read).to_have_text(re.compile("^Now: "))


def test_phone(browser: Browser) -> None:
    """One column, nothing sideways, no word under 11 px, and the chart drawn for its width."""
    with opened(browser, sample_plan(MISSED), width=PHONE) as (page, _):
        expect(page.locator("#plan-missed li")).to_have_count(2)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
        assert page.locator("#plan-svg").evaluate("svg => svg.viewBox.baseVal.width === svg.clientWidth")
        sizes = page.locator("#plan-svg text").evaluate_all(
            "all => all.map(one => parseFloat(getComputedStyle(one).fontSize))"
        )
        assert min(sizes) >= 11.0
        plan, power = page.locator("#plan").bounding_box(), page.locator("#plot").bounding_box()
        assert plan is not None
        assert power is not None
        assert plan["y"] >= power["y"] + power["height"]
