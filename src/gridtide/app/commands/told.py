"""How a command fails: every problem on stderr, with its cure, and the exit code that scripts rely on."""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EADDRINUSE

import structlog
import typer

from gridtide.app.commands.exits import CONFIG, FAILED


@contextmanager
def told() -> Iterator[None]:
    """Turn what a person can mend into text: 2 for files and options, 1 for what the machine refused."""
    from gridtide.app.problems import ConfigError
    from gridtide.run.credentials import CredentialError
    from gridtide.run.store import StoreError

    try:
        yield
    except ConfigError as error:
        _say(*error.messages())
        raise typer.Exit(CONFIG) from None
    except ExceptionGroup as group:
        if not all(isinstance(error, ConfigError) for error in group.exceptions):
            raise
        for each in group.exceptions:
            _say(*str(each).splitlines())
        raise typer.Exit(CONFIG) from None
    except (CredentialError, ValueError) as error:
        _say(str(error))
        raise typer.Exit(CONFIG) from None
    except StoreError as error:
        _say(str(error))
        raise typer.Exit(FAILED) from None
    except OSError as error:
        cure = "; another program uses that port: stop it, or choose another port" if error.errno == EADDRINUSE else ""
        _say(f"{error}{cure}")
        raise typer.Exit(FAILED) from None


@contextmanager
def told_running() -> Iterator[None]:
    """Around a site that runs: whatever ends it is no fault of a file. 1, the reason in a line, the trace in the log."""
    try:
        yield
    except Exception as error:
        structlog.get_logger("gridtide").exception("site_failed")
        _say(f"gridtide ended by a failure of its own: {type(error).__name__}: {error}")
        raise typer.Exit(FAILED) from None


def _say(*lines: str) -> None:
    for line in lines:
        typer.echo(line, err=True)
