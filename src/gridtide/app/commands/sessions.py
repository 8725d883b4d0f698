"""`gridtide sessions`: charging sessions as CSV, JSON or charge detail records, and forgetting old ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gridtide.app.commands.site_options import SITE_URL, TokenFile, Url

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

sessions = typer.Typer(help="Charging sessions of a running site.", no_args_is_help=True)


@sessions.callback()
def default() -> None:
    """Keeps the commands apart."""


@sessions.command()
def export(
    start: Annotated[
        str | None, typer.Option("--from", help="Local date or time, as 2026-03-01.", show_default="31 days ago")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Local date or time, not included.", show_default="now")
    ] = None,
    kind: Annotated[
        Literal["csv", "json", "cdr"], typer.Option("--format", help="cdr: charge detail records as in OCPI 2.2.1.")
    ] = "csv",
    station: Annotated[str | None, typer.Option("--station", help="Only this station's.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write to this new file (0600); it names people's cards.")
    ] = None,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """Sessions that began in that time: energy both ways by the stations' registers, and what is missing said."""
    from zoneinfo import ZoneInfo

    from gridtide.app.client import SiteClient, with_query
    from gridtide.app.commands.told import told
    from gridtide.run.credentials import write_secret

    with told():
        if out is not None and out.exists():
            raise ValueError(f"--out is {out}: it exists; give a new file")
        client = SiteClient(url, token_file)
        # People's dates are the site's own.
        zone = ZoneInfo(client.view().timezone) if start or end else ZoneInfo("UTC")
        start_s = None if start is None else local_instant(start, zone, "--from")
        end_s = None if end is None else local_instant(end, zone, "--to")
        data = client.raw(with_query("/sessions", start_s=start_s, end_s=end_s, station=station, format=kind))
        if out is not None:
            write_secret(out, data)
            typer.echo(f"Written to {out}.", err=True)
            return
    typer.echo(data.decode(), nl=kind != "csv")


@sessions.command()
def forget(
    before: Annotated[str, typer.Option("--before", help="Local date or time, as 2025-01-01.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """Delete ended transactions whose last event is older. It cannot be undone."""
    from zoneinfo import ZoneInfo

    from gridtide.app.client import SiteClient
    from gridtide.app.commands.told import told

    if not yes:
        typer.confirm(f"Delete every ended transaction from before {before}?", abort=True, err=True)
    with told():
        client = SiteClient(url, token_file)
        before_s = local_instant(before, ZoneInfo(client.view().timezone), "--before")
        done = client.ask(dict[str, int], "POST", "/forget", {"before_s": before_s}, wait_s=60.0)
    typer.echo(f"{done['changed']} transactions were deleted.")


def local_instant(text: str, zone: "ZoneInfo", field: str) -> float:
    """UTC epoch seconds of a date or time in `zone`, unless it has an offset of its own; raises ValueError naming `field`."""
    from datetime import datetime

    try:
        read = datetime.fromisoformat(text.strip())
        return (read if read.tzinfo is not None else read.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(
            f"{field} is {text[:60]!r}: give a local date or time, as 2026-03-01 or 2026-03-01T10:00"
        ) from None
