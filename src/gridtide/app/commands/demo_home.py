"""The demo's folder: one demo at a time in it, and no other file than the demo's own store is ever removed."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARK = ".gridtide-demo"
"""File that says whose folder this is; locked while a demo runs."""
STORE = "gridtide.db"


@contextmanager
def fresh_store(home: Path) -> Iterator[Path]:
    """Path of an empty store under `home`/demo, ours alone until the end.

    Raises ValueError when another demo runs there, or when a store lies there that no demo made.
    """
    folder = home / "demo"
    if folder.is_symlink():
        raise ValueError(f"--home is {home}: {folder} is a link; remove it, or give another folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark, old = folder / MARK, sorted(folder.glob(f"{STORE}*"))
    if old and not mark.exists():
        raise ValueError(f"--home is {home}: no demo made {old[0]}; move it away, or give another folder")
    lock = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ValueError(f"--home is {home}: another demo runs there; stop it, or give another folder") from None
    try:
        # Listed again under the lock: what the demo before us left.
        for path in folder.glob(f"{STORE}*"):
            if path.is_file() or path.is_symlink():
                path.unlink()
        yield folder / STORE
    finally:
        os.close(lock)
