"""`gridtide pki`: a small PKI for tests and first installations: make, sign, renew, revoke, list."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridtide.app.commands.site_options import AsJson, plain

if TYPE_CHECKING:
    from gridtide.run.pki import Pki
    from gridtide.run.pki_index import Issued, Kind

pki = typer.Typer(help="Certificates for stations and server: make, sign, renew, revoke, list.", no_args_is_help=True)
Folder = Annotated[
    Path | None,
    typer.Option("--folder", help="Where it is kept, as `server.pki` names it.", show_default="$GRIDTIDE_HOME/pki"),
]
StationOption = Annotated[str, typer.Option("--station", help="Serial number of a station.")]
ServerOption = Annotated[str, typer.Option("--server", help="Host name of a server, as first given.")]
Days = Annotated[float, typer.Option(help="Days it is valid.", min=1.0, max=3650.0)]


@pki.command()
def init(
    name: Annotated[
        list[str] | None,
        typer.Option(help="Name or address under which stations find us; the first one is the main one."),
    ] = None,
    operator: Annotated[str, typer.Option(help="Organisation in every certificate.")] = "gridtide",
    folder: Folder = None,
) -> None:
    """Make the roots, their revocation lists and the server's two certificates (ECDSA P-256 and RSA 3072)."""
    from gridtide.app.commands.told import told
    from gridtide.run.clock import WallClock
    from gridtide.run.pki import CSMS_ROOTS, Pki

    with told():
        made = Pki.init(_place(folder), WallClock().wall(), operator=operator, names=tuple(name or ["localhost"]))
        typer.echo(f"Made {made.folder}. Stations must trust {made.folder / CSMS_ROOTS}")


@pki.command()
def issue(station: StationOption = "", server: ServerOption = "", days: Days = 397.0, folder: Folder = None) -> None:
    """Make a key and a certificate for a station (security profile 3) or for another server."""
    from gridtide.app.commands.told import told
    from gridtide.run.clock import WallClock

    with told():
        kind, subject = _one(station, server)
        held, now_s = _open(folder), WallClock().wall()
        if kind == "station":
            _tell(held, held.issue_station(subject, now_s, days=days))
        else:
            _tell(held, *held.issue_server((subject,), now_s, days=days))


@pki.command()
def renew(
    station: StationOption = "",
    server: ServerOption = "",
    keep_old: Annotated[bool, typer.Option("--keep-old", help="Do not revoke the old one yet.")] = False,
    days: Days = 397.0,
    folder: Folder = None,
) -> None:
    """New key and certificate; the old ones are revoked. A running site takes them over within half a minute."""
    from gridtide.app.commands.told import told
    from gridtide.run.clock import WallClock

    with told():
        kind, subject = _one(station, server)
        held = _open(folder)
        _tell(held, *held.renew(kind, subject, WallClock().wall(), keep_old=keep_old, days=days))


@pki.command()
def revoke(
    station: StationOption = "",
    server: ServerOption = "",
    number: Annotated[str, typer.Option(help="Serial number of one certificate, hexadecimal.")] = "",
    folder: Folder = None,
) -> None:
    """Revoke every certificate of a station or server, or one by its number, and write the revocation lists."""
    from gridtide.app.commands.told import told
    from gridtide.run.clock import WallClock

    with told():
        held, now_s = _open(folder), WallClock().wall()
        if number:
            gone = held.revoke(now_s, number=number)
        else:
            kind, subject = _one(station, server)
            gone = held.revoke(now_s, kind=kind, subject=subject)
        for one in gone:
            typer.echo(plain(f"Revoked {one.kind} {one.subject}, number {one.number}."))
        if not gone:
            typer.echo("They were revoked already.")


@pki.command(name="list")
def list_(as_json: AsJson = False, folder: Folder = None) -> None:
    """Every certificate that was made, with the days it has left."""
    from msgspec import json

    from gridtide.app.commands.told import told
    from gridtide.run.clock import WallClock

    with told():
        now_s = WallClock().wall()
        issued = _open(folder).issued()
        if as_json:
            typer.echo(json.encode([_row(one, now_s) for one in issued]).decode())
            return
        for one in issued:
            words = f"{one.status(now_s):<8} {one.days_left(now_s):>6.0f} days  {one.kind:<8} {one.subject:<32} {one.number}"
            typer.echo(plain(words))


def _row(one: "Issued", now_s: float) -> dict[str, object]:
    return {
        "subject": one.subject, "kind": one.kind, "root": one.root, "number": one.number, "not_after_s": one.not_after_s,
        "days_left": round(one.days_left(now_s), 2), "status": one.status(now_s), "file": one.file,
    }  # fmt: skip


def _place(folder: Path | None) -> Path:
    from gridtide.app.home import default_home

    return folder or default_home() / "pki"


def _open(folder: Path | None) -> "Pki":
    from gridtide.run.pki import Pki

    return Pki(_place(folder))


def _one(station: str, server: str) -> "tuple[Kind, str]":
    """What the options name; raises ValueError unless it is exactly one thing."""
    if bool(station) == bool(server):
        raise ValueError("give either --station SERIAL or --server NAME")
    return ("station", station) if station else ("server", server)


def _tell(held: "Pki", *issued: "Issued") -> None:
    for one in issued:
        typer.echo(plain(f"{held.folder / one.file}: {one.kind} {one.subject}, number {one.number}"))
