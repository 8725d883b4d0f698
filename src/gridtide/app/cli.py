"""The command line. Commands import what they need when they run, so that help comes at once."""

import typer

from gridtide.app.commands.check import check
from gridtide.app.commands.demo import demo
from gridtide.app.commands.emulate import emulate
from gridtide.app.commands.estop import estop
from gridtide.app.commands.explain import explain
from gridtide.app.commands.peak import set_peak
from gridtide.app.commands.run import run
from gridtide.app.commands.simulate import simulate
from gridtide.app.commands.status import status
from gridtide.app.commands.telemetry import telemetry

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
app.command(name="set-peak")(set_peak)
app.command()(status)
app.command()(explain)
app.command()(telemetry)
app.command()(estop)
app.add_typer(emulate, name="emulate")


def main() -> None:
    """Entry point of the `gridtide` script."""
    app()


if __name__ == "__main__":
    main()
