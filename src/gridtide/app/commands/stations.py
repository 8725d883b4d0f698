"""`gridtide stations`: who may connect, what they do, and why a station or car can or cannot discharge."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridtide.app.commands.site_options import SITE_URL, AsJson, TokenFile, Url, kw, plain
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

if TYPE_CHECKING:
    from gridtide.app.client import SiteClient
    from gridtide.run.csms.views import EvseRow, StationDetail, StationRow

stations = typer.Typer(help="Charging stations of a running site.", no_args_is_help=False)
Identity = Annotated[str, typer.Argument(metavar="STATION", help="Its identity: the last part of its OCPP address.")]
Name = Annotated[str, typer.Option("--name", help="What people call it.")]
Profile = Annotated[
    int, typer.Option("--security-profile", min=1, max=3, help="1 password, 2 TLS, 3 client certificate.")
]
Serial = Annotated[str, typer.Option("--serial", help="Common name of its certificate (profile 3).")]
DialectName = Annotated[str, typer.Option("--dialect", help="How it is told to discharge; refuse never does.")]
Evses = Annotated[int, typer.Option("--evses", min=1, max=64, help="How many EVSEs it has.")]
ChargeKw = Annotated[str, typer.Option("--charge", help="Rated charging power of each, as 11kW.")]
DischargeKw = Annotated[str, typer.Option("--discharge", help="Rated discharging power of each, as 10kW.")]
PasswordOut = Annotated[
    Path | None, typer.Option("--out", help="Write the password to this new file (0600) instead of printing it.")
]


@stations.callback(invoke_without_command=True)
def default(ctx: typer.Context, as_json: AsJson = False, url: Url = SITE_URL, token_file: TokenFile = None) -> None:
    """Without a command: list them."""
    if lists_all(ctx, "stations"):
        list_all(as_json=as_json, url=url, token_file=token_file)


@stations.command(name="list")
def list_all(as_json: AsJson = False, url: Url = SITE_URL, token_file: TokenFile = None) -> None:
    """Every station and EVSE in short."""
    from gridtide.app.client import SiteClient
    from gridtide.app.commands.told import told
    from gridtide.run.csms.views import StationRow

    with told():
        rows = SiteClient(url, token_file).ask(tuple[StationRow, ...], "GET", "/stations")
    if as_json:
        show_json(rows)
        return
    headings = (
        "Station",
        "Link",
        "OCPP",
        "Profile",
        "Dialect",
        "Mode",
        "EVSE",
        "Status",
        "Power",
        "Charge",
        "Discharge",
    )
    show_table(headings, [line for row in rows for line in _lines(row)], wraps="Discharge")


@stations.command()
def show(identity: Identity, as_json: AsJson = False, url: Url = SITE_URL, token_file: TokenFile = None) -> None:
    """One station in full: why it or its car can or cannot discharge, what it told of itself, what was sent to it."""
    from gridtide.app.client import SiteClient, quoted
    from gridtide.app.commands.told import told
    from gridtide.run.csms.views import StationDetail

    with told():
        found = SiteClient(url, token_file).ask(StationDetail, "GET", f"/stations/{quoted(identity)}")
    if as_json:
        show_json(found)
    else:
        _show(found)


@stations.command()
def add(
    identity: Identity,
    name: Name = "",
    security_profile: Profile = 1,
    serial: Serial = "",
    dialect: DialectName = "refuse",
    evses: Evses = 1,
    charge: ChargeKw = "11kW",
    discharge: DischargeKw = "0kW",
    discharge_opt_in: Annotated[
        bool, typer.Option("--discharge-opt-in", help="Recorded consent to discharge over OCPP 2.0.1.")
    ] = False,
    out: PasswordOut = None,
    as_json: AsJson = False,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """Register a station; its password is printed this once."""
    from gridtide.app.client import SiteClient, parse_power
    from gridtide.app.commands.told import told

    with told():
        entry = {
            "identity": identity_named(identity), "name": name, "security_profile": security_profile, "serial": serial,
            "dialect": dialect_named(dialect), "discharge_opt_in": discharge_opt_in,
            "evses": evses_of(evses, parse_power(charge, "--charge"), parse_power(discharge, "--discharge")),
        }  # fmt: skip
        _register("/stations", entry, out, SiteClient(url, token_file), as_json)


@stations.command()
def accept(
    identity: Identity,
    name: Name = "",
    security_profile: Profile = 1,
    serial: Serial = "",
    dialect: DialectName = "refuse",
    evses: Evses = 1,
    charge: ChargeKw = "11kW",
    discharge: DischargeKw = "0kW",
    out: PasswordOut = None,
    as_json: AsJson = False,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """Register an identity that knocked; its password is printed this once."""
    from gridtide.app.client import SiteClient, parse_power, quoted
    from gridtide.app.commands.told import told

    with told():
        entry = {
            "name": name, "security_profile": security_profile, "serial": serial, "dialect": dialect_named(dialect),
            "evses": evses_of(evses, parse_power(charge, "--charge"), parse_power(discharge, "--discharge")),
        }  # fmt: skip
        _register(f"/knocked/{quoted(identity)}/accept", entry, out, SiteClient(url, token_file), as_json)


@stations.command()
def remove(identity: Identity, url: Url = SITE_URL, token_file: TokenFile = None) -> None:
    """Remove a station and its password; its connection ends."""
    from gridtide.app.client import SiteClient, quoted
    from gridtide.app.commands.told import told

    with told():
        SiteClient(url, token_file).ask(dict, "DELETE", f"/stations/{quoted(identity)}")
    typer.echo(f"{identity} was removed.")


@stations.command()
def rotate(identity: Identity, as_json: AsJson = False, url: Url = SITE_URL, token_file: TokenFile = None) -> None:
    """Give a connected station a new password over its own connection. Nobody else is told it. Ends with 1 if it refused."""
    from gridtide.app.client import SiteClient, quoted
    from gridtide.app.commands.exits import FAILED
    from gridtide.app.commands.told import told
    from gridtide.run.csms.views import Rotated

    with told():
        done = SiteClient(url, token_file).ask(
            Rotated, "POST", f"/stations/{quoted(identity)}/rotate-password", {}, wait_s=60.0
        )
    if as_json:
        show_json(done)
    else:
        typer.echo(plain(done.words))
    raise typer.Exit(0 if done.status == "accepted" else FAILED)


@stations.command()
def move(
    identity: Identity,
    security_profile: Annotated[int, typer.Option(help="The one it shall use: 1, 2 or 3.", min=1, max=3)],
    downgrade_allowed: Annotated[
        bool, typer.Option("--downgrade-allowed", help="2.1, from 3 to 2: the station allows it.")
    ] = False,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """Let a station come in on another security profile too; once it has, its old one is refused."""
    from gridtide.app.client import SiteClient, quoted
    from gridtide.app.commands.told import told
    from gridtide.app.web.desk import Done

    wish = {"security_profile": security_profile, "downgrade_allowed": downgrade_allowed}
    with told():
        SiteClient(url, token_file).ask(Done, "POST", f"/stations/{quoted(identity)}/security-profile", wish)
    typer.echo(f"{identity} may now come in on security profile {security_profile}; tell it with SetNetworkProfile.")


@stations.command(name="local-list")
def local_list(identity: Identity, url: Url = SITE_URL, token_file: TokenFile = None) -> None:
    """Give a station the registered cards, for the times it is offline; later changes follow by themselves."""
    from gridtide.app.client import SiteClient, quoted
    from gridtide.app.commands.exits import FAILED
    from gridtide.app.commands.told import told
    from gridtide.app.web.desk import Done

    with told():
        done = SiteClient(url, token_file).ask(
            Done, "POST", f"/stations/{quoted(identity)}/local-list", {}, wait_s=60.0
        )
    typer.echo("The station has the cards." if done.changed else "The station did not take the list; see its events.")
    raise typer.Exit(0 if done.changed else FAILED)


@stations.command()
def knocked(as_json: AsJson = False, url: Url = SITE_URL, token_file: TokenFile = None) -> None:
    """Identities nobody registered that tried to connect."""
    from gridtide.app.client import SiteClient
    from gridtide.app.commands.told import told
    from gridtide.run.csms.views import KnockRow

    with told():
        rows = SiteClient(url, token_file).ask(tuple[KnockRow, ...], "GET", "/knocked")
    if as_json:
        show_json(rows)
    elif not rows:
        typer.echo("Nobody has knocked.")
    else:
        lines = [
            (one.identity, one.peer, one.count, instant(one.first_seen_s), instant(one.last_seen_s)) for one in rows
        ]
        show_table(("Identity", "From", "Tries", "First", "Last"), lines)


@stations.command()
def link(
    identity: Identity,
    evse: Annotated[int, typer.Argument(help="The EVSE's number.", min=1)] = 1,
    qr: Qr = None,
    base: Base = None,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """A driver's link for the present stay at an EVSE; it ends with that stay."""
    from gridtide.app.client import SiteClient, quoted
    from gridtide.app.commands.told import told

    with told():
        check_qr(qr)
        client = SiteClient(url, token_file)
        given = client.ask(dict[str, str], "POST", f"/stations/{quoted(identity)}/link", {"evse": evse})
        show_link(client, given, base, qr)


# --- parts ----------------------------------------------------------------------------------------------------------
def evses_of(count: int, charge_kw: float, discharge_kw: float) -> list[dict[str, Any]]:
    """EVSEs 1 to `count`, alike."""
    return [{"id": number, "charge_kw": charge_kw, "discharge_kw": discharge_kw} for number in range(1, count + 1)]


def identity_named(text: str) -> str:
    """`text` if a station can be called that; raises ValueError."""
    from gridtide.wire.ocpp.actions import identity_of

    if identity_of(text) != text:
        raise ValueError(f"STATION is {text[:60]!r}: give at most 48 letters, digits or *+=:|@._- without spaces")
    return text


def dialect_named(text: str) -> str:
    """`text` if it is a dialect; raises ValueError."""
    from typing import get_args

    from gridtide.app.commands.options import one_of
    from gridtide.wire.ocpp.dialects import Dialect

    return one_of(text, get_args(Dialect), "--dialect")


def _register(path: str, entry: dict[str, Any], out: Path | None, client: "SiteClient", as_json: bool) -> None:
    from gridtide.run.credentials import write_secret
    from gridtide.run.csms.views import Issued

    if out is not None and out.exists():
        raise ValueError(f"--out is {out}: it exists; give a new file")
    issued: Issued = client.ask(Issued, "POST", path, entry)
    if out is not None and issued.password is not None:
        write_secret(out, issued.password.encode() + b"\n")
    if as_json:
        show_json({"identity": issued.identity} if out else issued)
    elif issued.password is None:
        typer.echo(f"{issued.identity} is registered; it needs no password.", err=True)
    elif out is None:
        typer.echo(issued.password)
        typer.echo(f"{issued.identity} is registered. The password is not kept: note it now.", err=True)
    else:
        typer.echo(f"{issued.identity} is registered. The password is in {out}.", err=True)


def _lines(row: "StationRow") -> list[tuple[object, ...]]:
    head = (row.identity, row.link, row.version, row.security_profile, row.dialect, row.mode)
    return [
        (*(head if index == 0 else ("",) * len(head)), one.evse, one.status, kw(one.power_kw), _soc(one), _may(one))
        for index, one in enumerate(row.evses)
    ]


def _soc(evse: "EvseRow") -> str:
    return "–" if evse.soc is None else f"{evse.soc * 100:.0f} %"


def _may(evse: "EvseRow") -> str:
    return "can" if evse.may_discharge else evse.why_not[0]


def _show(found: "StationDetail") -> None:
    row = found.station
    since = f" since {instant(row.since_s)}" if row.since_s is not None else ""
    lines = [
        f"{row.identity}{f' ({row.name})' if row.name else ''}: {row.link}{since}"
        + (f", OCPP {row.version}" if row.version else ""),
        f"Security profile {row.security_profile or '–'}, password {found.password}; dialect {row.dialect}; mode {row.mode}"
        + ("; disabled" if not row.enabled else "") + ("; from the site file" if row.from_file else ""),
    ]  # fmt: skip
    if row.round_trip_ms is not None:
        lines.append(f"Answers setpoints within {row.round_trip_ms:.0f} ms")
    about = " ".join(
        str(found.about[name]) for name in ("vendorName", "model", "firmwareVersion") if found.about.get(name)
    )
    lines += [about] if about else []
    for evse in row.evses:
        stay = (
            f", transaction {evse.transaction_id}, {kw(evse.power_kw)}, charge {_soc(evse)}"
            if evse.transaction_id
            else ""
        )
        lines.append(f"EVSE {evse.evse}{f' ({evse.name})' if evse.name else ''}: {evse.status}{stay}")
        lines += [f"  Cannot discharge: {why}" for why in evse.why_not] or ["  Can discharge."]
    for sent in found.sent:
        lines.append(
            f"Sent to EVSE {sent.evse}: {kw(sent.power_kw)}, {sent.age_s:.0f} s ago, {sent.outcome or 'no answer yet'}"
        )
    if row.last_error:
        lines.append(f"Last trouble: {row.last_error}")
    for line in lines:
        typer.echo(plain(line))
