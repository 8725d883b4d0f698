"""The command line. Commands import what they need when they run, so that help comes at once."""

import typer

from gridtide.app.commands.audit import audit
from gridtide.app.commands.check import check
from gridtide.app.commands.compare import compare
from gridtide.app.commands.demo import demo
from gridtide.app.commands.discharge import clear_faults, profile, try_discharge
from gridtide.app.commands.emulate import emulate
from gridtide.app.commands.estop import estop
from gridtide.app.commands.explain import explain
from gridtide.app.commands.ocpp import ocpp
from gridtide.app.commands.peak import set_peak
from gridtide.app.commands.pki import pki
from gridtide.app.commands.plan import plan
from gridtide.app.commands.replay import replay
from gridtide.app.commands.run import run
from gridtide.app.commands.sessions import sessions
from gridtide.app.commands.simulate import simulate
from gridtide.app.commands.stations import stations
from gridtide.app.commands.status import status
from gridtide.app.commands.store import store
from gridtide.app.commands.telemetry import telemetry
from gridtide.app.commands.tokens import tokens
from gridtide.app.commands.users import users
from gridtide.app.commands.verify import verify

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
app.command()(compare)
app.command()(plan)
app.command(name="set-peak")(set_peak)
app.command()(status)
app.command()(explain)
app.command()(replay)
app.command()(verify)
app.command()(telemetry)
app.command()(estop)
app.command(name="clear-faults")(clear_faults)
app.command()(profile)
app.command(name="test-discharge")(try_discharge)
app.add_typer(stations, name="stations")
app.add_typer(tokens, name="tokens")
app.add_typer(ocpp, name="ocpp")
app.add_typer(sessions, name="sessions")
app.add_typer(audit, name="audit")
app.add_typer(users, name="users")
app.add_typer(store, name="store")
app.add_typer(pki, name="pki")
app.add_typer(emulate, name="emulate")


def main() -> None:
    """Entry point of the `gridtide` script."""
    app()


if __name__ == "__main__":
    main()
