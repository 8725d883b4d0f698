"""One station's live state, its provisioning, and what the CSMS remembers of it between connections."""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from gridtide.model.decision import Outcome
from gridtide.run.conversation import Conversation
from gridtide.run.csms.rivals import RivalWatch
from gridtide.wire.ocpp import dialects
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.dialects import Dialect
from gridtide.wire.ocpp.dialects_vendor import DataTransferTemplate

TOLD_KEPT = 1_024
"""Matters of one connection that people are told of: a hostile station cannot make more."""
ENDED_KEPT = 64
"""Transactions of a station whose end is remembered; the store knows all."""
AGREES_S = 1.0
TOLD_AGAIN_S = 120.0
"""What could not be stored is told again by then."""
BELIEVED_S = 10.0
"""A clock that is behind is believed when it has told that for so long."""
OnEvent = Callable[[str, str, str], None]
"""(code, source, text) of something people should know."""


class Provision(Struct, frozen=True, kw_only=True):
    """One provisioned station."""

    identity: str
    rows: dict[int, int]
    """EVSE id -> row of the fleet."""
    dialect: Dialect = "refuse"
    discharge_opt_in: bool = False
    """The operator's recorded consent to discharge over OCPP 2.0.1, which cannot negotiate it."""
    may_discharge: bool = True
    """False: the operator took discharge away; the dialect still carries zero and charging."""
    template: DataTransferTemplate | None = None
    """The vendor's message of the `data_transfer` dialect."""


class DriverDefault(Struct, frozen=True):
    """What a driver needs when the vehicle tells nothing."""

    departs_at_s: float
    """UTC epoch seconds."""
    energy_kwh: float
    minimum_soc: float = 0.0
    """Reached first and never used, where the charge is known."""


class Sent(Struct, frozen=True):
    """The setpoint last sent to a row, and when (monotonic)."""

    power_kw: float
    at_s: float


class Station:
    """One station's live state; outlives its connections."""

    def __init__(self, provision: Provision) -> None:
        self.provision = provision
        self.conversation: Conversation | None = None
        self.version: Version = "2.1"
        self.generation = 0
        self.door: tuple[bool, int, str, str] | None = None
        """What was registered about its way in when it connected: enabled, security profile, serial, TLS version."""
        self.underneath: set[int] = set()
        """Rows whose non-discharging default profile is acknowledged on this connection."""
        self.transactions: dict[int, str] = {}
        self.tokens: dict[int, str] = {}
        self.bidirectional: set[int] = set()
        """Rows whose vehicle asked for bidirectional transfer."""
        self.synced: set[int] = set()
        """Rows whose transaction has spoken on this connection."""
        self.no_v2x: set[int] = set()
        """Rows whose station reports that its V2X controller is off; until it connects or boots anew."""
        self.stop_again_s: dict[str, float] = {}
        """Transaction that must not go on -> monotonic instant before which it is not asked to end again."""
        self.early_needs: dict[int, Any] = {}
        """Charging needs told before the transaction began."""
        self.began_s: dict[int, float] = {}
        """Row -> UTC epoch seconds by the station's clock: the first event of the present transaction."""
        self.open_since_s: dict[int, float] = {}
        """Rows whose transaction has ended on this connection and that have begun none since: the station's instant."""
        self.begun: set[int] = set()
        """Rows where something has begun whose end is not known, also what could not be stored."""
        self.settled_s = math.inf
        """Monotonic instant from which a bay without a transaction surely has none: what was queued has come by then."""
        self.spoke_s: dict[int, float] = {}
        """Row -> UTC epoch seconds by the station's clock: the newest event of any transaction."""
        self.own: OrderedDict[str, None] = OrderedDict()
        """The newest transactions known to be this station's."""
        self.charge_only: set[int] = set()
        """Rows whose driver's token must not discharge."""
        self.ended: OrderedDict[str, None] = OrderedDict()
        """The newest transactions that ended; nothing about them has an effect any more."""
        self.newest: dict[int, tuple[str, int]] = {}
        """Row -> transaction and sequence number of the newest event that had an effect; kept after the end."""
        self.elsewhere: OrderedDict[str, int] = OrderedDict()
        """Newest sequence number of the latest transactions at EVSEs nobody steers."""
        self.rivals = RivalWatch()
        """Second connections under its name."""
        self.sent: dict[int, Sent] = {}
        self.failed: dict[int, Sent] = {}
        """The setpoint that a row's station refused or left unanswered last."""
        self.refused: set[int] = set()
        """Rows whose station refused to discharge; until a new transaction or boot."""
        self.connectors: dict[int, int] = {}
        """Row -> connector of its transaction, where told."""
        self.outcomes: dict[int, Outcome] = {}
        self.statuses: dict[tuple[int, int], str] = {}
        """(EVSE id, connector id) -> newest ConnectorStatus."""
        self.about = b"{}"
        """ChargingStation as its last BootNotification told it, JSON."""
        self.connected_s: float | None = None
        """Monotonic instant the present connection began, or None."""
        self.round_trip_s: float | None = None
        """From a setpoint's leaving to its answer, smoothed over this connection; None before the first."""
        self.last_round_trip_s: float | None = None
        """The same of the newest setpoint."""
        self.skew_s = 0.0
        self.ahead_s: float | None = None
        """Its clock less our monotonic one, see `hear_clock`: what we tell it in its own time, no step of our wall clock
        reaches."""
        self._behind: tuple[float, float] | None = None
        """A lower value that keeps being told, and since when."""
        self._unstored: tuple[float, float] | None = None
        """Its stamp of the oldest event that could not be stored, and how long what waits behind it may come late (monotonic)."""
        self.tampered: set[int] = set()
        """Rows whose station told of tampering; no status message clears that."""

        self.booted = False
        """Accepted before; may reconnect without a BootNotification."""
        self.preparation = 0
        """Number of the newest preparation; answers to older ones do not count."""
        self.later: list[tuple[float, Callable[[], None]]] = []
        """What to do at which monotonic instant, unless the connection ends before."""
        self._told: set[str] = set()

    def first(self, what: str) -> bool:
        """True once per connection: whether people have not been told of `what` yet."""
        if what in self._told or len(self._told) >= TOLD_KEPT:
            return False
        self._told.add(what)
        return True

    def forget_vehicle(self, row: int) -> None:
        """What was agreed for the vehicle at `row` does not hold for the next one."""
        self.transactions.pop(row, None)
        self.connectors.pop(row, None)
        self.began_s.pop(row, None)
        self.tokens.pop(row, None)
        self.sent.pop(row, None)
        self.failed.pop(row, None)
        self.bidirectional.discard(row)
        self.charge_only.discard(row)
        self.refused.discard(row)
        self._told -= {f"denied {row}", f"not following {row}", f"not sent {row}"}

    def forget_connection(self) -> None:
        """What a connection vouched for ends with it; slow reports are told once and for all."""
        self.underneath.clear()
        self.open_since_s.clear()
        self.settled_s = math.inf
        self.no_v2x.clear()
        self.early_needs.clear()
        self.synced.clear()
        self.sent.clear()
        self.failed.clear()
        self.later.clear()
        self.preparation += 1
        self.round_trip_s = self.last_round_trip_s = None
        self._told &= {"slow_reports"}

    def may_ever_discharge(self) -> bool:
        """Whether the operator lets this station discharge at all."""
        return self.provision.dialect != "refuse" and self.provision.may_discharge

    def fits(self) -> bool:
        """Whether the provisioned dialect can discharge over the connection's OCPP version."""
        return dialects.fits(self.provision.dialect, self.version)

    def note_ended(self, transaction_id: str) -> None:
        """Remember that a transaction is over; of the newest only."""
        _remember(self.ended, transaction_id)
        self._told -= {f"gap {transaction_id}"}

    def skips(self, transaction_id: str, seq_no: int) -> bool:
        """Whether events are missing before this one of a transaction at an EVSE nobody steers."""
        newest = self.elsewhere.pop(transaction_id, -1)
        self.elsewhere[transaction_id] = max(newest, seq_no)
        while len(self.elsewhere) > ENDED_KEPT:
            self.elsewhere.popitem(last=False)
        return seq_no > newest + 1

    def note_own(self, transaction_id: str) -> None:
        """Remember that a transaction is this station's; of the newest only."""
        _remember(self.own, transaction_id)

    def hear_clock(self, stamp_s: float, monotonic_s: float, wall_s: float) -> None:
        """A live message stamped by its clock came now. One that was long under way looks like a clock that is behind: that is
        believed when it has been told for a while, always the same; a clock that is ahead at once."""
        ahead_s = stamp_s - monotonic_s
        if self.ahead_s is None or ahead_s >= self.ahead_s - AGREES_S:
            self._believe(ahead_s, stamp_s - wall_s)
        elif self._behind is None or abs(ahead_s - self._behind[0]) > AGREES_S:
            self._behind = (ahead_s, monotonic_s)
        elif monotonic_s - self._behind[1] >= BELIEVED_S:
            self._believe(ahead_s, stamp_s - wall_s)

    def _believe(self, ahead_s: float, skew_s: float) -> None:
        self.ahead_s, self.skew_s, self._behind = ahead_s, skew_s, None

    def its_time_s(self, monotonic_s: float, wall_s: float) -> float:
        """What its clock shows now, UTC epoch s; ours while it has told nothing."""
        return wall_s if self.ahead_s is None else monotonic_s + self.ahead_s

    def note_unstored(self, stamp_s: float, monotonic_s: float) -> None:
        """An event stamped so could not be stored: the station tells it again, and those behind it, later."""
        first_s = stamp_s if self._unstored is None else min(self._unstored[0], stamp_s)
        self._unstored = (first_s, monotonic_s + TOLD_AGAIN_S)

    def waited(self, stamp_s: float, monotonic_s: float, wall_s: float) -> bool:
        """Whether an event stamped so is late because the store refused it or one before it: that tells nothing of the clock."""
        if self._unstored is None:
            return False
        if monotonic_s > self._unstored[1] or stamp_s >= self.its_time_s(monotonic_s, wall_s) - AGREES_S:
            self._unstored = None
        return self._unstored is not None and stamp_s >= self._unstored[0]

    def act(self, now_s: float) -> None:
        """Do what is due at monotonic `now_s`."""
        due = [act for at_s, act in self.later if at_s <= now_s]
        self.later = [item for item in self.later if item[0] > now_s]
        for act in due:
            act()

    @property
    def accepted(self) -> Conversation | None:
        """The living conversation of a booted station."""
        live = self.conversation
        return live if live is not None and live.session.boot_state == "accepted" else None


def _remember(kept: OrderedDict[str, None], name: str) -> None:
    kept[name] = None
    while len(kept) > ENDED_KEPT:
        kept.popitem(last=False)
