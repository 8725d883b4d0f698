"""Metrics of one site in Prometheus' text format: read when asked for, formatted beside the loop; labels are EVSE and code only."""

import asyncio
import math
from collections.abc import Iterator
from typing import Final

from litestar import Router, get
from litestar.response import Response
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

import gridtide
from gridtide.control.site import Settings, State
from gridtide.model.decision import Decision, Snapshot
from gridtide.model.events import CATALOGUE
from gridtide.run.decision_log import DecisionLog
from gridtide.run.live import LiveSite
from gridtide.run.notify import Notifier
from gridtide.run.store import StoredEvent, StoreError
from gridtide.run.view import Viewer

LATENCY_S: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
VIOLATIONS: Final = {
    "failed_shave": "demand", "reverse_power": "export", "latency_over_budget": "latency",
    "max_capacity_reached": "connection", "driver_short": "departure",
}  # fmt: skip
"""Event -> the bound that was not kept, or was reached."""
Row = tuple[tuple[str, ...], float | None]


class Facts(Struct, frozen=True):
    """One family of figures, taken on the loop."""

    name: str
    help: str
    rows: tuple[Row, ...]
    labels: tuple[str, ...] = ()
    counts: bool = False
    """It only ever rises."""


class SiteMetrics:
    """Counts what happens at one site and tells it."""

    def __init__(self, live: LiveSite, viewer: Viewer) -> None:
        """Begins to count cycles and events of `live`."""
        self._live, self._viewer = live, viewer
        self.log: DecisionLog | None = None
        self.notifier: Notifier | None = None
        # Else every counter has a second sample, which nobody asked for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._latency = Histogram(
            "gridtide_cycle_latency_seconds", "From the meter's sample to the setpoints on their way.", buckets=LATENCY_S,
            registry=self._registry,
        )  # fmt: skip
        self._events = Counter("gridtide_events", "Events by code.", ("code",), registry=self._registry)
        self._broken = Counter(
            "gridtide_violations", "Bounds not kept, or reached.", ("bound",), registry=self._registry
        )
        self._changes = Counter("gridtide_setpoint_changes", "Setpoints that became another.", registry=self._registry)
        for kind in CATALOGUE:
            self._events.labels(kind.code)
        for bound in VIOLATIONS.values():
            self._broken.labels(bound)
        self._last: Decision | None = None
        live.service.watchers.append(self._cycle)
        live.service.listeners.append(self._event)

    async def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        facts = self.facts()
        return await asyncio.to_thread(self._format, facts)

    def facts(self) -> tuple[Facts, ...]:
        """Everything that is read when asked for; powers in kW, + import and charging."""
        return (*self._site(), *self._evses(), *self._loop(), *self._stations(), *self._store())

    def _format(self, facts: tuple[Facts, ...]) -> bytes:
        once = CollectorRegistry(auto_describe=False)
        once.register(_Once(facts))
        return generate_latest(self._registry) + generate_latest(once)

    def _cycle(self, _before: State, _given: Settings, _seen: Snapshot, decision: Decision, _after: State) -> None:
        service = self._live.service
        if service.latencies_s and _seen.meter is not None:
            self._latency.observe(service.latencies_s[-1])
        if self._last is not None:
            self._changes.inc(int((decision.setpoint_kw != self._last.setpoint_kw).sum()))
        self._last = decision

    def _event(self, event: StoredEvent) -> None:
        self._events.labels(event.code).inc()
        if event.code in VIOLATIONS:
            self._broken.labels(VIOLATIONS[event.code]).inc()

    # --- families ---------------------------------------------------------------------------------------------------
    def _site(self) -> Iterator[Facts]:
        service, decision = self._live.service, self._live.service.decision
        demand, point = self._viewer.demand(), self._viewer.point()
        yield _one("gridtide_site_power_kw", "Power at the connection, + import.", point.site_kw)
        yield _one("gridtide_building_power_kw", "Building without the vehicles.", point.building_kw)
        yield _one("gridtide_peak_limit_kw", "Limit in force for the billed interval.", demand.limit_kw)
        yield _one("gridtide_period_peak_kw", "Highest billed interval of the period.", demand.period_peak_kw)
        yield _one("gridtide_demand_projected_kw", "Where the running interval will end.", demand.projected_kw)
        yield _one("gridtide_demand_used_kwh", "Energy of the running interval so far.", demand.used_kwh)
        yield _one("gridtide_demand_allowed_kw", "Power that may run to the interval's end.", demand.allow_kw)
        if decision is not None:
            yield _one("gridtide_discharge_wanted_kw", "Discharge wanted of the fleet.", decision.discharge_wanted_kw)
            yield _one("gridtide_discharge_available_kw", "Discharge the fleet could give.", decision.available_kw)
            yield _one("gridtide_discharge_missing_kw", "Wanted and not to be had.", decision.missing_kw)
            lent = float((decision.setpoint_kw < 0.0).sum())
            yield _one("gridtide_discharge_leases", "EVSEs with a running discharge lease.", lent)
            yield _one("gridtide_lease_seconds", "Life of a discharge lease.", decision.lease_s)
        yield _one("gridtide_estop", "1 while the emergency stop is pressed.", float(service.state.guard.estop))

    def _evses(self) -> Iterator[Facts]:
        service, decision, snapshot = self._live.service, self._live.service.decision, self._live.service.snapshot
        ids = service.settings.table.ids
        if decision is None or snapshot is None or len(ids) != decision.setpoint_kw.size:
            return
        fleet = snapshot.fleet
        for name, what, values in (
            ("setpoint_kw", "Setpoint, + charging.", decision.setpoint_kw),
            ("power_kw", "Metered power, + charging.", fleet.power_kw),
            ("soc", "Charge of the vehicle, 0..1.", fleet.soc),
            ("connected", "1 while a vehicle is connected.", fleet.connected.astype(float)),
            ("age_seconds", "Age of the station's last word.", fleet.age_s),
        ):
            rows = tuple(((evse,), value) for evse, value in zip(ids, values.tolist(), strict=True))
            yield Facts(f"gridtide_evse_{name}", what, rows, ("evse",))

    def _loop(self) -> Iterator[Facts]:
        service, health = self._live.service, self._viewer.health()
        yield _one("gridtide_cycles", "Control cycles.", float(service.cycles), counts=True)
        yield _one("gridtide_late_cycles", "Cycles that were left out.", float(service.late_cycles), counts=True)
        yield _one("gridtide_heartbeat_age_seconds", "Since the last cycle.", health.beat_age_s)
        yield _one("gridtide_ready", "1 while the site is steered, as /readyz.", float(health.ready))
        state = "none" if service.decision is None else service.decision.state
        rows = tuple(((name,), float(name == state)) for name in ("none", "ok", "idle", "estop"))
        yield Facts("gridtide_state", "1 for the state of the site.", rows, ("state",))
        yield Facts("gridtide_build", "Version.", (((gridtide.__version__,), 1.0),), ("version",))

    def _stations(self) -> Iterator[Facts]:
        csms = self._live.csms
        talking = [item.conversation for item in tuple(csms.stations.values()) if item.conversation is not None]
        waiting = sum(item.session.waiting_calls for item in talking)
        yield _one("gridtide_stations", "Stations registered.", float(len(csms.stations)))
        yield _one("gridtide_stations_online", "Stations connected and accepted.", float(csms.online))
        yield _one("gridtide_setpoint_messages", "Setpoints sent to stations.", float(csms.sender.sent), counts=True)
        yield _one("gridtide_calls_waiting", "Calls to stations that wait.", float(waiting))
        bad = float(sum(item.violations for item in talking))
        yield _one("gridtide_protocol_violations", "By the stations connected now, since they connected.", bad)
        yield _one("gridtide_refused_logins", "Connections refused.", float(self._live.listener.refused), counts=True)

    def _store(self) -> Iterator[Facts]:
        store = self._live.service.store
        health = store.health()
        yield _one("gridtide_store_pending", "Writes that wait for their commit.", float(health.pending))
        yield _one("gridtide_store_failing", "1 while the store cannot write.", float(health.failure is not None))
        for name, what, value in (
            ("failed_commits", "Commits that failed.", health.failed_commits),
            ("telemetry_dropped", "Measured values lost.", health.telemetry_dropped),
            ("telemetry_refused", "Measured values that were no numbers.", health.telemetry_refused),
        ):
            yield _one(f"gridtide_store_{name}", what, float(value), counts=True)
        if self.log is not None:
            yield _one("gridtide_decision_blocks", "Blocks of decisions stored.", float(self.log.blocks), counts=True)
            lost = float(self.log.lost_blocks)
            yield _one("gridtide_decision_blocks_lost", "Blocks of decisions lost.", lost, counts=True)
        if self.notifier is not None:
            sent, failed = self.notifier.delivered, self.notifier.failures
            yield _one("gridtide_notifications", "Notifications delivered.", float(sent), counts=True)
            yield _one("gridtide_notification_failures", "Deliveries that failed.", float(failed), counts=True)
            try:
                waiting = float(store.outbox_size())
            except StoreError:
                return
            yield _one("gridtide_notifications_waiting", "Notifications not delivered yet.", waiting)


class _Once(Collector):
    """Facts as Prometheus' families."""

    def __init__(self, facts: tuple[Facts, ...]) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        for fact in self._facts:
            kind = CounterMetricFamily if fact.counts else GaugeMetricFamily
            family = kind(fact.name, fact.help, labels=fact.labels)
            for labels, value in fact.rows:
                if value is not None and math.isfinite(value):
                    family.add_metric(labels, value)
            yield family


def _one(name: str, what: str, value: float | None, *, counts: bool = False) -> Facts:
    return Facts(name, what, (((), value),), (), counts)


def metrics_routes(metrics: SiteMetrics) -> Router:
    """GET /metrics, for a viewer: without a token only from this machine."""

    @get("/metrics", opt={"role": "viewer"}, include_in_schema=False)
    async def told() -> Response[bytes]:
        return Response(await metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return Router("/", route_handlers=[told])
