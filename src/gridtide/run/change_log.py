"""One line in the log for every change of a decision: which EVSE, from how much to how much, and why, in words."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import numpy as np
import structlog

from gridtide.control import words
from gridtide.control.site import Settings, State
from gridtide.model.decision import Decision, Snapshot
from gridtide.model.fleet import Floats
from gridtide.run.decision_codec import settings_sha256
from gridtide.run.replay import input_ids, reason_name

log = structlog.get_logger(__name__)
STEP_KW: Final = 1.0
STEP_S: Final = 10.0
"""A setpoint that only moves, for the same reason, is told when it moved by so much, at most so often."""
MOST_LINES: Final = 200
"""In one cycle; the rest is one line with their number."""


class ChangeLog:
    """Watches the cycles of one site and tells what changed."""

    def __init__(self, clock: Callable[[float], str]) -> None:
        """`clock` renders UTC epoch seconds as the site's local time, for the words."""
        self._clock = clock
        self._reason: np.ndarray | None = None
        self._told_kw: Floats = np.zeros(0)
        self._told_s: Floats = np.zeros(0)
        self._state = ""
        self._settings: Settings | None = None
        self._digest = ""

    def cycle(self, _before: State, settings: Settings, seen: Snapshot, decision: Decision, after: State) -> None:
        """Tell of this cycle what is not as in the one before."""
        if decision.state != self._state:
            log.info("site_state", old=self._state or "none", new=decision.state)
            self._state = decision.state
        if self._reason is None or self._reason.size != decision.reason.size:
            size = decision.reason.size
            self._reason, self._told_kw, self._told_s = np.full(size, 255), np.zeros(size), np.full(size, -np.inf)
        rows = self._changed(decision, seen.mono_s)
        for row in rows[:MOST_LINES]:
            self._tell(row, settings, seen, decision, after)
        if len(rows) > MOST_LINES:
            log.info("decisions_more", changes=len(rows) - MOST_LINES)
        self._reason = decision.reason
        self._told_kw[rows], self._told_s[rows] = decision.setpoint_kw[rows], seen.mono_s

    def _changed(self, decision: Decision, now_s: float) -> list[int]:
        power = decision.setpoint_kw
        moved = (np.abs(power - self._told_kw) >= STEP_KW) & (now_s - self._told_s >= STEP_S)
        turned = np.sign(power) != np.sign(self._told_kw)
        rows: list[int] = np.flatnonzero((decision.reason != self._reason) | turned | moved).tolist()
        return rows

    def _tell(self, row: int, settings: Settings, seen: Snapshot, decision: Decision, after: State) -> None:
        if settings is not self._settings:
            self._settings, self._digest = settings, settings_sha256(settings)
        said = words.explain(row, seen, decision, after, settings, self._clock)
        log.info(
            "decision", evse=settings.table.ids[row],
            at=datetime.fromtimestamp(seen.now_s, UTC).isoformat(timespec="milliseconds"),
            old_kw=float(self._told_kw[row]), new_kw=float(decision.setpoint_kw[row]),
            reason=reason_name(int(decision.reason[row])), why=said.reason,
            inputs=input_ids(seen, row, self._digest),
        )  # fmt: skip
