"""Copies of the store: made while it is written, kept by number, restored by command and at the start after damage."""

import asyncio
import json
import sqlite3
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gridtide.app.cli import app
from gridtide.run.clock import WallClock
from gridtide.run.store import SqliteStore, StoreError, TransactionEvent, backup
from gridtide.run.store.file import held_by_site
from gridtide.run.store_watch import back_up_forever, back_up_once

NOW_S = 1_767_268_800.0


def event(number: int) -> TransactionEvent:
    return TransactionEvent(
        station_id="cs", transaction_id="tx", seq_no=number, event_type="Updated", at_s=NOW_S, evse_id=1,
        payload_json=b'"' + b"x" * 400 + b'"',
    )  # fmt: skip


def write(path: Path, numbers: range, estop: bool = False) -> None:
    async def main() -> None:
        store = SqliteStore.open(path, NOW_S)
        for number in numbers:
            await store.add_transaction_event(event(number))
        if estop:
            await store.put_setting("estop", b"true", "ana", NOW_S)
        await store.close()

    asyncio.run(main())


def look(path: Path, backups: Path | None = None) -> tuple[set[int], list[str], str]:
    async def main() -> tuple[set[int], list[str], str]:
        store = SqliteStore.open(path, NOW_S + 60.0, backups=backups)
        told = [one for one in store.events() if one.source == "store"]
        rows = {one.seq_no for one in store.transaction_events("cs", "tx")}
        assert store.verify_audit().intact
        await store.close()
        return rows, [one.code for one in told], " ".join(one.title + one.text for one in told)

    return asyncio.run(main())


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[: len(content) // 2] = b"\xa5" * (len(content) // 2)
    path.write_bytes(content)


def gridtide(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_copy_made_under_load_is_sound_and_holds_what_was_acknowledged_before(tmp_path: Path) -> None:
    path, folder = tmp_path / "site.db", tmp_path / "copies"

    async def main() -> int:
        store = SqliteStore.open(path, NOW_S)
        acknowledged = 0

        async def load() -> None:
            nonlocal acknowledged
            while True:
                await store.add_transaction_event(event(acknowledged))
                acknowledged += 1

        loading = asyncio.ensure_future(load())
        while acknowledged < 50:
            await asyncio.sleep(0.01)
        before = acknowledged
        made = await back_up_once(path, folder, WallClock(), lambda *told: pytest.fail(str(told)), 3)
        assert made is not None
        after = acknowledged
        loading.cancel()
        found = backup.examine(made)
        assert found.problem is None
        assert before <= found.transaction_events <= after + 1
        assert stat.S_IMODE(made.stat().st_mode) == 0o600
        assert [one.name for one in folder.iterdir()] == [made.name], "one file, nothing left over"
        await store.close()
        return before

    assert asyncio.run(main()) >= 50


def test_the_newest_copies_stay(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    write(path, range(3))
    made = [backup.back_up(path, tmp_path, NOW_S + 3600.0 * hour, 2) for hour in range(4)]
    assert backup.backups(path, tmp_path) == [made[3], made[2]]
    assert backup.made_at(made[3]) == "2026-01-01 15:00:00 UTC"


def test_copies_go_on_by_themselves_and_a_failure_is_told(tmp_path: Path) -> None:
    path, folder = tmp_path / "site.db", tmp_path / "copies"
    write(path, range(3))
    told: list[tuple[str, str, str]] = []

    async def main() -> None:
        job = asyncio.ensure_future(
            back_up_forever(path, folder, WallClock(), lambda *words: told.append(words), 0.05, 5, first_s=0.0)
        )
        async with asyncio.timeout(10.0):
            while not backup.backups(path, folder):
                await asyncio.sleep(0.01)
            path.unlink()
            while not told:
                await asyncio.sleep(0.01)
        job.cancel()

    asyncio.run(main())
    assert told[0][:2] == ("backup_failed", "store")


def test_after_damage_the_newest_sound_copy_takes_the_place(tmp_path: Path) -> None:
    path, folder = tmp_path / "site.db", tmp_path / "copies"
    write(path, range(30))
    backup.back_up(path, folder, NOW_S, 5)
    bad = backup.back_up(path, folder, NOW_S + 10.0, 5)
    spoil(bad)
    spoil(path)
    rows, codes, text = look(path, folder)
    assert rows == set(range(30))
    assert codes == ["store_damaged"]
    assert "site.db.backup-20260101T120000Z" in text
    assert "as of 2026-01-01 12:00:00 UTC" in text
    assert "emergency stop is latched" in text
    assert list(tmp_path.glob("site.db.corrupt-*")), "kept to look at"
    assert look(path, folder)[0] == set(range(30)), "the next start finds nothing to repair"
    assert len(list(tmp_path.glob("site.db.corrupt-*"))) == 1


def test_later_transactions_are_read_out_of_the_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    write(path, range(30))
    backup.back_up(path, tmp_path, NOW_S, 5)
    write(path, range(30, 90))
    content = bytearray(path.read_bytes())
    with sqlite3.connect(path) as reader:
        (root,) = reader.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'audit'").fetchone()
    reader.close()
    content[(root - 1) * 4096 : root * 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    rows, codes, text = look(path)
    assert codes == ["store_damaged"]
    assert rows == set(range(90))
    assert "60 events could still be read" in text


def test_without_a_copy_it_starts_empty_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    write(path, range(5))
    spoil(path)
    rows, codes, text = look(path)
    assert (rows, codes) == (set(), ["store_damaged"])
    assert "starts empty" in text


def test_the_commands_copy_check_and_put_back(tmp_path: Path) -> None:
    path, copy = tmp_path / "site.db", tmp_path / "copy.db"
    write(path, range(7), estop=True)
    done = gridtide("store", "backup", copy, "--store", path)
    assert done.exit_code == 0, done.output
    assert "7 events" in done.output
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert gridtide("store", "backup", copy, "--store", path).exit_code == 2, "an existing file stays"
    write(path, range(7, 9))
    with held_by_site(path):
        refused = gridtide("store", "restore", copy, "--store", path)
        assert refused.exit_code == 2
        assert "in use" in refused.output
    assert look(path)[0] == set(range(9))
    done = gridtide("store", "restore", copy, "--store", path)
    assert done.exit_code == 0, done.output
    assert look(path)[0] == set(range(7))
    (moved,) = tmp_path.glob("site.db.replaced-*Z")
    assert look(moved)[0] == set(range(9))
    found = json.loads(gridtide("store", "check", path, "--json").output)
    assert (found["problem"], found["transaction_events"], found["transactions"]) == (None, 7, 1)
    assert found["audit_entries"] == 2, "the setting, and that it was restored"
    assert len(backup.backups(path, tmp_path)) == 0
    assert gridtide("store", "backup", "--store", path).exit_code == 0
    assert len(backup.backups(path, tmp_path)) == 1


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'eve'", "DROP TABLE schema_version", ""])
def test_a_copy_that_is_not_sound_is_never_put_back(tmp_path: Path, statement: str) -> None:
    path, copy = tmp_path / "site.db", tmp_path / "copy.db"
    write(path, range(3), estop=True)
    backup.copy(path, copy)
    if statement:
        with sqlite3.connect(copy) as writer:
            writer.execute(statement)
        writer.close()
    else:
        spoil(copy)
    checked = gridtide("store", "check", copy)
    assert checked.exit_code == 1
    before = path.read_bytes()
    refused = gridtide("store", "restore", copy, "--store", path)
    assert refused.exit_code == 2
    assert "cannot be restored" in refused.output
    assert path.read_bytes() == before


def test_no_copy_is_made_of_what_is_not_sound(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    write(path, range(30))
    spoil(path)
    with pytest.raises(StoreError):
        backup.back_up(path, tmp_path, NOW_S, 3)
    assert backup.backups(path, tmp_path) == []
    assert not list(tmp_path.glob("*.part*"))
