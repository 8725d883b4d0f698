"""What `replay`, `audit` and `explain --at` share: the store's file, instants, and how a log that cannot be read is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gridtide.run.store.decisions import StoreReader

STORE = Path("gridtide.db")
StoreFile = Annotated[
    Path, typer.Option("--store", envvar="GRIDTIDE_STORE", help="The site's store (`store.path`); it may be in use.")
]
From = Annotated[str, typer.Option("--from", help="First instant, as 2026-03-02T10:00:00Z.")]
To = Annotated[str, typer.Option("--to", help="First instant that is not meant any more.")]


@contextmanager
def reading(path: Path) -> Iterator["StoreReader"]:
    """The store's log, closed at the end; what keeps it from being read is told: 2 for a bad file, option or block."""
    from gridtide.app.commands.told import told
    from gridtide.run.store import StoreError
    from gridtide.run.store.decisions import StoreReader

    with told():
        try:
            reader = StoreReader.open(path)
            try:
                yield reader
            finally:
                reader.close()
        except StoreError as error:
            raise ValueError(str(error)) from error


def instant(text: str, option: str) -> datetime:
    """The instant that `text` names in ISO 8601 with its offset; raises ValueError naming `option`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{option} is {text[:40]!r}: give an instant as 2026-03-02T10:00:00Z") from None
    if found.tzinfo is None:
        raise ValueError(f"{option} is {text[:40]!r}: add Z or an offset, as 2026-03-02T11:00:00+01:00")
    return found


def period(from_: str, to: str) -> tuple[float, float, tzinfo | None]:
    """Both as UTC epoch seconds, and the offset in which the first was given; raises ValueError when they are not in order."""
    begin, end = instant(from_, "--from"), instant(to, "--to")
    if begin >= end:
        raise ValueError(f"--from is {from_}: give an instant before --to ({to})")
    return begin.timestamp(), end.timestamp(), begin.tzinfo


def told_instant(at_s: float, zone: tzinfo | None) -> str:
    """`2026-03-02T10:00:00.500Z`, or with the offset of `zone`."""
    return datetime.fromtimestamp(at_s, zone).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_of_day(at_s: float, zone: tzinfo | None) -> str:
    """`10:00`."""
    return datetime.fromtimestamp(at_s, zone).strftime("%H:%M")
