"""`gridtide users`: who may come in besides the site's token file. Works on the home folder; a running site sees it at once."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridtide.app.commands.site_options import AsJson

if TYPE_CHECKING:
    from gridtide.app.web.people import AccessFile

users = typer.Typer(help="API tokens and users with roles: viewer < operator < admin.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Letters, digits, dots, dashes, underscores; the audit log keeps it.")]
RoleName = Annotated[str, typer.Option("--role", help="viewer, operator or admin.")]
Home = Annotated[Path | None, typer.Option("--home", help="The site's home folder.", show_default="$GRIDTIDE_HOME")]
PasswordFile = Annotated[
    str | None, typer.Option("--password-file", help="Take the password from this file, - for standard input.")
]


@users.command()
def add(
    name: Name,
    role: RoleName,
    token: Annotated[bool, typer.Option("--token", help="An API token, printed this once.")] = False,
    password: Annotated[bool, typer.Option("--password", help="A user who signs in on the page; asks for it.")] = False,
    password_file: PasswordFile = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the token to this file (0600) instead of printing it.")
    ] = None,
    home: Home = None,
) -> None:
    """Add an API token or a user."""
    from gridtide.app.web.roles import role_named
    from gridtide.run.clock import WallClock
    from gridtide.run.credentials import write_secret

    with _told():
        if token == (password or password_file is not None):
            raise ValueError(
                "--token or --password is missing: a token for programs, a password for people; give one of them"
            )
        if out is not None and (not token or out.exists()):
            raise ValueError(
                f"--out is {out}: " + ("it exists; give a new file" if token else "it goes with --token only")
            )
        people, wanted = _people(home), role_named(role, "--role")
        if token:
            secret = people.add_token(name, wanted, WallClock().wall())
            if out is None:
                typer.echo(secret)
            else:
                write_secret(out, secret.encode() + b"\n")
        else:
            people.add_user(name, wanted, _password(password_file), WallClock().wall())
    # Apart from the token on stdout, so that it can be sent to a file.
    note = "" if not token else f" The token is in {out}." if out else " The token is not kept: note it now."
    typer.echo(f"{name} may come in as {wanted}.{note}", err=True)


@users.command(name="list")
def list_all(as_json: AsJson = False, home: Home = None) -> None:
    """Everyone with name, role, kind and day of creation; never a secret."""
    from datetime import UTC, datetime

    from msgspec import json

    with _told():
        entries = _people(home).load()
    if as_json:
        rows = [{"name": e.name, "role": e.role, "kind": e.kind, "created_s": e.created_s} for e in entries]
        typer.echo(json.encode(rows).decode())
        return
    width = max([4, *(len(e.name) for e in entries)])
    typer.echo(f"{'Name':<{width}}  {'Role':<8}  Kind   Created (UTC)")
    for e in entries:
        typer.echo(f"{e.name:<{width}}  {e.role:<8}  {e.kind:<5}  {datetime.fromtimestamp(e.created_s, UTC):%Y-%m-%d}")


@users.command()
def remove(name: Name, home: Home = None) -> None:
    """Take the token or the user out; sessions end."""
    with _told():
        _people(home).remove(name)
    typer.echo(f"{name} was removed.")


@users.command(name="role")
def set_role(
    name: Name, role: Annotated[str, typer.Argument(help="viewer, operator or admin.")], home: Home = None
) -> None:
    """Give another role."""
    from gridtide.app.web.roles import role_named

    with _told():
        _people(home).set_role(name, role_named(role, "ROLE"))
    typer.echo(f"{name} is {role} now.")


@users.command(name="password")
def set_password(name: Name, password_file: PasswordFile = None, home: Home = None) -> None:
    """Give a user another password; sessions end."""
    with _told():
        _people(home).set_password(name, _password(password_file))
    typer.echo(f"{name} has another password.")


@contextmanager
def _told() -> Iterator[None]:
    from gridtide.app.commands.told import told

    with told():
        try:
            yield
        except KeyError as error:
            raise ValueError(str(error.args[0])) from None


def _people(home: Path | None) -> "AccessFile":
    from gridtide.app.home import default_home
    from gridtide.app.web.people import FILE, AccessFile

    return AccessFile((home or default_home()) / FILE)


def _password(source: str | None) -> str:
    """A password from a prompt, a private file or standard input, never from the command line, which others can read."""
    from gridtide.run.credentials import read_secret

    if source is None:
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    if source == "-":
        text = sys.stdin.readline()
    else:
        text = read_secret(Path(source)).decode()
    return text.rstrip("\r\n")
