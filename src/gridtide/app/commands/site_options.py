"""What commands that talk to a running site share: their options, the exit code of a degraded site, safe text."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gridtide.model.view import SiteView

DEGRADED = 3
"""Exit code: the site runs, but in fail-safe idle or emergency stop."""
SITE_URL = "http://127.0.0.1:8080"
Url = Annotated[str, typer.Option("--url", envvar="GRIDTIDE_URL", help="Address of the running site.")]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", help="The site's token file.", show_default="$GRIDTIDE_HOME/token"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def plain(text: str) -> str:
    """`text` without control characters: names come from cards and stations and must not steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def kw(value_kw: float | None) -> str:
    """A power with its unit, or a dash where it is not known."""
    return "–" if value_kw is None else f"{value_kw:.1f} kW"


def clock(at_s: float, timezone: str, seconds: bool = True) -> str:
    """Local time of day at the site."""
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        zone: ZoneInfo | None = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError):
        zone = None
    return datetime.fromtimestamp(at_s, zone or UTC).strftime("%H:%M:%S" if seconds else "%a %H:%M")


def exit_code(view: "SiteView") -> int:
    """0, or `DEGRADED` in fail-safe idle and emergency stop."""
    return DEGRADED if view.estop or view.state in ("safe", "estop") else 0
