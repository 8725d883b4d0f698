"""How commands print rows and links: tables without frames, texts of others made harmless, QR codes."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridtide.app.commands.site_options import plain

if TYPE_CHECKING:
    from gridtide.app.client import SiteClient

PIPED_COLUMNS = 250
"""Width where no terminal bounds it."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
Qr = Annotated[str | None, typer.Option("--qr", help="Show a QR code too: terminal, or a new .svg file.")]
Base = Annotated[
    str | None, typer.Option("--base", help="The site's address as phones reach it.", show_default="the site's --url")
]


def lists_all(ctx: typer.Context, what: str) -> bool:
    """Whether a group of commands stands alone, which lists everything; options before a command would be lost on it."""
    if ctx.invoked_subcommand is None:
        return True
    given = [name for name in ctx.params if str(ctx.get_parameter_source(name)).endswith("COMMANDLINE")]
    if given:
        raise typer.BadParameter(f"options stand behind the command: gridtide {what} {ctx.invoked_subcommand} …")
    return False


def show_json(value: object) -> None:
    """Print a value as indented JSON."""
    from msgspec import json

    typer.echo(json.format(json.encode(value), indent=1).decode())


def show_table(headings: Sequence[str], rows: Iterable[Sequence[object]], wraps: str = "") -> None:
    """Print rows in columns; the one called `wraps` breaks its lines first, in a narrow terminal the others too."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, markup=False, width=PIPED_COLUMNS)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=wraps not in ("", heading), overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain("–" if cell is None else str(cell))) for cell in row))
    console.print(table)


def instant(at_s: float | None) -> str:
    """UTC date and time of epoch seconds."""
    from datetime import UTC, datetime

    return "–" if at_s is None else f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S}Z"


def check_qr(qr: str | None) -> None:
    """Raises ValueError for a QR code that could not be made, before a link is."""
    if qr is None or qr == "terminal":
        return
    if not qr.endswith(".svg") or Path(qr).exists():
        raise ValueError(f"--qr is {qr!r}: give `terminal`, or the name of a new .svg file")


def show_link(client: "SiteClient", given: dict[str, str], base: str | None, qr: str | None) -> None:
    """Print a driver's link (its path, and the site's own address if it told one) and its QR code.

    The secret is in it: a file is written for its owner only.
    """
    address = (base or given.get("address") or client.url).rstrip("/") + given["path"]
    if not sys.stdout.isatty() and qr == "terminal":
        typer.echo("The code below is for a terminal.", err=True)
    typer.echo(address)
    if any(f"//{name}" in address for name in LOOPBACK):
        typer.echo("Only this machine can open it: give --base with the address that phones reach.", err=True)
    if qr is not None:
        _draw(address, qr)


def _draw(address: str, qr: str) -> None:
    import io

    import segno

    from gridtide.run.credentials import write_secret

    code: Any = segno.make(address, error="m")
    if qr == "terminal":
        drawn = io.StringIO()
        code.terminal(out=drawn, compact=True)
        typer.echo(drawn.getvalue())
        return
    data = io.BytesIO()
    code.save(data, kind="svg", scale=8, dark="#17212b", light="#ffffff")
    write_secret(Path(qr), data.getvalue())
    typer.echo(f"The QR code is in {qr}.", err=True)
