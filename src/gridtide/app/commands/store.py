"""`gridtide store`: copy the store, put a copy back, check a store or a copy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridtide.app.commands.exits import FAILED, fail
from gridtide.app.commands.site_options import AsJson, plain

if TYPE_CHECKING:
    from gridtide.run.store.backup import Finding

store = typer.Typer(help="The site's memory: copy it, put a copy back, check it.", no_args_is_help=True)
SiteFile = Annotated[Path | None, typer.Option("--site", help="The site file, which names the store.")]
StoreFile = Annotated[Path | None, typer.Option("--store", help="The store itself, instead of a site file.")]


@store.command()
def backup(
    file: Annotated[
        Path | None, typer.Argument(help="Where to; left out: dated, in the folder of the automatic copies.")
    ] = None,
    site: SiteFile = None,
    store_file: StoreFile = None,
) -> None:
    """Make a consistent copy in one file, mode 0600, also while a site runs. An existing file is not replaced."""
    import sqlite3

    from gridtide.app.commands.told import told
    from gridtide.run.clock import WallClock
    from gridtide.run.store import StoreError
    from gridtide.run.store import backup as copies

    with told():
        path, folder, keep = _place(site, store_file)
        if not path.exists():
            raise ValueError(f"there is no store at {path}")
        if file is not None and file.exists():
            raise ValueError(f"{file} exists: give another name, or remove it first")
        try:
            if file is not None:
                copies.copy(path, file)
            else:
                file = copies.back_up(path, folder, WallClock().wall(), keep)
        except (StoreError, sqlite3.Error) as error:
            fail(f"{path} was not copied: {error}")
        found = copies.examine(file)
        if found.problem is not None:
            fail(f"{file}: this copy is not sound: {found.problem}")
        typer.echo(plain(f"{file}: {_words(found)}"))


@store.command()
def restore(
    file: Annotated[Path, typer.Argument(help="The copy.")], site: SiteFile = None, store_file: StoreFile = None
) -> None:
    """Put a copy in the place of the store: checked before, the present one moved aside, not deleted. No site may run on it."""
    from gridtide.app.commands.told import told
    from gridtide.run.clock import WallClock
    from gridtide.run.store import backup as copies
    from gridtide.run.store.file import held_by_site

    with told():
        path, _, _ = _place(site, store_file)
        if not file.exists():
            raise ValueError(f"there is no copy at {file}")
        with held_by_site(path):
            moved = copies.restore(path, file, WallClock().wall(), "command line")
        typer.echo(plain(f"{path}: {_words(copies.examine(path))}"))
        if moved is not None:
            typer.echo(plain(f"The store that was there is now {moved}"))
        typer.echo(
            "Persons erased since the copy was made are in it again: erase them again. Look at the emergency stop."
        )


@store.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="A store or a copy; left out: the site's store.")] = None,
    site: SiteFile = None,
    store_file: StoreFile = None,
    as_json: AsJson = False,
) -> None:
    """Check pages, indices, log and audit chain; ends with 1 if anything is broken. Changes nothing."""
    from msgspec import json

    from gridtide.app.commands.told import told
    from gridtide.run.store import backup as copies

    with told():
        path = file or _place(site, store_file)[0]
        found = copies.examine(path)
    if as_json:
        typer.echo(json.encode(found).decode())
    else:
        typer.echo(plain(f"{path}: {found.problem or _words(found)}"))
    if found.problem is not None:
        raise typer.Exit(FAILED)


def _words(found: "Finding") -> str:
    size = (found.bytes + found.log_bytes) / 1e6
    return (
        f"sound; {size:.1f} MB, schema {found.schema}, {found.transactions} transactions with {found.transaction_events} "
        f"events, {found.audit_entries} audit entries verified"
    )


def _place(site: Path | None, store_file: Path | None) -> tuple[Path, Path, int]:
    """Store, folder of its automatic copies, how many are kept."""
    from gridtide.app.config import load_site

    if store_file is not None:
        return store_file, store_file.parent, 6
    if site is None:
        raise ValueError("name the site file (--site SITE.toml) or the store (--store gridtide.db)")
    config = load_site(site)
    path = Path(config.path(config.store.path))
    folder = config.store.backup_folder
    return path, Path(config.path(folder)) if folder else path.parent, config.store.keep_backups
