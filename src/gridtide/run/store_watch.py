"""Watches the disk under the store: tells within 2 s that it does not write, early that it fills up, and keeps a reserve for both.

The reserve is a file of 64 MB that is allocated beside the store and given back to it when the disk is full: from then on only
what must be kept is written (transactions, audit, settings, events), no measured values.
"""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import structlog

from gridtide.run.clock import Clock
from gridtide.run.store import Store, StoreError
from gridtide.run.store import backup as store_backup
from gridtide.run.unstored import STUCK_S, Unstored

log = structlog.get_logger(__name__)
LOOK_S: Final = 0.25
SPACE_EVERY: Final = 40
"""Looks between two at the free space: 10 s."""
RESERVE_BYTES: Final = 64 * 2**20
LEAST_BYTES, LEAST_SHARE, ENOUGH_BYTES = 200 * 10**6, 0.05, 2 * 10**9
"""Free space below which is told: 200 MB, or 5 % of a disk up to 2 GB of free space."""
Note = Callable[[str, str, str], None]


class Disk(Protocol):
    """Sizes of a file system, as `shutil.disk_usage` gives them, bytes."""

    @property
    def total(self) -> int:
        """All of it."""

    @property
    def free(self) -> int:
        """What may still be written."""


class Reserve:
    """The file that keeps space for what must be written on a full disk."""

    def __init__(self, store: Path, size: int = RESERVE_BYTES) -> None:
        self.path, self.size = store.with_name(f"{store.name}.reserve"), size

    @property
    def is_there(self) -> bool:
        """Whether there is anything to give back."""
        return self.path.exists() and self.path.stat().st_size >= self.size

    def take(self) -> None:
        """Allocate it, unless it is there. Raises OSError when there is no room."""
        if self.is_there:
            return
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self.size)
        except OSError:
            self.path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def give(self) -> bool:
        """Give the space back to the disk; False if there is none."""
        had = self.is_there
        self.path.unlink(missing_ok=True)
        return had


class StoreWatch:
    """One store's; `run` lives as long as the site."""

    def __init__(
        self,
        store: Store,
        path: Path,
        clock: Clock,
        note: Note,
        unstored: Unstored,
        disk: Callable[[Path], Disk] = shutil.disk_usage,
        reserve: Reserve | None = None,
    ) -> None:
        """`note` tells an event of the catalogue; `disk` is asked for the free space of the store's folder."""
        self._store, self._folder, self._clock, self._note = store, path.parent, clock, note
        self._unstored, self._disk, self.reserve = unstored, disk, reserve or Reserve(path)
        self._looks = 0
        self.is_failing = self.is_low = False

    async def run(self) -> None:
        """Look four times a second, for ever."""
        while True:
            try:
                await self.look()
            except OSError as error:
                # The folder itself cannot be asked: the next commit will tell.
                log.warning("store_watch_failed", error=str(error))
            await self._clock.sleep(LOOK_S)

    async def look(self) -> None:
        """One look at the store, and every tenth second one at the space."""
        health = self._store.health()
        why = health.failure or (f"a commit takes {health.stuck_s:.1f} s" if health.stuck_s > STUCK_S else None)
        if why is not None:
            self._failed(why)
        elif self.is_failing:
            self.is_failing = False
            self._note("store_back", "store", "")
        if why is None and self._unstored.waiting:
            await self._unstored.retry()
        if self._looks % SPACE_EVERY == 0:
            await asyncio.to_thread(self._look_at_space)
        self._looks += 1

    def _failed(self, why: str) -> None:
        if not self.is_failing:
            self.is_failing = True
            self._note("store_failed", "store", f"{why[:200]}.")
        if self._free()[0] < self.reserve.size:
            self._release()

    def _free(self) -> tuple[int, int]:
        usage = self._disk(self._folder)
        return usage.free, usage.total

    def _look_at_space(self) -> None:
        free, total = self._free()
        least = max(LEAST_BYTES, min(LEAST_SHARE * total, ENOUGH_BYTES))
        if free < least and not self.is_low:
            self._note("store_space", "store", f"{free / 1e6:.0f} MB are free.")
        self.is_low = free < least
        if free > 4 * self.reserve.size:
            self.reserve.take()
            self._store.write_only_needed(False)

    def _release(self) -> None:
        """The disk is full: the reserve goes to what must be kept."""
        if self.reserve.give():
            self._store.write_only_needed(True)
            self._note("store_reserve", "store", "")


async def back_up_forever(
    store: Path, folder: Path, clock: Clock, note: Note, every_s: float, keep: int, first_s: float = 60.0
) -> None:
    """Make a copy soon after the start and then every `every_s`, for ever; the newest `keep` stay. One that fails is told."""
    await clock.sleep(first_s)
    while True:
        await back_up_once(store, folder, clock, note, keep)
        await clock.sleep(every_s)


async def back_up_once(store: Path, folder: Path, clock: Clock, note: Note, keep: int) -> Path | None:
    """Make one copy in a thread of its own; None if it failed, which is told."""
    try:
        return await asyncio.to_thread(_back_up, store, folder, clock.wall(), keep)
    except (StoreError, OSError) as error:
        note("backup_failed", "store", f"{str(error)[:200]}.")
        return None


def _back_up(store: Path, folder: Path, now_s: float, keep: int) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder).free, store.stat().st_size + LEAST_BYTES
    if free < needed:
        raise StoreError(f"no backup: {needed / 1e6:.0f} MB are needed in {folder}, {free / 1e6:.0f} MB are free")
    return store_backup.back_up(store, folder, now_s, keep)
