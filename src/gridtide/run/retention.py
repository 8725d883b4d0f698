"""What grows old goes: once a day ended transactions and measured values beyond their time are deleted, and that is audited."""

import msgspec
import structlog

from gridtide.run.clock import Clock
from gridtide.run.store import Store, StoreError
from gridtide.run.store.rows import EARLIEST_S

DAY_S = 86_400.0
FIRST_S = 600.0
"""After a start, before the first look: starting has enough to do."""
log = structlog.get_logger(__name__)


async def forget_daily(store: Store, clock: Clock, transactions_days: int, telemetry_days: int) -> None:
    """Delete what is older than so many days, every day, for ever; 0 days keeps for ever."""
    await clock.sleep(FIRST_S)
    while True:
        try:
            await forget_old(store, clock.wall(), transactions_days, telemetry_days)
        except StoreError as error:
            # The disk has its own alarms; tomorrow is another day.
            log.warning("retention_failed", error=str(error))
        await clock.sleep(DAY_S)


async def forget_old(store: Store, now_s: float, transactions_days: int, telemetry_days: int) -> tuple[int, int]:
    """Delete what is too old at `now_s` (UTC epoch seconds); how many transactions and measured values went."""

    def border(days: int) -> float:
        return max(EARLIEST_S, now_s - days * DAY_S)

    transactions = await store.forget_transactions(border(transactions_days)) if transactions_days else 0
    telemetry = await store.forget_telemetry(border(telemetry_days)) if telemetry_days else 0
    if transactions or telemetry:
        detail = msgspec.json.encode({"transactions": transactions, "telemetry": telemetry})
        await store.append_audit(now_s, "retention", "store.forget", detail)
    return transactions, telemetry
