"""Faults of an emulated station's own messages: ids used twice, broken frames, links that go."""

from collections.abc import Callable

from gridtide.run.emulator.core import Core

BROKEN_FRAME = b'[2,"broken","Heartbeat",'
EVERY_S = 30.0
"""How often a station with the fault `malformed` or `drops` misbehaves."""


class Mischief:
    """Does what the faults ask for, when it is due."""

    def __init__(self, core: Core, drop: Callable[[], None], write: Callable[[bytes], None]) -> None:
        """`drop` ends the link; `write` sends bytes past the session."""
        self._core, self._drop, self._write = core, drop, write
        self._due_s: float | None = None
        self._last_id = ""

    def tick(self) -> None:
        """Misbehave if it is time."""
        faults, now_s = self._core.faults, self._core.clock.monotonic()
        if not (faults.malformed or faults.drops):
            return
        if self._due_s is None:
            # A fleet does not misbehave in step.
            self._due_s = now_s + self._core.luck.uniform(0.0, EVERY_S)
        if now_s < self._due_s:
            return
        self._due_s = now_s + EVERY_S
        if faults.drops:
            self._drop()
        else:
            self._write(BROKEN_FRAME)

    def fresh_id(self) -> str:
        """A message id; with the fault `duplicates` every one comes twice."""
        if self._core.faults.duplicates and self._last_id:
            same, self._last_id = self._last_id, ""
            return same
        self._last_id = self._core.new_id()
        return self._last_id
