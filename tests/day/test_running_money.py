"""The page's money on a site under way: the next kilowatt begins at the highest interval that closed, also after a restart."""

import pytest
from msgspec import structs

from gridtide.control.site import Settings
from gridtide.market.tariff import billing_period
from gridtide.model.demand import DemandInterval
from gridtide.model.fleet import SiteLimits
from gridtide.model.view import MoneyView
from gridtide.run.store import Store
from gridtide.run.view import Site, Viewer
from gridtide.twin.plant import World
from tests.day import wire_site
from tests.day.wire_site import BUSY_S, START_S, WireSite, on_wire, world
from tests.unit.test_station_routes import TARIFF

MINUTES = structs.replace(TARIFF, interval_s=60)
BEGIN_S = START_S + BUSY_S - 110.0
"""Ten seconds into a minute, less than two minutes before the building goes from 170 to 225 kW."""


def by_minutes(here: World, rule: object, transformer_kw: float) -> Settings:
    """The site's settings with a demand interval of a minute."""
    plain = Settings(table=here.table, limits=SiteLimits(transformer_kw=transformer_kw, static_building_kw=300.0))
    return structs.replace(plain, peak=wire_site.FOLLOWING, cycle_s=wire_site.CYCLE_S, interval=DemandInterval(60.0))


def opened(start_s: float, store: Store | None = None) -> tuple[WireSite, Viewer]:
    wire = WireSite(world(2), start_s=start_s, store=store)
    wire.site._period = lambda now_s: billing_period(MINUTES, now_s)
    place = Site(
        name="Depot", timezone="Europe/Berlin", tariff=MINUTES, wear_per_kwh=0.05, bay_names=("Bay 1", "Bay 2"), stations=2
    )  # fmt: skip
    return wire, Viewer(place, wire.site, lambda _row: "Van")


def test_the_next_kilowatt_of_a_site_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_site, "settings", by_minutes)
    told: list[MoneyView] = []
    peaks_kw: list[float] = []
    counts: list[int] = []

    async def look(wire: WireSite, viewer: Viewer, seconds: float) -> None:
        await wire.after(seconds)
        told.append(viewer.view().money)
        peaks_kw.append(wire.site.state.demand.peak_kw)
        counts.append(viewer._bills.site.count)

    async def scenario() -> WireSite:
        wire, viewer = opened(BEGIN_S)
        wire.start()
        await look(wire, viewer, 20.0)
        await look(wire, viewer, 160.0)
        await wire.stop()
        again, seen = opened(BEGIN_S + 10.0, wire.store)  # the loop has gone on: ten seconds of pause
        counts.append(seen._bills.site.count)
        again.start()
        await look(again, seen, 60.0)
        await again.stop()
        return again

    on_wire(scenario)
    first, second, third = told
    assert (first.next_kw_above_kw, first.next_kw_price) == (0.0, 10.0), "nothing has closed yet"
    assert counts == [0, 3, 3, 4], "of the restart, too"
    assert peaks_kw[1] > 190.0
    assert second.next_kw_above_kw == pytest.approx(peaks_kw[1])
    assert third.next_kw_above_kw == pytest.approx(peaks_kw[2], rel=1e-6)
    assert second.next_kw_price == pytest.approx(10.0)
    assert third.next_kw_price == pytest.approx(10.0)
    fewer_kw = float(second.lines[0].note.split("\u00a0")[0])
    assert second.lines[0].amount == pytest.approx(fewer_kw * 10.0, abs=5.0)
