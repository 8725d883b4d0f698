"""Grid protection and transformers in a site file: what they become, and what is said of contradictions."""

import pytest

from gridtide.app.config import SiteConfig, parse_site
from gridtide.app.problems import ConfigError

SITE = """
[site]
name = "Test"
timezone = "Europe/Berlin"
[grid]
transformer_kw = 400.0
{grid}
[peak]
limit_kw = 300.0
[[groups]]
name = "deck"
limit_kw = 100.0
{group}
[[stations]]
id = "bay"
charge_kw = 11.0
discharge_kw = 11.0
group = "deck"
[meter]
host = "127.0.0.1"
{meter}
"""
PRESET = 'preset = "janitza_umg"'
POWER_ONLY = '[[meter.register]]\nname = "power_kw"\naddress = 0\nkind = "int32"\nunit = "W"'


def site(grid: str = "", meter: str = PRESET, group: str = "") -> SiteConfig:
    return parse_site(SITE.format(grid=grid, meter=meter, group=group), "site.toml")


def refusal(grid: str, meter: str = PRESET) -> str:
    with pytest.raises(ConfigError) as caught:
        site(grid, meter)
    assert len(caught.value.problems) == 1
    found = caught.value.problems[0]
    return f"{found.field}: {found.text}"


def test_a_meter_that_tells_the_grid_is_watched_by_the_default_profile() -> None:
    live = site().live_settings(0.5).protection
    assert live.grid is not None
    assert (live.grid.profile.name, live.grid.nominal_v, live.is_fast) == ("en50549_1", 230.0, True)
    assert site().settings(60.0).protection.grid is None  # a study has no such meter
    at_60 = (
        site('nominal_hz = 60\nphase_v = 277.0\nprofile = "ieee1547_2018_cat_ii"').live_settings(0.5).protection.grid
    )
    assert at_60 is not None
    assert (at_60.profile.name, at_60.profile.nominal_hz, at_60.nominal_v) == ("ieee1547_2018_cat_ii", 60.0, 277.0)


def test_what_is_not_watched_is_told() -> None:
    for config in (site(meter=POWER_ONLY), site('profile = "off"')):
        assert config.live_settings(0.5).protection.grid is None
        assert not config.live_settings(0.5).protection.is_fast
        assert any("not watched" in note for note in config.notes())
    assert not any("not watched" in note for note in site().notes())


def test_transformers_become_models_in_studies_too() -> None:
    grid = "transformer_kva = 420.0\npower_factor = 0.9\ntransformer_ambient_c = 30.0\ntransformer_tau_s = 7200.0"
    rules = site(grid, group="transformer_kva = 80.0").settings(60.0).protection
    assert rules.site is not None
    unit = rules.site
    assert (unit.rating_kva, unit.power_factor, unit.ambient_c, unit.oil_tau_s) == (420.0, 0.9, 30.0, 7200.0)
    assert rules.groups[0] is not None
    assert rules.groups[0].rating_kva == 80.0
    assert site().settings(60.0).protection.groups == ()
    assert site("load_shed_kw = 50.0").limits().shed_kw == 50.0


@pytest.mark.parametrize(
    ("grid", "meter", "told"),
    [
        ('profile = "ieee1547_2018"', PRESET, "grid.profile: is not for 50 Hz: give default, en50549_1, strict"),
        (
            'profile = "strict"',
            PRESET,
            "grid.profile: leaves the grid where grid codes ask to stay: set allow_nonconforming",
        ),
        ('profile = "vde4105_2018"', POWER_ONLY, "grid.profile: needs a meter that tells frequency_hz and a voltage"),
        ('profile = "none"', PRESET, "grid.profile: give one of"),
        ("nominal_hz = 55", PRESET, "grid.nominal_hz: "),
        (
            "transformer_kva = 100.0\nexport_kw = 200.0",
            PRESET,
            "grid.export_kw: is more than the transformer carries (95 kW)",
        ),
        ("transformer_kva = 200.0\nstatic_building_kw = 300.0", PRESET, "grid.static_building_kw: leaves nothing"),
        ("transformer_kva = -1.0", PRESET, "grid.transformer_kva: "),
    ],
)
def test_a_contradiction_is_told_with_its_cure(grid: str, meter: str, told: str) -> None:
    assert told in refusal(grid, meter)


def test_strict_says_what_it_costs() -> None:
    config = site('profile = "strict"\nallow_nonconforming = true')
    assert config.live_settings(0.5).protection.grid is not None
    assert any("conforms to no grid code" in note for note in config.notes())
