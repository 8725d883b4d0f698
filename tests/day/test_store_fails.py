"""FT15 on a whole site: the disk fails amid transactions; nothing is acknowledged, control goes on, it is told within 2 s."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from gridtide.run.store import MemoryStore
from gridtide.run.store_watch import Reserve, StoreWatch
from tests.day.wire_site import WireSite, on_wire, stay, world


class Disk:
    """A store whose every write fails while told to, and the watch over it."""

    def __init__(self, folder: Path) -> None:
        self.fails = False
        self.store = MemoryStore(fails=lambda _: self.fails)
        self.free = 10**11
        self.path = folder / "site.db"

    def watch(self, here: WireSite) -> StoreWatch:
        return StoreWatch(
            self.store, self.path, here.clock, here.site.note, here.site.unstored,
            disk=lambda _: SimpleNamespace(free=self.free, total=10**12), reserve=Reserve(self.path, 10_000),
        )  # fmt: skip


@contextmanager
def no_threads() -> Iterator[None]:
    """Work for a thread is done at once: virtual time has none."""
    loop = asyncio.get_running_loop()
    before = asyncio.to_thread

    async def here(work, *words):  # type: ignore[no-untyped-def]
        return work(*words)

    asyncio.to_thread = here  # type: ignore[assignment]
    try:
        yield
    finally:
        asyncio.to_thread = before
        assert asyncio.get_running_loop() is loop


def test_while_the_store_fails_nothing_is_acknowledged_and_control_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = Disk(tmp_path)
        arrivals = [stay(0, 0.0, 9_000.0, 0.7, 0.6), stay(1, 0.0, 1_000.0, 0.7, 0.6), stay(2, 905.0, 9_000.0, 0.7, 0.6)]
        here = WireSite(world(3, arrivals=arrivals), store=disk.store)
        watching = asyncio.ensure_future(disk.watch(here).run())
        here.start()
        await here.until_giving(5.0)
        disk.fails = True
        before = {(row.station_id, row.transaction_id): row.events for row in disk.store.open_transactions()}
        cycles, decision = here.site.cycles, here.decision
        await here.after(2.0)
        told = [one for one in here.site.unstored.shown() if (one.code, one.source) == ("store_failed", "store")]
        assert len(told) == 1, "told within 2 s, although it cannot be stored"
        assert told[0].severity == "alarm"
        assert "rehearsed" in told[0].text
        assert "store_failed" not in here.codes
        await here.after(60.0)
        assert here.site.cycles - cycles >= 123, "no cycle was left out"
        assert here.decision.state == decision.state != "idle"
        assert -here.power_kw.sum() > 5.0, "shaving goes on"
        after = {(row.station_id, row.transaction_id): row.events for row in disk.store.open_transactions()}
        assert after == before
        disk.fails = False
        await here.after(400.0)
        assert not here.site.unstored.waiting
        assert {"store_failed", "store_back"} <= here.codes.keys()
        for row in disk.store.open_transactions():
            assert row.events == row.last_seq_no + 1, "what was not acknowledged came again, nothing is missing"
            assert row.events > before.get((row.station_id, row.transaction_id), 0)
        watching.cancel()
        await here.stop()

    async def run() -> None:
        with no_threads():
            await scenario()

    on_wire(run)


def test_a_disk_that_fills_up_is_told_early_and_the_reserve_is_given_when_it_is_full(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = Disk(tmp_path)
        here = WireSite(world(1, arrivals=[]), store=disk.store)
        watch = disk.watch(here)
        watching = asyncio.ensure_future(watch.run())
        here.start()
        await here.after(11.0)
        assert watch.reserve.is_there
        assert watch.reserve.path.stat().st_mode & 0o777 == 0o600
        assert "store_space" not in here.codes
        disk.free = 1_900 * 10**6
        await here.after(11.0)
        assert here.codes["store_space"] == 1
        disk.free, disk.fails = 5_000, True
        await here.after(1.0)
        assert not watch.reserve.is_there, "its space belongs to the store now"
        disk.fails = False
        rows = len(disk.store.telemetry("site_kw", 946_684_800.0, 4_000_000_000.0))
        await here.after(60.0)
        assert here.codes["store_reserve"] == 1
        assert len(disk.store.telemetry("site_kw", 946_684_800.0, 4_000_000_000.0)) == rows, "only what is needed"
        assert disk.store.health().telemetry_dropped > 0
        disk.free = 10**11
        await here.after(30.0)
        assert watch.reserve.is_there
        assert len(disk.store.telemetry("site_kw", 946_684_800.0, 4_000_000_000.0)) > rows
        watching.cancel()
        await here.stop()

    async def run() -> None:
        with no_threads():
            await scenario()

    on_wire(run)


def test_the_stop_after_damage_outlives_the_next_restart_until_a_person_clears_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        store.moved_to = tmp_path / "site.db.corrupt"  # type: ignore[attr-defined]
        here = WireSite(world(1, arrivals=[]), store=store)
        here.start()
        await here.after(5.0)
        assert here.decision.state == "estop"
        assert store.settings()["estop"] == b"true"
        await here.site.clear_estop("ana")
        await here.after(5.0)
        assert here.decision.state != "estop"
        assert store.settings()["estop"] == b"false"
        await here.stop()

    on_wire(scenario)
