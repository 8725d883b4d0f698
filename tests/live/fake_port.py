"""A running site for tests of the web: the page's fixture plus what people did to it. No site loop behind it."""

import math
from collections.abc import Callable, Sequence

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import structs

from gridtide.app.web.port import OverrideMode, Window
from gridtide.model.telemetry import EvseTelemetry, TelemetryFrame
from gridtide.model.view import PowerView, SiteView, VehicleView
from gridtide.run.health import Health
from gridtide.run.store.rows import FIRST_HASH, AuditEntry
from tests.live.page_fixture import NOW_S, sample_power, sample_view

FLOOR_KW = 10.0
"""The fake refuses limits below this, as a real site refuses some by its own rules."""


def from_peer(app: ASGIApp, peer: tuple[str, int]) -> ASGIApp:
    """`app` as it sees a connection from `peer`; the test client has no address of its own."""

    async def shifted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in (ScopeType.HTTP, ScopeType.WEBSOCKET):
            scope["client"] = peer
        await app(scope, receive, send)

    return shifted


class FakePort:
    """Keeps every act in `acts` as (name, *arguments, actor)."""

    def __init__(self, now: Callable[[], float] = lambda: NOW_S) -> None:
        self._now = now
        self.acts: list[tuple[object, ...]] = []
        self.limit_kw, self.buffer_kw, self.stopped = 450.0, 8.0, False
        self.stop_input = self.waiting = False
        self.alive, self.beat_age_s = True, 0.2
        self.frames = 0
        """How often live telemetry was asked for."""
        self._seen: set[int] = set()
        self._overrides: dict[str, str] = {}

    def view(self) -> SiteView:
        """The fixture at the fake's instant, with the acts applied."""
        view = sample_view(self._now())
        events = tuple(structs.replace(e, seen=e.seen or e.id in self._seen) for e in view.events)
        vehicles = tuple(
            structs.replace(v, override=self._overrides[v.evse_id]) if v.evse_id in self._overrides else v
            for v in view.vehicles
        )
        view = structs.replace(
            view,
            limit_kw=self.limit_kw,
            buffer_kw=self.buffer_kw,
            demand=structs.replace(view.demand, limit_kw=self.limit_kw),
            events=events,
            vehicles=vehicles,
            estop=self.stopped,
        )
        if self.waiting:
            return structs.replace(view, state="waiting")
        return structs.replace(view, state="estop", state_word="Emergency stop") if self.stopped else view

    def health(self) -> Health:
        """Alive, and ready unless `waiting`."""
        reasons = ("No meter sample yet.",) if self.waiting else ()
        return Health(
            alive=self.alive, ready=not reasons, reasons=reasons, estop=self.stopped, beat_age_s=self.beat_age_s
        )

    def telemetry_now(self) -> TelemetryFrame:
        """The fixture's powers; what a station does not measure is None."""
        view = self.view()
        self.frames += 1
        return TelemetryFrame(
            t_s=view.now_s, site_kw=view.power.site_kw, building_kw=view.power.building_kw,
            evses=tuple(
                EvseTelemetry(
                    evse_id=v.evse_id, t_s=view.now_s, power_kw=v.power_kw, soc=v.soc,
                    voltage_v=None if v.power_kw is None else 230.0,
                )
                for v in view.vehicles
            ),
        )  # fmt: skip

    def power(self, window: Window) -> PowerView:
        """The fixture's history."""
        return sample_power(window, self._now())

    async def set_limit(self, limit_kw: float, buffer_kw: float, actor: str) -> None:
        """Keep it; refuses what the real site refuses."""
        if limit_kw < FLOOR_KW:
            raise ValueError(f"limit_kw is {limit_kw:g}: give at least {FLOOR_KW:g} kW")
        if buffer_kw >= limit_kw:
            raise ValueError(f"buffer_kw is {buffer_kw:g}: give less than the limit ({limit_kw:g} kW)")
        self.limit_kw, self.buffer_kw = limit_kw, buffer_kw
        self.acts.append(("set_limit", limit_kw, buffer_kw, actor))

    async def estop(self, actor: str) -> None:
        """Latch."""
        self.stopped = True
        self.acts.append(("estop", actor))

    async def clear_estop(self, actor: str) -> None:
        """Unlatch unless the input is active."""
        if self.stop_input:
            raise ValueError("the emergency stop input is still active: release the button first")
        self.stopped = False
        self.acts.append(("clear_estop", actor))

    async def shed_load(self, limit_kw: float, minutes: float | None, actor: str) -> None:
        """Only noted."""
        self.acts.append(("shed_load", actor, limit_kw, minutes))

    async def end_load_shed(self, actor: str) -> bool:
        """Only noted."""
        self.acts.append(("end_load_shed", actor))
        return True

    async def mark_seen(self, event_id: int, actor: str) -> bool:
        """Mark one of the fixture's events."""
        event = next((e for e in self.view().events if e.id == event_id), None)
        if event is None:
            raise KeyError(f"there is no event {event_id}")
        self._seen.add(event_id)
        self.acts.append(("mark_seen", event_id, actor))
        return not event.seen

    async def override(
        self, evse_id: str, mode: OverrideMode, power_kw: float | None, minutes: float, actor: str
    ) -> None:
        """Keep the words of it."""
        vehicle = self.explain(evse_id)
        if power_kw is not None and not -vehicle.max_discharge_kw <= power_kw <= vehicle.max_charge_kw:
            raise ValueError(
                f"power_kw is {power_kw:g}: give -{vehicle.max_discharge_kw:g} to {vehicle.max_charge_kw:g}"
            )
        if not math.isfinite(minutes):
            raise AssertionError("non-finite numbers never travel")
        self._overrides[evse_id] = f"{mode} for {minutes:g} min"
        self.acts.append(("override", evse_id, mode, power_kw, minutes, actor))

    def explain(self, evse_id: str) -> VehicleView:
        """One row of the fixture."""
        for vehicle in self.view().vehicles:
            if vehicle.evse_id == evse_id:
                return vehicle
        raise KeyError(f"there is no EVSE {evse_id!r}: see gridtide status for their names")

    def audit(self, limit: int) -> tuple[AuditEntry, ...]:
        """The acts as audit entries (hashes are not real)."""
        rows = [
            AuditEntry(
                id=number, at_s=self._now(), actor=str(act[-1]), action=str(act[0]),
                detail_json=msgspec.json.encode(act[1:-1]), prev_hash=FIRST_HASH, hash=f"{number:064x}",
            )
            for number, act in enumerate(self.acts, start=1)
        ]  # fmt: skip
        return tuple(reversed(rows[-limit:]))

    def telemetry(self, series: str, start_s: float, end_s: float) -> Sequence[tuple[float, float]]:
        """A value each quarter of the range; site_kw only."""
        if series != "site_kw":
            raise KeyError(f"there is no series {series!r}")
        return [(start_s + quarter / 4.0 * (end_s - start_s), 400.0 + quarter) for quarter in range(4)]
