"""`gridtide estop`: press or clear the emergency stop of a running site."""

from typing import Annotated, Literal

import typer

from gridtide.app.commands.site_options import SITE_URL, TokenFile, Url


def estop(
    action: Annotated[
        Literal["press", "clear"],
        typer.Argument(help="press stops all charging and giving; clear lets them run again."),
    ] = "press",
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """Emergency stop: zero at every station from the next cycle on, latched over restarts until cleared."""
    from gridtide.app.client import SiteClient
    from gridtide.app.commands.told import told

    with told():
        client = SiteClient(url, token_file)
        if action == "press":
            client.estop()
        else:
            client.clear_estop()
    typer.echo("Emergency stop pressed. Clear it with: gridtide estop clear" if action == "press" else "Cleared.")
