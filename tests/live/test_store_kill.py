"""A process killed at any moment, or a disk that fills up, loses nothing that was acknowledged."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from gridtide.run.store import SqliteStore

NOW_S = 1_767_268_800.0
KILLS = 5
WRITER = """
import asyncio, os, resource, signal, sys
from pathlib import Path
from gridtide.run.store import SqliteStore, StoreError, TransactionEvent

path, first, file_limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
NOW_S = 1_767_268_800.0
if file_limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

async def station(store, number):
    for step in range(5_000):
        seq_no = first + step * 8 + number
        event = TransactionEvent(
            station_id="cs", transaction_id="tx", seq_no=seq_no, event_type="Updated", at_s=NOW_S, evse_id=1,
            payload_json=b'"' + b"x" * 200 + b'"',
        )
        store.put_telemetry(NOW_S + seq_no, {"pcc_kw": float(seq_no)})
        assert await store.add_transaction_event(event)
        if step % 10 == 0:
            await store.append_audit(NOW_S, "writer", "step", b"{}")
        # One unbuffered write a line: what the reader got was acknowledged before the kill.
        os.write(1, b"%d\\n" % seq_no)

async def main():
    store = SqliteStore.open(path, NOW_S)
    results = await asyncio.gather(*(station(store, number) for number in range(8)), return_exceptions=True)
    assert all(isinstance(result, StoreError) for result in results), results
    rows = len(store.transaction_events("cs", "tx"))
    os.write(1, b"rows %d after %s\\n" % (rows, str(store.health().failure).encode()))
    os._exit(0)

asyncio.run(main())
"""


def start(path: Path, first: int, file_limit: int = 0) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first), str(file_limit)], stdout=subprocess.PIPE
    )


async def kept(path: Path) -> set[int]:
    store = SqliteStore.open(path, NOW_S)
    try:
        assert store.moved_to is None
        assert store.verify_audit().intact
        return {row.seq_no for row in store.transaction_events("cs", "tx")}
    finally:
        await store.close()


def test_every_acknowledged_row_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    acknowledged: set[int] = set()
    for kill in range(KILLS):
        process = start(path, first=kill * 100_000)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(60 + 23 * kill)]
        os.kill(process.pid, signal.SIGKILL)
        # The last line may be torn by the kill.
        lines += [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        acknowledged |= {int(line) for line in lines}
        assert acknowledged <= asyncio.run(kept(path))
    assert len(acknowledged) >= sum(60 + 23 * kill for kill in range(KILLS))


def test_full_disk_stops_acknowledging_and_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    process = start(path, first=0, file_limit=1_000_000)
    output, _ = process.communicate()
    assert process.returncode == 0
    *lines, last = output.splitlines()
    acknowledged = {int(line) for line in lines}
    assert len(acknowledged) > 20
    rows = asyncio.run(kept(path))
    assert acknowledged <= rows
    word, count, _, failure = last.decode().split(maxsplit=3)
    assert (word, int(count)) == ("rows", len(rows))
    assert failure != "None"
