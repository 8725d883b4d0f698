"""The charging-station management system: authenticated links in, evidence for the controller out, setpoints as leases back.

A station that reconnects gives nothing until its non-discharging default profile is acknowledged again and its transaction has
spoken. Of two connections under one name the living one stays.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import structlog

from gridtide.model.decision import Decision
from gridtide.model.events import BY_CODE
from gridtide.model.fleet import EvseTable
from gridtide.run.clock import Clock
from gridtide.run.conversation import Conversation
from gridtide.run.csms.certificates import SignPort
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.intake import Intake
from gridtide.run.csms.operate import CALLS_AT_ONCE, CheckUrl, Operator
from gridtide.run.csms.registry import Registry
from gridtide.run.csms.rivals import ALARM_AT
from gridtide.run.csms.security_events import keep_tampered, restore_tampered
from gridtide.run.csms.setpoints import SetpointSender
from gridtide.run.csms.station import DriverDefault, OnEvent, Provision, Station
from gridtide.run.csms.stop_order import StopOrders
from gridtide.run.net import Link
from gridtide.run.store import Store
from gridtide.wire.ocpp import codec, dialects
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.admission import SessionSettings
from gridtide.wire.ocpp.boot import BootState
from gridtide.wire.ocpp.events import CallAnswered
from gridtide.wire.ocpp.outgoing import Priority
from gridtide.wire.ocpp.session import Session

LISTS_AFTER_S = 2.0
"""Changed cards go to the stations' local lists after this time."""
SLICE = 500
"""Stations looked after before others have their turn."""
log = structlog.get_logger(__name__)


class Csms:
    """All stations of a site."""

    def __init__(
        self,
        table: EvseTable,
        provisions: list[Provision],
        board: EvidenceBoard,
        store: Store,
        clock: Clock,
        new_id: Callable[[], str],
        *,
        lease_s: float,
        driver_default: Callable[[str, float], DriverDefault | None] = lambda _token, _now: None,
        registry: Registry | None = None,
        check_url: CheckUrl = lambda _address, _field: None,
        concurrency_limit: int = CALLS_AT_ONCE,
    ) -> None:
        """`provisions`: the stations whose EVSEs are rows of `table`; `registry` may hold more, which are served and not
        steered; `check_url` raises ValueError for an address stations must not be sent to; at most `concurrency_limit` calls
        of people are under way at once, which setpoints are not."""
        self._board, self._clock, self._new_id = board, clock, new_id
        self._told: OnEvent = _unheard
        self._tasks: set[asyncio.Task[None]] = set()
        self.registry = registry or Registry(store)
        self._provisions = {item.identity: item for item in provisions}
        self.stations = {
            name: Station(self._provision(name)) for name in {**self._provisions, **self.registry.stations}
        }
        self.registry.changed, self.registry.tokens_changed = self._registry_changed, self._tokens_changed
        self._lists_due_s: float | None = None
        self.sender = SetpointSender(table, board, clock, lease_s, self._on_event)
        self._intake = Intake(
            table, board, store, clock, lease_s, self._on_event, self.sender.dialect, driver_default, self.registry
        )
        self.reports = self._intake.reports
        self.operator = Operator(
            self.stations,
            store,
            clock,
            self.reports,
            check_url,
            self._prepare_again,
            self._unprepare,
            concurrency_limit,
        )
        for open_one in store.open_transactions():
            station = self.stations.get(open_one.station_id)
            row = station.provision.rows.get(open_one.evse_id or 0) if station is not None else None
            if station is not None and row is not None:
                station.transactions[row] = open_one.transaction_id
                # It was accepted before it could begin a transaction.
                station.booted = True
        self.stop_orders = StopOrders(self.stations.values, store, clock, self._on_event)
        self._intake.preparation.prepared = self._prepared
        self._intake.needs.restore(self.stations.values())
        restore_tampered(store, self.stations.values(), board)

    def _provision(self, identity: str) -> Provision:
        """What holds for a station now: its rows from the start, the rest as registered, no discharge where that is forbidden."""
        mine, entry = self._provisions.get(identity), self.registry.stations.get(identity)
        if mine is None:
            if entry is None:
                raise KeyError(identity)
            mine = Provision(
                identity=identity, rows={}, dialect=entry.dialect, discharge_opt_in=entry.discharge_opt_in,
                template=entry.template,
            )  # fmt: skip
        if self.registry.mode(identity) == "charge-only":
            return msgspec.structs.replace(mine, may_discharge=False)
        return mine

    def _registry_changed(self, identity: str) -> None:
        """A station was registered, changed or removed: what it may do changes at once."""
        station = self.stations.get(identity)
        if identity not in self._provisions and identity not in self.registry.stations:
            if station is not None:
                del self.stations[identity]
                self._intake.needs.forget(station)
                keep_tampered(self._intake.desk.store, station, False)
                self.stop_orders.forget(identity)
                if station.conversation is not None:
                    self._spawn(station.conversation.hang_up(4404, "no longer registered"))
            return
        if station is None:
            self.stations[identity] = Station(self._provision(identity))
            return
        station.provision = self._provision(identity)
        for row in station.provision.rows.values():
            station.refused.discard(row)
            self._intake.judge(station, row)
        entry = self.registry.stations.get(identity)
        door = None if entry is None else (entry.enabled, entry.security_profile, entry.serial, entry.tls_min)
        if station.conversation is not None and station.door is not None and door != station.door:
            # The way in is another one now: it may come back if it fits that.
            self._spawn(station.conversation.hang_up(4403, "registered otherwise"))

    def sign_with(self, sign: SignPort, operator: str) -> None:
        """Who signs stations' certificate requests, and the organisation those must name."""
        self._intake.certificates.connect(sign, operator)

    def set_wish(
        self,
        row: int,
        *,
        departs_at_s: float | None = None,
        energy_kwh: float | None = None,
        minimum_soc: float | None = None,
        may_discharge: bool | None = None,
    ) -> None:
        """A driver's own word for the present stay at `row`: None leaves as it is; `departs_at_s` is UTC epoch seconds.

        Raises KeyError where no vehicle is connected, ValueError where the card forbids it.
        """
        station = next((s for s in self.stations.values() if row in s.transactions), None)
        if station is None:
            raise KeyError("no vehicle is connected here")
        board = self._board
        if departs_at_s is not None:
            board.departs_s[row] = self._intake.desk.monotonic_of(departs_at_s)
        if energy_kwh is not None:
            board.asked_kwh[row] = board.taken_kwh[row] + energy_kwh
            if board.soc[row] >= 0.0 and board.capacity_kwh[row] > 0.0:
                gained = energy_kwh * float(self.sender.table.efficiency[row]) / board.capacity_kwh[row]
                board.need_soc[row] = min(1.0, board.soc[row] + gained)
        if minimum_soc is not None:
            board.minimum_soc[row] = minimum_soc
        card = self.registry.token(station.tokens.get(row, ""))
        if may_discharge and card is not None and not card.may_discharge:
            raise ValueError("may_discharge is true: the card does not allow it; change the card first")
        if may_discharge is not None:
            (station.charge_only.discard if may_discharge else station.charge_only.add)(row)
        self._intake.judge(station, row)
        self._intake.needs.keep(station, row)

    def erase_token(self, id_token: str) -> None:
        """Forget a token's holder in what goes on now: stays under way go on without a name, and what comes later has none."""
        self.registry.refused.forget(id_token)
        for station, row in self._intake.desk.erased.add(id_token, self.stations.values()):
            self._intake.needs.keep(station, row)

    def clear_faults(self) -> tuple[str, ...]:
        """Forget tampering that stations told of; what they report as faulted stays so. Returns whose latch was cleared."""
        cleared = []
        for name, station in self.stations.items():
            if station.tampered:
                cleared.append(name)
                keep_tampered(self._intake.desk.store, station, False)
                for row in station.tampered:
                    evse_id = next(e for e, mine in station.provision.rows.items() if mine == row)
                    faulted = any(s == "Faulted" for (e, _), s in station.statuses.items() if e == evse_id)
                    self._board.fault[row] = faulted
                station.tampered.clear()
        return tuple(cleared)

    def _tokens_changed(self) -> None:
        """A card changed: who charges with it is judged anew at once, and stations that keep a list of ours get the difference
        soon; many changes at once become one."""
        for station in self.stations.values():
            self._intake.transactions.cards.judge_anew(station)
        if self._lists_due_s is None:
            self._lists_due_s = self._clock.monotonic() + LISTS_AFTER_S

    async def push_local_list(self, identity: str) -> bool:
        """Give a station the registered cards, for the times it is offline; False if it did not take them.

        Raises KeyError (no such station). It is kept up to date from then on.
        """
        if identity not in self.stations:
            raise KeyError(f"there is no station {identity!r}")
        return await self.reports.push_local_list(self.stations[identity])

    def _prepared(self, station: Station) -> None:
        self.stop_orders.tell(station)
        self.reports.local_lists.catch_up(station)

    def _unprepare(self, station: Station) -> None:
        """The profile underneath may go: no discharge from now on."""
        station.underneath.clear()
        for row in station.provision.rows.values():
            self._intake.judge(station, row)

    def _prepare_again(self, station: Station) -> None:
        """Profiles were cleared: no discharge until the one underneath is acknowledged again."""
        self._unprepare(station)
        station.sent.clear()
        self._intake.preparation.prepare(station)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def apply(self, decision: Decision) -> None:
        """Send a decision's setpoints: what changed, and leases that must be renewed."""
        self.stop_orders.follow(decision.state == "estop")
        self.sender.apply(decision, self.stations.values())

    def tell(self, on_event: OnEvent) -> None:
        """Whom to tell of events: the site, which stores them."""
        self._told = on_event

    def _on_event(self, code: str, source: str, text: str) -> None:
        self._told(code, source, text)

    async def serve(self, identity: str, version: Version, link: Link) -> None:
        """Serve one authenticated connection until it ends."""
        station = self.stations.get(identity)
        if station is None:
            await link.close(4404, "not provisioned at this site")
            return
        # More than one may be waiting for the old connection to show a sign of life: the first takes over, the next asks it.
        while station.conversation is not None:
            if not await self._old_one_is_gone(station, station.conversation):
                self._refused_rival(station)
                await link.close(4409, "duplicate identity")
                return
        station.generation += 1
        mine = station.generation
        shapes = SessionSettings(overrides=dialects.request_overrides(station.provision.dialect, version))
        booted: BootState = "accepted" if station.booted else "unbooted"
        session = Session("csms", version, self._new_id, shapes, booted)
        conversation = Conversation(
            session,
            link,
            self._clock,
            lambda call: self._intake.on_call(station, call),
            lambda message: self._intake.on_send(station, message),
        )
        station.conversation, station.version = conversation, version
        entry = self.registry.stations.get(identity)
        station.door = None if entry is None else (entry.enabled, entry.security_profile, entry.serial, entry.tls_min)
        self._forget_connection(station)
        self._intake.preparation.welcome(station)
        try:
            ended = await conversation.run()
        finally:
            # A connection that was replaced takes nothing with it; one that ends by a failure of ours is forgotten too.
            if station.conversation is conversation:
                self._drop(station)
        if station.generation == mine:
            self._on_event("station_timeout", identity, f"{identity} disconnected ({ended.reason or ended.code}).")

    async def tick_forever(self, period_s: float = 0.25) -> None:
        """Let every session notice what timed out."""
        while True:
            await self._clock.sleep(period_s)
            for place, station in enumerate(tuple(self.stations.values()), 1):
                try:
                    self._look_after(station)
                except Exception:
                    # One station's trouble, or the store's, ends nobody else's turn.
                    log.exception("station_turn_failed", station=station.provision.identity)
                if place % SLICE == 0:
                    await asyncio.sleep(0)
            if self._lists_due_s is not None and self._clock.monotonic() >= self._lists_due_s:
                self._lists_due_s = None
                self._spawn(self.reports.tokens_changed(tuple(self.stations.values())))

    def _look_after(self, station: Station) -> None:
        if station.conversation is not None:
            if not station.conversation.is_idle:
                station.conversation.tick()
            if station.later:
                station.act(self._clock.monotonic())

    def transactions(self) -> dict[int, str]:
        """The open transaction of each row that has one."""
        return {row: name for station in self.stations.values() for row, name in station.transactions.items()}

    def spoken(self) -> set[int]:
        """Rows whose transaction has spoken on the present connection of their station."""
        return {row for station in self.stations.values() for row in station.synced}

    @property
    def online(self) -> int:
        """Stations connected and accepted."""
        return sum(station.accepted is not None for station in self.stations.values())

    def _refused_rival(self, station: Station) -> None:
        name = station.provision.identity
        self._on_event("security", name, f"DuplicateIdentity: a second connection as {name} was refused.")
        if station.rivals.refused(self._clock.monotonic()):
            text = (
                f"{ALARM_AT} second connections as {name} were refused within an hour: two devices use its credentials."
            )
            self._on_event("duplicate_identity" if "duplicate_identity" in BY_CODE else "security", name, text)

    async def _old_one_is_gone(self, station: Station, old: Conversation) -> bool:
        """Ask the old connection for a sign of life; silence within 2 s means the new one may replace it."""
        trigger = codec.payload_type(station.version, "TriggerMessage", "request")
        request = msgspec.convert({"requestedMessage": "Heartbeat"}, trigger)
        outcome = await old.call("TriggerMessage", request, timeout_s=2.0, priority=Priority.STOP)
        # Whoever answers is alive, even if it only says that it cannot do that.
        if isinstance(outcome, CallAnswered) or outcome.reason in ("call_error", "invalid_answer"):
            return False
        if station.conversation is old:
            self._drop(station)
        await old.hang_up(4409, "replaced by a new connection")
        return True

    def _drop(self, station: Station) -> None:
        station.conversation = None
        self._forget_connection(station)

    def _forget_connection(self, station: Station) -> None:
        """What a connection vouched for ends with it."""
        station.forget_connection()
        for row in station.provision.rows.values():
            self._board.may_discharge[row] = False


def _unheard(code: str, source: str, text: str) -> None:
    log.info("event_before_start", code=code, source=source, text=text)
