"""`gridtide tokens`: idTokens of drivers, what they usually need, their links, and forgetting them."""

from typing import Annotated, Any

import typer

from gridtide.app.commands.site_options import SITE_URL, AsJson, TokenFile, Url
from gridtide.app.commands.station_tables import (
    Base,
    Qr,
    check_qr,
    instant,
    lists_all,
    show_json,
    show_link,
    show_table,
)

tokens = typer.Typer(help="idTokens: who may charge, and what drivers usually need.", no_args_is_help=False)
IdToken = Annotated[str, typer.Argument(metavar="TOKEN", help="The idToken, as stations tell it.")]
Type = Annotated[str, typer.Option("--type", help="Its type, as ISO14443, eMAID or Central.")]


@tokens.callback(invoke_without_command=True)
def default(ctx: typer.Context, as_json: AsJson = False, url: Url = SITE_URL, token_file: TokenFile = None) -> None:
    """Without a command: list them."""
    if lists_all(ctx, "tokens"):
        list_all(as_json=as_json, url=url, token_file=token_file)


@tokens.command(name="list")
def list_all(as_json: AsJson = False, url: Url = SITE_URL, token_file: TokenFile = None) -> None:
    """Every registered idToken."""
    from gridtide.app.client import SiteClient
    from gridtide.app.commands.told import told
    from gridtide.run.csms.registry import TokenEntry

    with told():
        found = SiteClient(url, token_file).ask(tuple[TokenEntry, ...], "GET", "/tokens")
    if as_json:
        show_json(found)
        return
    lines = [
        (
            one.id_token, one.type, one.name, one.status, one.group or None, instant(one.expires_s), one.departure,
            None if one.energy_kwh is None else f"{one.energy_kwh:g} kWh",
            None if one.minimum_soc is None else f"{one.minimum_soc * 100:.0f} %", "yes" if one.may_discharge else "no",
        )
        for one in found
    ]  # fmt: skip
    show_table(("Token", "Type", "Name", "Status", "Group", "Until", "Leaves", "Energy", "Minimum", "Discharge"), lines)


@tokens.command()
def add(
    id_token: IdToken,
    type_: Type = "ISO14443",
    name: Annotated[str, typer.Option("--name", help="Whose it is.")] = "",
    group: Annotated[str, typer.Option("--group", help="Tokens of a group may end each other's transactions.")] = "",
    expires: Annotated[str | None, typer.Option("--expires", help="Date or UTC instant, as 2027-01-31.")] = None,
    departure: Annotated[str | None, typer.Option("--departure", help="Usual departure, local time, as 17:30.")] = None,
    energy: Annotated[float | None, typer.Option("--energy", help="Usual need, kWh.", min=0.0)] = None,
    minimum: Annotated[
        float | None, typer.Option("--minimum", help="Charge never to be below, percent.", min=0.0, max=100.0)
    ] = None,
    no_discharge: Annotated[bool, typer.Option("--no-discharge", help="Its battery is never used.")] = False,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """Register an idToken, or register it anew with other words."""
    from gridtide.app.commands.told import told

    with told():
        entry = {
            "id_token": id_token, "type": type_, "name": name, "group": group,
            "expires_s": None if expires is None else expiry_of(expires),
            "departure": None if departure is None else departure_of(departure), "energy_kwh": energy,
            "minimum_soc": None if minimum is None else minimum / 100.0, "may_discharge": not no_discharge,
        }  # fmt: skip
        _put(entry, url, token_file)
    typer.echo(f"{id_token} is registered.")


@tokens.command()
def block(
    id_token: IdToken,
    type_: Type = "ISO14443",
    undo: Annotated[bool, typer.Option("--undo", help="Let it charge again.")] = False,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """Let an idToken charge no more; everything else about it stays."""
    from msgspec import structs, to_builtins

    from gridtide.app.client import SiteClient
    from gridtide.app.commands.told import told
    from gridtide.run.csms.registry import TokenEntry

    with told():
        found = SiteClient(url, token_file).ask(tuple[TokenEntry, ...], "GET", "/tokens")
        one = next((e for e in found if e.id_token.lower() == id_token.lower() and e.type == type_), None)
        if one is None:
            raise ValueError(f"TOKEN is {id_token!r}: there is none of type {type_}; see gridtide tokens list")
        _put(to_builtins(structs.replace(one, status="Accepted" if undo else "Blocked")), url, token_file)
    typer.echo(f"{id_token} may charge again." if undo else f"{id_token} is blocked.")


@tokens.command()
def remove(id_token: IdToken, type_: Type = "ISO14443", url: Url = SITE_URL, token_file: TokenFile = None) -> None:
    """Remove an idToken and its links; its transactions stay (see erase)."""
    from gridtide.app.client import SiteClient, with_query
    from gridtide.app.commands.told import told

    with told():
        SiteClient(url, token_file).ask(dict, "DELETE", with_query("/tokens", id_token=id_token, type=type_))
    typer.echo(f"{id_token} was removed.")


@tokens.command()
def refused(as_json: AsJson = False, url: Url = SITE_URL, token_file: TokenFile = None) -> None:
    """Cards that may not charge and were presented, the latest first; register one with `gridtide tokens add`."""
    from gridtide.app.client import SiteClient
    from gridtide.app.commands.told import told
    from gridtide.run.csms.refused_tokens import RefusedToken

    with told():
        found = SiteClient(url, token_file).ask(tuple[RefusedToken, ...], "GET", "/tokens/refused")
    if as_json:
        show_json(found)
    elif not found:
        typer.echo("No card was refused.")
    else:
        lines = [(one.id_token, one.type, one.status, one.station, one.count, instant(one.last_s)) for one in found]
        show_table(("Token", "Type", "Why", "Station", "Tries", "Last"), lines)
        typer.echo("To let one charge: gridtide tokens add TOKEN --type TYPE")


@tokens.command()
def link(
    id_token: IdToken,
    type_: Annotated[str | None, typer.Option("--type", help="Its type, if there are several.")] = None,
    qr: Qr = None,
    base: Base = None,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """A driver's link: a page to see the stay and to say what is needed. Printed this once; it lasts as long as the token."""
    from gridtide.app.client import SiteClient
    from gridtide.app.commands.told import told

    with told():
        check_qr(qr)
        client = SiteClient(url, token_file)
        given = client.ask(dict[str, str], "POST", "/tokens/link", {"id_token": id_token, "type": type_})
        show_link(client, given, base, qr)


@tokens.command()
def erase(
    id_token: IdToken,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """Forget a person: registration, links, and the idToken in every stored transaction. It cannot be undone."""
    from gridtide.app.client import SiteClient
    from gridtide.app.commands.told import told

    if not yes:
        typer.confirm(f"Erase {id_token} from every record?", abort=True, err=True)
    with told():
        done = SiteClient(url, token_file).ask(
            dict[str, int], "POST", "/tokens/erase", {"id_token": id_token}, wait_s=60.0
        )
    typer.echo(f"Erased; {done['changed']} stored events were changed.")


def expiry_of(text: str) -> float:
    """UTC epoch seconds of a date or instant; raises ValueError naming --expires."""
    from datetime import UTC, datetime

    try:
        read = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"--expires is {text[:60]!r}: give a date or an instant, as 2027-01-31") from None
    return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()


def departure_of(text: str) -> str:
    """A time of day, as 07:30; raises ValueError naming --departure."""
    from datetime import datetime

    try:
        return f"{datetime.strptime(text.strip(), '%H:%M'):%H:%M}"  # noqa: DTZ007 - a time of day has no zone
    except ValueError:
        raise ValueError(f"--departure is {text[:60]!r}: give a time of day, as 17:30") from None


def _put(entry: dict[str, Any], url: str, token_file: Any) -> None:
    from gridtide.app.client import SiteClient

    SiteClient(url, token_file).ask(dict, "POST", "/tokens", entry)
