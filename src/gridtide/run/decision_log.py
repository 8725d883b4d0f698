"""The decision log: every control cycle is kept so that it can be decided again, to the same setpoints, bit for bit.

The loop only keeps references; once a block is full it is packed beside the loop and stored, linked into the audit chain. A store
that fails delays it, and only so many blocks wait.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from msgspec import Struct

from gridtide.control.site import Settings, State
from gridtide.model.decision import Decision, Snapshot
from gridtide.run.clock import Clock
from gridtide.run.decision_codec import Block, Cycle, encode_block, made_here
from gridtide.run.store import Store, StoreError, StoreRangeError

log = structlog.get_logger(__name__)
BLOCK_CYCLES: Final = 120
"""A minute of cycles of 0.5 s."""
MOST_WAITING: Final = 10
"""Blocks that wait for the disk; the oldest make room."""
RETRY_S: Final = 5.0
DAY_S: Final = 86_400.0
Offload = Callable[[Callable[[], bytes]], Awaitable[bytes]]
"""Where packing runs: a thread, or in virtual time the loop itself."""


async def at_once(work: Callable[[], bytes]) -> bytes:
    """An `Offload` without a thread, for virtual time."""
    return work()


class DecisionLog:
    """Keeps what each cycle of one site was given and what it decided."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        offload: Offload = asyncio.to_thread,
        block_cycles: int = BLOCK_CYCLES,
        on_loss: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_loss` is told, in a sentence, when a block cannot be kept."""
        self._store, self._clock, self._offload, self._size, self._on_loss = (
            store,
            clock,
            offload,
            block_cycles,
            on_loss,
        )
        self._run, self._number, self._made_by = secrets.token_hex(8), 0, made_here()
        self._cycles: list[Cycle] = []
        self._begin: tuple[Settings, State, bool] | None = None
        self._settings: Settings | None = None
        self._after: State | None = None
        self._waiting: deque[Block] = deque()
        self._worker: asyncio.Task[None] | None = None
        self.blocks = self.lost_blocks = 0

    def cycle(self, before: State, settings: Settings, snapshot: Snapshot, decision: Decision, after: State) -> None:
        """Note one cycle: `step(before, snapshot, settings)` gave `after` and `decision`."""
        new_settings, new_state = _changed(self._settings, settings), _changed(self._after, before)
        if self._begin is None:
            self._begin = (settings, before, self._after is not None and not new_settings and not new_state)
            new_settings, new_state = {}, {}
        self._cycles.append(
            Cycle(
                snapshot=snapshot, setpoint_kw=decision.setpoint_kw, reason=decision.reason, state=decision.state,
                events=decision.events, settings=new_settings, before=new_state,
            )
        )  # fmt: skip
        self._settings, self._after = settings, after
        if len(self._cycles) >= self._size:
            self._finish_block()

    async def close(self) -> None:
        """Keep the cycles noted so far, whole block or not."""
        self._finish_block()
        if self._worker is not None:
            await self._worker

    @property
    def waiting(self) -> int:
        """Blocks not stored yet."""
        return len(self._waiting)

    def _finish_block(self) -> None:
        if self._begin is None:
            return
        settings, state, continues = self._begin
        block = Block(
            run=self._run, number=self._number, continues=continues, made_by=self._made_by, settings=settings, state=state,
            cycles=tuple(self._cycles),
        )  # fmt: skip
        self._number += 1
        self._begin, self._cycles = None, []
        self._waiting.append(block)
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self._lose("The store is too slow for the log of decisions; a minute of it is lost.")
        if self._worker is None or self._worker.done():
            self._worker = asyncio.ensure_future(self._store_all())

    async def _store_all(self) -> None:
        """Store what waits, oldest first; a second failure in a row is left to the next block."""
        failed = False
        while self._waiting:
            block = self._waiting[0]
            try:
                await self._keep(block)
            except StoreError as error:
                log.warning("decisions_not_stored", error=str(error), waiting=len(self._waiting))
                if failed:
                    return
                failed = True
                await asyncio.sleep(RETRY_S)
                continue
            except (StoreRangeError, NotImplementedError) as error:
                self._lose(f"A minute of the log of decisions cannot be kept: {error}")
            failed = False
            if self._waiting and self._waiting[0] is block:
                self._waiting.popleft()

    async def _keep(self, block: Block) -> None:
        data = await self._offload(lambda: encode_block(block))
        start_s, end_s = block.span_s
        await self._store.add_decisions(start_s, end_s, len(block.cycles), data, self._clock.wall())
        self.blocks += 1

    def _lose(self, why: str) -> None:
        self.lost_blocks += 1
        log.error("decisions_lost", why=why, lost=self.lost_blocks)
        self._on_loss(why)


def _changed(before: Struct | None, after: Struct) -> dict[str, Any]:
    """Fields that are other objects now; all of them where there was nothing before."""
    if after is before:
        return {}
    names = after.__struct_fields__
    return {
        name: getattr(after, name)
        for name in names
        if before is None or _other(getattr(before, name), getattr(after, name))
    }


def _other(before: object, after: object) -> bool:
    """Numbers and texts are compared by value, everything else is frozen and the same as long as it is the same object."""
    if isinstance(after, bool | int | float | str):
        return repr(before) != repr(after)
    return before is not after


async def forget_decisions_hourly(store: Store, clock: Clock, keep_days: int, most_mb: int) -> None:
    """Every hour, for ever: delete what is older than `keep_days`, and the oldest beyond `most_mb`."""
    while True:
        await clock.sleep(3600.0)
        try:
            now_s = clock.wall()
            gone = await store.forget_decisions(now_s - keep_days * DAY_S, most_mb * 1_000_000, now_s)
        except (StoreError, StoreRangeError) as error:
            log.warning("retention_failed", error=str(error))
        else:
            if gone:
                log.info("decisions_forgotten", blocks=gone)
