"""Is the program alive, and is the site steered? What the probes answer, with the reasons in words."""

import time
from collections.abc import Callable

from msgspec import Struct

from gridtide.control.site import Settings, State
from gridtide.model.decision import Decision, Snapshot
from gridtide.run.site import LATENCY_BUDGET_S, SiteService

DEAD_S = 10.0
"""Real seconds without a cycle after which a supervisor should start the program again."""
LATE_S = 3.0
START_S = 60.0
"""Real seconds that the first cycle may take."""
RECENT = 20


class Health(Struct, frozen=True, kw_only=True):
    """The state of one site for a probe."""

    alive: bool
    """The control loop turns."""
    ready: bool
    """The site is steered: the meter is believed, the store writes, the loop is in time."""
    reasons: tuple[str, ...] = ()
    """Why it is not."""
    estop: bool = False
    """The emergency stop is pressed: that is no fault, and shown."""
    beat_age_s: float | None = None
    """Real seconds since the last cycle; None before the first."""


class Heartbeat:
    """Watches the cycles of one site in real time."""

    def __init__(self, service: SiteService, now: Callable[[], float] = time.monotonic) -> None:
        """Begins to watch `service`; `now`: real monotonic seconds."""
        self._service, self._now = service, now
        self._begun_s = now()
        self._beat_s: float | None = None
        service.watchers.append(self._beat)

    def _beat(self, _before: State, _given: Settings, _seen: Snapshot, _decided: Decision, _after: State) -> None:
        self._beat_s = self._now()

    def look(self) -> Health:
        """The state now."""
        service, now_s = self._service, self._now()
        age_s = None if self._beat_s is None else now_s - self._beat_s
        alive = now_s - self._begun_s < START_S if age_s is None else age_s < DEAD_S
        reasons = tuple(self._reasons(age_s))
        return Health(
            alive=alive, ready=not reasons, reasons=reasons, estop=service.state.guard.estop, beat_age_s=age_s
        )

    def _reasons(self, age_s: float | None) -> list[str]:
        service, reasons = self._service, []
        decision = service.decision
        if decision is None or age_s is None:
            reasons.append("No meter sample yet.")
        elif decision.state == "idle" or service.state.meter.lost:
            reasons.append("The site meter is lost or cannot be believed; nothing is given back.")
        if age_s is not None and age_s > LATE_S:
            reasons.append(f"The control loop is late: its last cycle was {age_s:.0f} s ago.")
        recent = [service.latencies_s[-k] for k in range(1, min(RECENT, len(service.latencies_s)) + 1)]
        if len(recent) == RECENT and sorted(recent)[RECENT // 2] > LATENCY_BUDGET_S:
            reasons.append("Setpoints follow their samples too late; see latency_over_budget.")
        failure = service.store.health().failure
        if failure is not None:
            reasons.append("The store cannot write; see store_failed.")
        return reasons
