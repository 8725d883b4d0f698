"""`gridtide check`: is this site file right, and is the data it names?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gridtide.app.config import SiteConfig


def check(
    site: Annotated[Path, typer.Argument(help="The site file (TOML).")],
    data: Annotated[bool, typer.Option(help="Also read the load, session, PV and tariff files it names.")] = True,
) -> None:
    """Tell every problem of a site file at once, each with its line."""
    from gridtide.app.commands.told import told
    from gridtide.app.config import load_site

    with told():
        config = load_site(site)
        if data:
            from gridtide.app.scenario import study_inputs

            study_inputs(config)
    stations = len(config.bays())
    typer.echo(
        f"{site}: right. {config.site.name}: {stations} station{'s' * (stations != 1)}, limit {config.peak.limit_kw:g} kW"
        f" ({config.peak.mode})."
    )
    for note in [*config.notes(), *_remote(config), *_without_pki(config)]:
        typer.echo(f"  Note: {note}")


def _without_pki(config: "SiteConfig") -> list[str]:
    """`gridtide run` needs the certificates that check can do without."""
    folder = Path(config.path(config.server.pki))
    if config.server.ocpp_tls is None or folder.exists():
        return []
    return [f"server.pki = {folder} is not there yet: `gridtide pki init --name HOST --folder {folder}` makes it."]


def _remote(config: "SiteConfig") -> list[str]:
    """What `[server]` says about other machines that may not be meant."""
    from gridtide.app.web.auth import is_loopback

    server, host = config.server, config.server.web.rpartition(":")[0]
    near = host == "localhost" or is_loopback(host)
    if near and server.allow_remote:
        return [f"server.allow_remote is set, but server.web = {server.web} is reached from this machine only."]
    if near:
        return []
    if not server.allow_remote:
        return [f"server.web = {server.web} needs server.allow_remote = true: `gridtide run` refuses it now."]
    if not server.names:
        return [
            "server.names is empty: browsers on other machines are refused until the names they use are listed there."
        ]
    if server.tls_cert is not None:
        return []
    return ["server.allow_remote is set: other machines reach the page, without encryption unless a proxy adds it."]
