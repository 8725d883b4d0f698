"""The command line. Commands import what they need when they run, so that help comes at once."""

import typer

from gridtide.app.commands.check import check
from gridtide.app.commands.demo import demo
from gridtide.app.commands.emulate import emulate
from gridtide.app.commands.run import run
from gridtide.app.commands.simulate import simulate

app = typer.Typer(
    name="gridtide",
    help="Parked electric vehicles as a grid asset.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(run)
app.command()(check)
app.command()(simulate)
app.add_typer(emulate, name="emulate")


def main() -> None:
    """Entry point of the `gridtide` script."""
    app()
