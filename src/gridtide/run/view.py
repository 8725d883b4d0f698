"""What people see of a running site: the page's view, built on demand from the service's latest cycle."""

import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct, structs

from gridtide.control import demand_clock, trust, words
from gridtide.control.peak import PeakSettings, held_kw
from gridtide.control.site import rule_of
from gridtide.market import tariff as money
from gridtide.market.tariff import Tariff
from gridtide.model.decision import Reason
from gridtide.model.events import BY_CODE
from gridtide.model.telemetry import EvseTelemetry, TelemetryFrame
from gridtide.model.view import (
    DemandView,
    EventView,
    IntervalView,
    LinkState,
    LinkView,
    MoneyLine,
    MoneyView,
    PlanGlance,
    PowerPoint,
    PowerView,
    PriceView,
    SiteState,
    SiteView,
    SocPoint,
    VehicleState,
    VehicleView,
)
from gridtide.run.clock import ScaledClock
from gridtide.run.health import Health, Heartbeat
from gridtide.run.planner_desk import PlannerDesk
from gridtide.run.planning import Answer
from gridtide.run.running_money import RunningMoney
from gridtide.run.sentences import NBSP, WORDS, sentence, subline
from gridtide.run.site import SiteService
from gridtide.run.store import AuditEntry, StoredEvent, StoreError

ORDER: dict[VehicleState, int] = {"waiting": 1, "charging": 1, "silent": 2, "giving": 3, "resting": 4, "empty": 5}
"""Rank on the page. Waiting and charging share one: vehicles that take turns must not swap rows."""
SOON_S = 3600.0
_TROUBLES = {
    "meter_frozen": "the meter has frozen",
    "meter_sign": "the meter's sign is wrong",
    "meter_errors": "too many reads of the meter fail",
    "meter_invalid": "the meter's readings make no sense",
}
Departure = Literal["met", "on_track", "at_risk", "unknown"]


class Site(Struct, frozen=True, kw_only=True):
    """What the view knows beside the service."""

    name: str
    timezone: str
    tariff: Tariff
    wear_per_kwh: float
    bay_names: tuple[str, ...]
    stations: int


class Viewer:
    """Builds views and carries out what people ask; the web's port to a running site."""

    def __init__(self, site: Site, service: SiteService, vehicle_name: Callable[[int], str]) -> None:
        self._site, self._service, self._vehicle_name = site, service, vehicle_name
        self._zone = ZoneInfo(site.timezone)
        self._last_events: tuple[EventView, ...] = ()
        self._heart = Heartbeat(service)
        self._bills = RunningMoney(site.tariff, service)
        service.watchers.append(self._bills.watch)
        self.plan: PlannerDesk | None = None
        """The site's foresight, where it has one."""
        self._glanced: tuple[Answer | None, int] = (None, 0)

    @property
    def place(self) -> tuple[str, str]:
        """The site's name and its time zone."""
        return self._site.name, self._site.timezone

    def telemetry_now(self) -> TelemetryFrame:
        """What the meter and every EVSE told last."""
        service, point, board = self._service, self._point(), self._service.board
        now_s = service.clock.wall()
        offset_s = now_s - service.clock.monotonic()
        evses = tuple(
            EvseTelemetry(
                evse_id=evse_id, t_s=_known(board.heard_s[row] + offset_s), power_kw=_known(board.power_kw[row]),
                voltage_v=_known(board.voltage_v[row]), current_a=_known(board.current_a[row]),
                frequency_hz=_known(board.frequency_hz[row]), soc=_known(board.soc[row]),
                temperature_c=_known(board.temperature_c[row]),
            )
            for row, evse_id in enumerate(service.settings.table.ids)
        )  # fmt: skip
        return TelemetryFrame(t_s=now_s, site_kw=point.site_kw, building_kw=point.building_kw, evses=evses)

    # --- views ------------------------------------------------------------------------------------------------------
    def view(self) -> SiteView:
        """All of the page but the chart's history."""
        service = self._service
        now_s = service.clock.wall()
        demand = self._demand(now_s)
        vehicles = self._vehicles()
        state = self._state(demand, vehicles)
        meter_age = service.clock.monotonic() - service.state.meter.at_s
        peak = service.settings.peak
        return SiteView(
            site=self._site.name, timezone=self._site.timezone, now_s=now_s,
            speed=service.clock.speed if isinstance(service.clock, ScaledClock) else 1.0,
            mode={"estop": "stopped", "safe": "idle"}.get(state, peak.mode), state=state, state_word=WORDS[state],
            sentence=sentence(
                state, demand.limit_kw, demand.projected_kw, vehicles, meter_age, trouble=self._trouble()
            ),
            subline=subline(vehicles, self._time, now_s=now_s, day=self._weekday),
            limit_kw=self._rule().limit_kw, buffer_kw=peak.buffer_kw, estop=service.state.guard.estop,
            links=self._links(meter_age), demand=demand, power=self._point(),
            intervals=(*list(service.history.intervals)[-5:], self._running(demand)), money=self._money(now_s),
            vehicles=vehicles, price=self._price(now_s), events=self._events(), plan=self._glance(),
        )  # fmt: skip

    def power(self, window: str) -> PowerView:
        """History behind the chart, `hour` or `day`."""
        now_s = self._service.clock.wall()
        return self._service.history.power(window, now_s, self._running(self._demand(now_s)))

    def explain(self, evse_id: str) -> VehicleView:
        """One vehicle; KeyError when there is no such EVSE."""
        self._row(evse_id)
        return next(v for v in self._vehicles() if v.evse_id == evse_id)

    # --- wishes of people -------------------------------------------------------------------------------------------
    async def set_limit(self, limit_kw: float, buffer_kw: float, actor: str) -> None:
        """See `SiteService.set_limit`."""
        await self._service.set_limit(limit_kw, buffer_kw, actor)

    async def estop(self, actor: str) -> None:
        """Press the emergency stop."""
        await self._service.estop(actor)

    async def clear_estop(self, actor: str) -> None:
        """Clear the emergency stop; ValueError while its input is active."""
        await self._service.clear_estop(actor)

    async def shed_load(self, limit_kw: float, minutes: float | None, actor: str) -> None:
        """Limit the import, kW, whatever anybody wishes; ValueError on a bad limit."""
        await self._service.protection.shed(limit_kw, minutes, actor)

    async def end_load_shed(self, actor: str) -> bool:
        """End it; False when there is none."""
        return await self._service.protection.end_shed(actor)

    async def mark_seen(self, event_id: int, actor: str) -> bool:
        """Acknowledge an event; False when there is none."""
        return await self._service.mark_seen(event_id, actor)

    async def override(self, evse_id: str, mode: str, power_kw: float | None, minutes: float, actor: str) -> None:
        """Set one vehicle by hand; KeyError when there is no such EVSE, ValueError on a bad wish."""
        if mode == "power" and power_kw is None:
            raise ValueError("power_kw is missing: give the power in kW, + charges, - gives")
        await self._service.override(self._row(evse_id), mode, power_kw or 0.0, minutes, actor)

    def audit(self, limit: int) -> tuple[AuditEntry, ...]:
        """Newest entries of the audit log, without those that link the blocks of the decision log."""
        return self._service.store.acts(limit)

    def health(self) -> Health:
        """What the probes answer."""
        return self._heart.look()

    def demand(self) -> DemandView:
        """The running interval."""
        return self._demand(self._service.clock.wall())

    def point(self) -> PowerPoint:
        """The powers now."""
        return self._point()

    def telemetry(self, series: str, start_s: float, end_s: float) -> list[tuple[float, float]]:
        """Stored telemetry of one series."""
        return list(self._service.store.telemetry(series, start_s, end_s))

    # --- parts ------------------------------------------------------------------------------------------------------
    def _row(self, evse_id: str) -> int:
        if evse_id not in self._service.settings.table.ids:
            raise KeyError(evse_id)
        return self._service.settings.table.ids.index(evse_id)

    def _rule(self) -> PeakSettings:
        """The peak rule that the controller follows now: with a plan's target while there is one."""
        service = self._service
        return rule_of(service.settings, service.clock.monotonic(), service.state.demand)

    def _glance(self) -> PlanGlance | None:
        """Reckoned anew for each plan only: the page asks for it several times a second."""
        if self.plan is None:
            return None
        held, own_kw = self.plan.planning.in_force, self._service.settings.peak.limit_kw
        if held is not self._glanced[0]:
            found = self.plan.view()
            self._glanced = held, 0 if found is None else len(found.missed)
        return PlanGlance(None if held is None else held.asked.horizon.start_s, self._glanced[1], own_kw)

    def _demand(self, now_s: float) -> DemandView:
        service, interval = self._service, self._service.settings.interval
        clock, decision = service.state.demand, service.decision
        began = clock.sub_start_s > demand_clock.NEVER_S
        end_s = (clock.sub_start_s if began else interval.sub_start_s(now_s)) + interval.sub_s
        mean_kw = service.state.peak.mean_kw
        building = decision.uncontrolled_kw if decision is not None and math.isfinite(decision.uncontrolled_kw) else 0.0
        fleet_kw = clock.power_kw - building
        outlook = mean_kw if math.isfinite(mean_kw) else building
        limit_kw = held_kw(self._rule(), clock)
        alone = service.carried.building
        allow = demand_clock.allow_kw(clock, interval, limit_kw, service.settings.cycle_s) if began else limit_kw
        return DemandView(
            start_s=end_s - interval.length_s, end_s=end_s, limit_kw=limit_kw,
            used_kwh=demand_clock.window_energy_kws(clock, interval) / 3600.0,
            budget_kwh=limit_kw * interval.length_s / 3600.0,
            allow_kw=None if end_s - now_s < 1.0 or not math.isfinite(allow) else allow,
            projected_kw=self._ends_at_kw(outlook, fleet_kw, limit_kw) if began else 0.0,
            projected_without_kw=demand_clock.projected_kw(alone, interval, outlook) if alone.at_s > demand_clock.NEVER_S else 0.0,
            period_peak_kw=clock.peak_kw, rolling=interval.rolling,
        )  # fmt: skip

    def _ends_at_kw(self, outlook_kw: float, fleet_kw: float, limit_kw: float) -> float:
        """Where the running interval will end: vehicles that give stop when its budget is paid, those that charge pause for it.

        Without giving from now on the building's mean and what charges run to the end; if that is too much, the interval ends
        just below its limit, or as low as the fleet can still bring it beside what must charge.
        """
        service, interval = self._service, self._service.settings.interval
        clock, rule, decision = service.state.demand, service.settings.peak, service.decision
        natural = demand_clock.projected_kw(clock, interval, outlook_kw + max(fleet_kw, 0.0))
        if decision is None or decision.state != "ok" or rule.mode != "budget":
            return demand_clock.projected_kw(clock, interval, outlook_kw + fleet_kw)
        lowest = demand_clock.projected_kw(clock, interval, outlook_kw + decision.fixed_kw - decision.available_kw)
        return max(lowest, min(natural, limit_kw * (1.0 - rule.margin)))

    def _state(self, demand: DemandView, vehicles: tuple[VehicleView, ...]) -> SiteState:
        decision = self._service.decision
        if self._service.state.guard.estop:
            return "estop"
        if decision is None or (decision.state == "idle" and self._service.state.demand.at_s <= demand_clock.NEVER_S):
            return "waiting"
        if decision.state == "idle":
            return "safe"
        if demand.projected_kw > demand.limit_kw * 1.001:
            return "over"
        return "using" if any(v.state == "giving" for v in vehicles) else "fine"

    def _running(self, demand: DemandView) -> IntervalView:
        return IntervalView(demand.start_s, demand.projected_kw, True)

    def _point(self) -> PowerPoint:
        service = self._service
        decision, snapshot = service.decision, service.snapshot
        if decision is None or snapshot is None:
            return PowerPoint(service.clock.wall(), None, None)
        known = decision.state != "idle" and math.isfinite(decision.uncontrolled_kw)
        power = service.state.demand.power_kw
        return PowerPoint(snapshot.now_s, power if known else None, decision.uncontrolled_kw if known else None)

    def _links(self, meter_age_s: float) -> tuple[LinkView, ...]:
        service = self._service
        limit_s = service.settings.meter.stale_s
        meter: LinkState = "ok" if meter_age_s <= limit_s and service.decision is not None else "lost"
        age = f"{meter_age_s:.1f}{NBSP}s" if math.isfinite(meter_age_s) else "no reading yet"
        total, online = self._site.stations, service.csms.online
        stations: LinkState = "ok" if online == total else "part" if online else "lost"
        note = str(total) if online == total else f"{online} of {total}"
        failure = service.store.health().failure
        store: LinkState = "ok" if failure is None else "lost"
        told = "" if failure is None else "cannot write"
        ours = (LinkView("Meter", meter, age), LinkView("Stations", stations, note), LinkView("Store", store, told))
        if service.operator.rule is None:
            return ours
        operator: LinkState = "lost" if service.operator.state.link.is_lost else "ok"
        return (*ours, LinkView("Operator", operator, service.operator.note()))

    def _vehicles(self) -> tuple[VehicleView, ...]:
        service = self._service
        if service.decision is None or service.snapshot is None:
            return ()
        rows = [self._vehicle(row) for row in range(service.settings.table.size)]
        return tuple(sorted(rows, key=self._urgency))

    def _urgency(self, vehicle: VehicleView) -> tuple[int, float, str]:
        left = (vehicle.departs_s or math.inf) - self._service.clock.wall()
        soon = left < SOON_S and vehicle.departure in ("on_track", "at_risk")
        return (0 if soon else ORDER[vehicle.state], left, vehicle.evse_id)

    def _vehicle(self, row: int) -> VehicleView:
        service = self._service
        snapshot, decision, table = service.snapshot, service.decision, service.settings.table
        if snapshot is None or decision is None:  # pragma: no cover - `_vehicles` has looked
            raise ValueError("no cycle yet")
        fleet, need = snapshot.fleet, service.settings.need
        said = words.explain(row, snapshot, decision, service.state, service.settings, self._time)
        if doubt := trust.words(service.state.trust, row):
            said = _doubted(said, doubt, Reason(int(decision.reason[row])), bool(service.state.trust.open.welded[row]))
        soc, target = _known(float(fleet.soc[row])), _known(float(fleet.need_soc[row]))
        left_s, age_s = float(fleet.left_s[row]), float(fleet.age_s[row])
        connected, silent = bool(fleet.connected[row]), said.state == "silent"
        departs = snapshot.now_s + left_s if connected and math.isfinite(left_s) else None
        departure, note, ready_s = self._departure(row, soc, target, departs, silent)
        override = next((o for o in service.settings.overrides if o.row == row and snapshot.mono_s < o.until_s), None)
        return VehicleView(
            evse_id=table.ids[row], bay=self._site.bay_names[row], name=self._vehicle_name(row) if connected else "",
            state=said.state, soc=soc if connected else None, floor_soc=need.floor_soc,
            window_low_soc=need.window_low_soc, window_high_soc=need.window_high_soc,
            target_soc=target if connected else None,
            power_kw=None if silent or not connected else _known(float(fleet.power_kw[row])),
            setpoint_kw=float(decision.setpoint_kw[row]), departs_s=departs, departure=departure, departure_note=note,
            reason=said.reason, detail=said.detail, silent_s=age_s if silent and math.isfinite(age_s) else None,
            max_charge_kw=float(table.charge_kw[row]), max_discharge_kw=float(table.discharge_kw[row]),
            override=None if override is None else f"{override.mode} until {self._until(override.until_s)}",
            path=self._path(row, soc, target, snapshot.now_s, ready_s, departs) if connected else (),
        )  # fmt: skip

    def _departure(
        self, row: int, soc: float | None, target: float | None, departs: float | None, silent: bool
    ) -> tuple[Departure, str, float | None]:
        """Whether the driver will be served, in one word and a note, and when the charge is there at full power."""
        service, snapshot = self._service, self._service.snapshot
        if snapshot is None or departs is None or target is None or soc is None:
            asked = float(snapshot.fleet.need_kwh[row]) if snapshot is not None else math.nan
            return "unknown", f"{asked:.0f}{NBSP}kWh to go" if math.isfinite(asked) else "", None
        note = f"{round(target * 100)}{NBSP}%"
        leaving, today = self._local(departs), self._local(snapshot.now_s)
        if leaving.date() != today.date():
            note += f" · {leaving:%a}"
        capacity = float(snapshot.fleet.capacity_kwh[row])
        table = service.settings.table
        hours = (
            max(0.0, target - soc) * capacity / float(table.efficiency[row]) / max(float(table.charge_kw[row]), 1e-6)
        )
        ready_s = snapshot.now_s + hours * 3600.0
        if silent:
            return "unknown", note, ready_s
        if soc >= target - 0.002:
            return "met", note, None
        return ("on_track" if ready_s <= departs else "at_risk"), note, ready_s

    def _path(
        self,
        row: int,
        soc: float | None,
        target: float | None,
        now_s: float,
        ready_s: float | None,
        departs: float | None,
    ) -> tuple[SocPoint, ...]:
        """Charge so far, and the latest way to the target at full power."""
        past = self._service.history.path(row)
        if soc is None:
            return past
        points = [*past, SocPoint(now_s, soc, False)]
        if ready_s is not None and departs is not None and target is not None:
            begin = max(now_s, departs - (ready_s - now_s))
            points += [SocPoint(begin, soc, True), SocPoint(max(departs, begin + 1.0), target, True)]
        elif departs is not None:
            points.append(SocPoint(departs, soc, True))
        return tuple(points)

    def _money(self, now_s: float) -> MoneyView:
        """Saved so far this billing period: the lower peak, less the wear of what was given."""
        service, tariff = self._service, self._site.tariff
        carried = service.carried
        fewer_kw = max(carried.at_once.peak_kw, 0.0) - max(service.state.demand.peak_kw, 0.0)
        avoided = self._bills.avoided(now_s)
        over = max(0.0, service.state.demand.peak_kw - self._rule().limit_kw)
        wear = carried.discharged_kwh * self._site.wear_per_kwh
        label = "Demand avoided" if avoided >= 0.0 else "Demand added"
        at = f" at {avoided / fewer_kw:.2f}" if avoided * fewer_kw > 0.0 and abs(fewer_kw) >= 0.5 else ""
        lines = [MoneyLine(label, f"{abs(fewer_kw):.0f}{NBSP}kW{at}", avoided)]
        if over > 0.5:
            lines.append(MoneyLine("Missed", f"{over:.0f}{NBSP}kW above the limit, already counted", 0.0))
        lines.append(MoneyLine("Battery wear", f"{carried.discharged_kwh:.0f}{NBSP}kWh given", -wear))
        following = self._bills.next_kw(now_s)
        return MoneyView(
            period=f"{self._local(now_s):%B}", currency=tariff.currency, saved=avoided - wear, lines=tuple(lines),
            next_kw_above_kw=following.above_kw, next_kw_price=following.price,
        )  # fmt: skip

    def _price(self, now_s: float) -> PriceView:
        steps = money.price_steps(self._site.tariff, self._local(now_s).date())
        later = [s.start_s for s in steps if s.start_s > now_s]
        tomorrow = self._local(now_s).date() + timedelta(days=1)
        midnight = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=self._zone).timestamp()
        return PriceView(money.price_per_kwh(self._site.tariff, now_s), later[0] if later else midnight, steps, None)

    def _events(self) -> tuple[EventView, ...]:
        """Newest events; while the store cannot be read, the ones last seen."""
        try:
            rows = self._service.store.events(30)
        except StoreError:
            return (*self._unstored(), *self._last_events)
        self._last_events = tuple(_shown(event, event.id) for event in rows)
        return (*self._unstored(), *self._last_events)

    def _unstored(self) -> Iterator[EventView]:
        """What the store does not take is shown all the same; it has no id, so nobody can acknowledge it yet."""
        for event in self._service.unstored.shown():
            yield _shown(event, 0)

    def _local(self, at_s: float) -> datetime:
        return datetime.fromtimestamp(at_s, self._zone)

    def _time(self, at_s: float) -> str:
        return f"{self._local(at_s):%H:%M}"

    def _weekday(self, at_s: float) -> str:
        return f"{self._local(at_s):%A}"

    def _trouble(self) -> str:
        """Why the site is fail-safe, in words; empty when it is the meter's silence, which has an age."""
        permit = self._service.state.protection.permit
        if not permit.in_service:
            return f"grid protection, {permit.reason}; nothing charges either"
        return _TROUBLES.get(self._service.state.meter.had, "")

    def _until(self, mono_s: float) -> str:
        return self._time(self._service.clock.wall() + mono_s - self._service.clock.monotonic())


def _shown(event: StoredEvent, row_id: int) -> EventView:
    kind = BY_CODE.get(event.code)
    return EventView(
        row_id, event.at_s, event.title, event.text, event.code, event.severity, event.seen, event.count,
        cause="" if kind is None else kind.cause, cure="" if kind is None else kind.cure,
    )  # fmt: skip


def _doubted(said: words.Said, doubt: str, reason: Reason, is_welded: bool) -> words.Said:
    """What speaks against a row leads where nothing weightier does; else it is part of the whole story."""
    if reason in trust.QUIET or (is_welded and reason is not Reason.ESTOP):
        return structs.replace(said, reason=doubt, detail=said.detail.replace(said.reason, doubt, 1))
    return structs.replace(said, detail=f"{said.detail} {doubt}")


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
