"""What is wrong with a file that a person wrote: every problem at once, each with its line, field, value and cure."""

from msgspec import Struct

_MOST_SHOWN = 20


class Problem(Struct, frozen=True, order=True):
    """One thing to correct."""

    line: int
    """Counted from 1; 0 where there is no line, as for an option."""
    field: str
    value: str
    """As it stands in the file; empty where something is missing."""
    text: str
    """What is wrong or what to give instead."""

    def __str__(self) -> str:
        said = f"{self.field} = {self.value}" if self.value else self.field
        return f"{said}: {self.text}" if said else self.text


class ConfigError(ValueError):
    """A file that cannot be used; `problems` holds all of them in order of their lines."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source = source
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(self.messages()))

    def messages(self, most: int = _MOST_SHOWN) -> list[str]:
        """A line of text for each problem, at most `most` of them, and how many more there are."""
        said = [f"{self.source}:{p.line}: {p}" if p.line else f"{self.source}: {p}" for p in self.problems[:most]]
        rest = len(self.problems) - most
        return [*said, f"{self.source}: and {rest} more"] if rest > 0 else said


class ConfigErrors(ConfigError):
    """Problems of several files."""

    def __init__(self, errors: list[ConfigError]) -> None:
        self.errors = tuple(errors)
        super().__init__(errors[0].source, [problem for error in errors for problem in error.problems])

    def messages(self, most: int = _MOST_SHOWN) -> list[str]:
        """As of each file alone."""
        return [text for error in self.errors for text in error.messages(most)]


def shown(value: object) -> str:
    """A value as it is quoted in a problem: as in TOML, and never long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "tables" if any(isinstance(item, dict) for item in value) else _cut(str(value))
    if isinstance(value, str):
        return _cut('"' + "".join(c if c.isprintable() else "?" for c in value) + '"')
    return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
