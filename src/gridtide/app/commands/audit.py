"""`gridtide audit`: the hash-chained log of what people and the controller did."""

from typing import Annotated

import typer

from gridtide.app.commands.exits import FAILED
from gridtide.app.commands.log_reading import STORE, From, StoreFile, To, period, reading, time_of_day, told_instant
from gridtide.app.commands.site_options import AsJson, plain

audit = typer.Typer(help="The hash-chained log of what people and the controller did.", no_args_is_help=True)


@audit.command()
def verify(store: StoreFile = STORE, as_json: AsJson = False) -> None:
    """Walk the hash chain and compare every block of decisions with it. Exit code 1 at the first that is not as it was."""
    with reading(store) as reader:
        chain, blocks = reader.verify_audit(), reader.verify_decisions()
    if as_json:
        from msgspec import json

        found = {"intact": chain.intact and blocks.intact, "chain": chain, "decisions": blocks}
        typer.echo(json.format(json.encode(found), indent=1).decode())
    else:
        if chain.intact:
            typer.echo(f"Audit log: {chain.entries} entries, chain intact. Head: {chain.head}")
        else:
            typer.echo(f"Audit log: broken at entry {chain.first_bad_id}; {chain.entries} before it are good.")
        if blocks.intact:
            typer.echo(f"Decisions: {blocks.blocks} blocks, all as they were linked.")
        else:
            typer.echo(f"Decisions: block {blocks.first_bad_block}: {blocks.why}.")
    if not (chain.intact and blocks.intact):
        raise typer.Exit(FAILED)


@audit.command()
def changes(
    from_: From,
    to: To,
    evse: Annotated[str | None, typer.Option(help="Only this EVSE.")] = None,
    store: StoreFile = STORE,
    as_json: AsJson = False,
) -> None:
    """Every setpoint that became another: when, why, and the ids of the inputs it came from. JSON: one object a line."""
    with reading(store) as reader:
        from msgspec import json

        from gridtide.run.replay import changes as all_changes

        begin_s, end_s, zone = period(from_, to)
        for change in all_changes(reader, begin_s, end_s, lambda at_s: time_of_day(at_s, zone)):
            if evse is not None and change.evse != evse:
                continue
            if as_json:
                typer.echo(json.encode(change).decode())
            else:
                typer.echo(
                    plain(
                        f"{told_instant(change.at_s, zone)} {change.cycle} {change.evse}: {change.old_kw:g} -> "
                        f"{change.new_kw:g} kW, {change.reason}: {change.words} [{', '.join(change.inputs)}]"
                    )
                )
