"""`gridtide check`: is this site file right, and is the data it names?"""

from pathlib import Path
from typing import Annotated

import typer


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
    for note in config.notes():
        typer.echo(f"  Note: {note}")
