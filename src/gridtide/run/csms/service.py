"""The charging-station management system: authenticated links in, evidence for the controller out, setpoints as leases back.

A station that reconnects gives nothing until its non-discharging default profile is acknowledged again and its transaction has
spoken. Of two connections under one name the living one stays.
"""

from collections.abc import Callable

import msgspec
import structlog

from gridtide.model.decision import Decision
from gridtide.model.fleet import EvseTable
from gridtide.run.clock import Clock
from gridtide.run.conversation import Conversation
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.intake import Intake
from gridtide.run.csms.setpoints import SetpointSender
from gridtide.run.csms.station import DriverDefault, OnEvent, Provision, Station
from gridtide.run.net import Link
from gridtide.run.store import Store
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.events import CallAnswered
from gridtide.wire.ocpp.outgoing import Priority
from gridtide.wire.ocpp.session import Session

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
    ) -> None:
        self._board, self._clock, self._new_id = board, clock, new_id
        self._told: OnEvent = _unheard
        self.stations = {item.identity: Station(item) for item in provisions}
        self.sender = SetpointSender(table, board, clock, lease_s, self._on_event)
        self._intake = Intake(table, board, store, clock, lease_s, self._on_event, self.sender.dialect, driver_default)
        for open_one in store.open_transactions():
            station = self.stations.get(open_one.station_id)
            row = station.provision.rows.get(open_one.evse_id or 0) if station is not None else None
            if station is not None and row is not None:
                station.transactions[row] = open_one.transaction_id
                # It was accepted before it could begin a transaction.
                station.booted = True
        self._intake.needs.restore(self.stations.values())

    def apply(self, decision: Decision) -> None:
        """Send a decision's setpoints: what changed, and leases that must be renewed."""
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
                self._on_event("security", identity, f"A second connection as {identity} was refused.")
                await link.close(4409, "duplicate identity")
                return
        station.generation += 1
        mine = station.generation
        session = Session("csms", version, self._new_id, boot_state="accepted" if station.booted else "unbooted")
        conversation = Conversation(session, link, self._clock, lambda call: self._intake.on_call(station, call))
        station.conversation, station.version = conversation, version
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
            for station in self.stations.values():
                if station.conversation is not None:
                    station.conversation.tick()
                    station.act(self._clock.monotonic())

    @property
    def online(self) -> int:
        """Stations connected and accepted."""
        return sum(station.accepted is not None for station in self.stations.values())

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
