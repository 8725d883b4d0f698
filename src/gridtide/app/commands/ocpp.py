"""`gridtide ocpp call`: any message a CSMS may send to a station, and its answer."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gridtide.app.commands.site_options import SITE_URL, AsJson, TokenFile, Url, plain
from gridtide.app.commands.station_tables import show_json

ocpp = typer.Typer(help="Talk OCPP to a station of a running site.", no_args_is_help=True)
MOST_BYTES = 200_000


@ocpp.callback()
def default() -> None:
    """Keeps `call` a command of its own."""


@ocpp.command()
def call(
    station: Annotated[str, typer.Argument(metavar="STATION", help="Its identity.")],
    action: Annotated[str, typer.Argument(metavar="ACTION", help="As GetBaseReport or TriggerMessage.")],
    payload: Annotated[
        str, typer.Argument(metavar="[JSON|@FILE|-]", help="The request's fields; - reads standard input.")
    ] = "{}",
    timeout_s: Annotated[
        float, typer.Option("--timeout", help="Seconds to wait for the answer.", min=0.1, max=120.0)
    ] = 30.0,
    as_json: AsJson = False,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """Send a message and print the answer. Ends with 1 if the station is offline, refuses or does not answer, with 2 for a
    message that must not be sent. None makes a vehicle discharge."""
    from gridtide.app.client import SiteClient, quoted
    from gridtide.app.commands.exits import FAILED
    from gridtide.app.commands.told import told
    from gridtide.run.csms.operate import CallOutcome

    with told():
        wish = {"action": action, "payload": payload_of(payload), "timeout_s": timeout_s}
        outcome = SiteClient(url, token_file).ask(
            CallOutcome, "POST", f"/stations/{quoted(station)}/call", wish, wait_s=timeout_s + 10.0
        )
    if as_json:
        show_json(outcome)
    elif outcome.status == "answered":
        show_json(outcome.payload)
    else:
        what = "answered with an error" if outcome.status == "error" else "did not answer"
        typer.echo(plain(f"{station} {what}: {outcome.code} {outcome.description}".rstrip()), err=True)
    raise typer.Exit(0 if outcome.status == "answered" else FAILED)


def payload_of(text: str) -> dict[str, Any]:
    """The JSON object given, in a file (@name) or on standard input (-); raises ValueError."""
    from msgspec import DecodeError, json

    data: bytes
    if text == "-":
        data = sys.stdin.buffer.read(MOST_BYTES + 1)
    elif text.startswith("@"):
        path = Path(text[1:])
        if not path.is_file():
            raise ValueError(f"JSON is {text!r}: there is no file {path}")
        data = path.read_bytes()
    else:
        data = text.encode()
    if len(data) > MOST_BYTES:
        raise ValueError(f"JSON has more than {MOST_BYTES} bytes: give less")
    try:
        return json.decode(data, type=dict[str, Any])
    except (DecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f'JSON is {data[:40].decode(errors="replace")!r}: give an object, as \'{{"requestedMessage": "Heartbeat"}}\' ({error})'
        ) from None
