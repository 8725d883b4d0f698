"""`gridtide test-discharge`, `gridtide profile`, `gridtide clear-faults`: may a station discharge, and does it."""

import re
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gridtide.app.commands.site_options import SITE_URL, AsJson, TokenFile, Url, kw, plain
from gridtide.app.commands.station_tables import show_json

if TYPE_CHECKING:
    from gridtide.run.csms.discharge_timing import Figures

Identity = Annotated[str, typer.Argument(metavar="STATION", help="Its identity.")]
WAIT_S = 900.0
"""A vehicle may have to charge a while first, and to rest before it turns."""
_DURATION = re.compile(r"([0-9]{1,5}(?:\.[0-9]{1,3})?) ?(s|min)")


def try_discharge(
    station: Identity,
    rate: Annotated[str, typer.Option("--rate", help="Power to discharge, as 10kW.")],
    duration: Annotated[str, typer.Option("--duration", help="How long, as 30s or 2min.")] = "30s",
    evse: Annotated[int, typer.Option("--evse", min=1, help="The EVSE's number.")] = 1,
    as_json: AsJson = False,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """Let a car charge, then discharge, and time it: 100 ms from decision to socket, the station's own time apart.

    Drivers, limits and the guard stay above the test. Ends with 1 if it failed or could not begin.
    """
    from gridtide.app.client import SiteClient, parse_power, quoted
    from gridtide.app.commands.exits import FAILED
    from gridtide.app.commands.told import told
    from gridtide.run.csms.discharge_test import TestReport

    with told():
        lasts_s = duration_of(duration, "--duration")
        wish = {"rate_kw": parse_power(rate, "--rate"), "duration_s": lasts_s, "evse": evse}
        if not as_json:
            typer.echo(
                f"Testing {station}: it charges first and must rest before it turns; this takes a minute or two.",
                err=True,
            )
        report = SiteClient(url, token_file).ask(
            TestReport, "POST", f"/stations/{quoted(station)}/test-discharge", wish, wait_s=lasts_s + WAIT_S
        )
    if as_json:
        show_json(report)
    else:
        typer.echo(plain(report.words))
        _figures(report.figures)
    raise typer.Exit(0 if report.figures.verdict == "pass" else FAILED)


def profile(
    station: Identity,
    mode: Annotated[Literal["bidirectional", "charge-only"], typer.Argument(help="Whether it may discharge.")],
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """Let a station discharge (if its dialect can) or not; in force at once and kept over restarts."""
    from gridtide.app.client import SiteClient, quoted
    from gridtide.app.commands.told import told

    with told():
        SiteClient(url, token_file).ask(dict, "POST", f"/stations/{quoted(station)}/mode", {"mode": mode})
    typer.echo(f"{station} is {mode} now.")


def clear_faults(as_json: AsJson = False, url: Url = SITE_URL, token_file: TokenFile = None) -> None:
    """Acknowledge latched faults (the meter's sign, tampering) after you looked; a second time clears nothing."""
    from gridtide.app.client import SiteClient
    from gridtide.app.commands.told import told
    from gridtide.run.csms.views import Cleared

    with told():
        done = SiteClient(url, token_file).ask(Cleared, "POST", "/faults/clear", {})
    if as_json:
        show_json(done)
    else:
        typer.echo(plain(done.words))


def duration_of(text: str, field: str) -> float:
    """Seconds of "30s" or "2min"; raises ValueError naming `field`."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{field} is {text[:40]!r}: give a number and a unit, as 30s or 2min")
    return float(found.group(1)) * (60.0 if found.group(2) == "min" else 1.0)


def _figures(found: "Figures") -> None:
    def seconds(value_s: float | None) -> str:
        return "–" if value_s is None else f"{value_s:.2f} s"

    path = "–" if found.control_path_ms is None else f"{found.control_path_ms:.1f} ms"
    rows = (
        ("Control path", f"{path} (allowed {found.control_budget_ms:.0f} ms)"),
        ("Station: first discharge", seconds(found.station_first_s)),
        (
            "Station: 90 % reached",
            f"{seconds(found.station_reached_s)} (it reports every {seconds(found.report_interval_s)})",
        ),
        ("Before", kw(found.before_kw)),
        ("Allowed by the guard", f"{kw(found.allowed_kw)} of {kw(found.rate_kw)}"),
        ("Mean afterwards", kw(found.mean_kw)),
    )
    for name, value in rows:
        typer.echo(f"  {name + ':':<26}{value}")
