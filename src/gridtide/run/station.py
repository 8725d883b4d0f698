"""One station's live state, its provisioning, and what the CSMS remembers of it between connections."""

from collections.abc import Callable

from msgspec import Struct

from gridtide.model.decision import Outcome
from gridtide.run.conversation import Conversation
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.dialects import Dialect

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


class DriverDefault(Struct, frozen=True):
    """What a driver needs when the vehicle tells nothing."""

    departs_at_s: float
    """UTC epoch seconds."""
    energy_kwh: float


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
        self.underneath: set[int] = set()
        """Rows whose non-discharging default profile is acknowledged on this connection."""
        self.transactions: dict[int, str] = {}
        self.tokens: dict[int, str] = {}
        self.bidirectional: set[int] = set()
        """Rows whose vehicle asked for bidirectional transfer."""
        self.synced: set[int] = set()
        """Rows whose transaction has spoken on this connection."""
        self.newest: dict[int, tuple[str, int]] = {}
        """Row -> transaction and sequence number of the newest event that had an effect; kept after the end."""
        self.sent: dict[int, Sent] = {}
        self.outcomes: dict[int, Outcome] = {}
        self.skew_s = 0.0
        self.tampered: set[int] = set()
        """Rows whose station told of tampering; no status message clears that."""

    @property
    def accepted(self) -> Conversation | None:
        """The living conversation of a booted station."""
        live = self.conversation
        return live if live is not None and live.session.boot_state == "accepted" else None
