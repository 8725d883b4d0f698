"""`gridtide set-peak`: a new peak limit for a running site."""

from typing import Annotated

import typer

from gridtide.app.commands.site_options import SITE_URL, TokenFile, Url


def set_peak(
    limit: Annotated[str | None, typer.Option(help="No interval may average more, as 500kW or 0.5MW.")] = None,
    buffer: Annotated[str | None, typer.Option(help="Kept free below the limit, as 50kW.")] = None,
    url: Url = SITE_URL,
    token_file: TokenFile = None,
) -> None:
    """Change limit or buffer of a running site: from its next cycle on, kept over restarts, written to the audit log."""
    from gridtide.app.client import SiteClient, parse_power
    from gridtide.app.commands.told import told

    with told():
        if limit is None and buffer is None:
            raise ValueError("nothing to change: give --limit, --buffer or both, as --limit 500kW --buffer 50kW")
        limit_kw = None if limit is None else parse_power(limit, "--limit")
        buffer_kw = None if buffer is None else parse_power(buffer, "--buffer")
        client = SiteClient(url, token_file)
        if limit_kw is None or buffer_kw is None:
            now = client.view()
            own_kw = now.limit_kw if now.plan is None else now.plan.own_limit_kw
            limit_kw = own_kw if limit_kw is None else limit_kw
            buffer_kw = now.buffer_kw if buffer_kw is None else buffer_kw
        client.set_peak(limit_kw, buffer_kw)
    typer.echo(f"Limit {limit_kw:g} kW, buffer {buffer_kw:g} kW: in force from the site's next cycle.")
