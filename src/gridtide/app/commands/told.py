"""How a command fails: every problem on stderr, with its cure, and the exit code that scripts rely on."""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EADDRINUSE

import typer

from gridtide.app.commands.exits import CONFIG, FAILED


@contextmanager
def told() -> Iterator[None]:
    """Turn what a person can mend into text: 2 for files and options, 1 for what the machine refused."""
    from gridtide.app.problems import ConfigError
    from gridtide.run.credentials import CredentialError

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
    except OSError as error:
        cure = "; another program uses that port: stop it, or choose another port" if error.errno == EADDRINUSE else ""
        _say(f"{error}{cure}")
        raise typer.Exit(FAILED) from None


def _say(*lines: str) -> None:
    for line in lines:
        typer.echo(line, err=True)
