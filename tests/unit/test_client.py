"""The client without a site: powers as people write them, addresses it refuses, tokens it keeps to itself."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtide.app.client import SiteClient, default_token_file, parse_power
from gridtide.app.commands.site_options import SITE_URL, clock, plain


@pytest.mark.parametrize(
    ("text", "power_kw"),
    [("500kW", 500.0), ("500 kW", 500.0), (" 0.5MW ", 500.0), ("500000W", 500.0), ("1.25 MW", 1250.0), ("0kW", 0.0)],
)
def test_powers(text: str, power_kw: float) -> None:
    assert parse_power(text, "--limit") == pytest.approx(power_kw)


@pytest.mark.parametrize(
    "text",
    ["500", "kW", "", "-5kW", "5e3kW", "nan kW", "infkW", "500kWh", "500mW", "500KW", "5,5kW", "٥kW", "1" * 10 + "kW"],
)
def test_powers_that_are_refused_name_field_and_cure(text: str) -> None:
    with pytest.raises(ValueError, match=r"--limit is .*kW"):
        parse_power(text, "--limit")


@given(st.text(max_size=20))
def test_any_text_is_a_finite_power_or_a_refusal(text: str) -> None:
    try:
        power_kw = parse_power(text, "--limit")
    except ValueError:
        return
    assert 0.0 <= power_kw < 1e12


@given(st.integers(0, 10**9 - 1), st.sampled_from([("W", 1e-3), ("kW", 1.0), ("MW", 1e3)]))
def test_powers_in_every_unit(number: int, unit: tuple[str, float]) -> None:
    assert parse_power(f"{number}{unit[0]}", "--limit") == pytest.approx(number * unit[1])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8080",
        "ftp://127.0.0.1",
        "http://",
        "http://h:99999",
        "http://h:x",
        "http://h/path",
        "http://h?a=1",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="--url"):
        SiteClient(url)


def test_token_never_travels_in_the_clear(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="in the clear"):
        SiteClient("http://site.example:8080", tmp_path / "token")


def test_default_token_is_for_this_machine_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDTIDE_HOME", str(tmp_path))
    assert default_token_file() == tmp_path / "token"
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("t" * 43)
    assert SiteClient(SITE_URL)._authorization(write=False) == {"Authorization": "Bearer " + "t" * 43}
    assert SiteClient("https://site.example")._authorization(write=False) == {}
    with pytest.raises(ValueError, match="--token-file"):
        SiteClient("https://site.example")._authorization(write=True)


@given(st.text())
def test_no_name_steers_the_terminal(text: str) -> None:
    assert all(char.isprintable() for char in plain(text))


@pytest.mark.parametrize(
    ("zone", "told"), [("Europe/Amsterdam", "14:22:12"), ("UTC", "12:22:12"), ("no/where", "12:22:12")]
)
def test_times_of_day_are_the_sites(zone: str, told: str) -> None:
    assert clock(1_781_612_532.0, zone) == told
