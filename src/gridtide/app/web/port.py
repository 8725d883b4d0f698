"""What the web needs of a running site, as a port: everything it shows and everything people may do through it."""

from collections.abc import Sequence
from typing import Literal, Protocol

from gridtide.model.telemetry import TelemetryFrame
from gridtide.model.view import PowerView, SiteView, VehicleView
from gridtide.run.health import Health
from gridtide.run.store.rows import AuditEntry

OverrideMode = Literal["auto", "charge", "hold", "power"]
Window = Literal["hour", "day"]


class SitePort(Protocol):
    """A running site. A wish it cannot grant raises `ValueError` (field, value, cure), an unknown id `KeyError`.

    Reads answer at once from memory or the store's read connection; acts return when they are stored and audited.
    """

    def view(self) -> SiteView:
        """The page as of the latest cycle; state `waiting` before the first."""

    def health(self) -> Health:
        """Whether the control loop turns and the site is steered, and why not."""

    def power(self, window: Window) -> PowerView:
        """History behind the power chart."""

    def telemetry_now(self) -> TelemetryFrame:
        """What the meter and every EVSE told last."""

    async def set_limit(self, limit_kw: float, buffer_kw: float, actor: str) -> None:
        """New peak limit and buffer, kW, in force from the next cycle."""

    async def estop(self, actor: str) -> None:
        """Press the emergency stop."""

    async def clear_estop(self, actor: str) -> None:
        """Clear the emergency stop; ValueError while its input is active."""

    async def shed_load(self, limit_kw: float, minutes: float | None, actor: str) -> None:
        """Limit the import, kW, for some minutes or until it is ended: above every wish, below no hard limit."""

    async def end_load_shed(self, actor: str) -> bool:
        """End such a limit; False when there is none."""

    async def mark_seen(self, event_id: int, actor: str) -> bool:
        """Mark an event as seen; False if it was seen before, KeyError if there is none."""

    async def override(
        self, evse_id: str, mode: OverrideMode, power_kw: float | None, minutes: float, actor: str
    ) -> None:
        """Set one EVSE by hand for some minutes; `power_kw` (+ charges, - gives) is a number in mode `power`."""

    def explain(self, evse_id: str) -> VehicleView:
        """One EVSE with the reason of its setpoint in full."""

    def audit(self, limit: int) -> tuple[AuditEntry, ...]:
        """The newest audit entries, newest first."""

    def telemetry(self, series: str, start_s: float, end_s: float) -> Sequence[tuple[float, float]]:
        """(UTC epoch s, value) of a stored series in [start_s, end_s), ascending; KeyError for an unknown series."""
