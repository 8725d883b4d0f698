"""Exit codes, and how a command says why it ends."""

from typing import NoReturn

import typer

FAILED = 1
CONFIG = 2


def fail(message: str) -> NoReturn:
    """Tell what went wrong on stderr and end with the code for failure."""
    typer.echo(message, err=True)
    raise typer.Exit(FAILED)
