"""What the routes about stations, tokens and drivers need of a running site, as a port."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from gridtide.run.csms.charge_profiles import ChargeProfile, ProfileStatus
from gridtide.run.csms.discharge_test import TestReport
from gridtide.run.csms.driver_links import DriverView, DriverWish
from gridtide.run.csms.operate import CallOutcome
from gridtide.run.csms.refused_tokens import RefusedToken
from gridtide.run.csms.registry import StationEntry, StationMode, TokenEntry
from gridtide.run.csms.views import (
    Cleared,
    Issued,
    JournalRow,
    KnockRow,
    ProfilesView,
    Record,
    Rotated,
    StationDetail,
    StationRow,
    TransactionDetail,
    TransactionRow,
)
from gridtide.run.doors import SecurityProfile


class DriverPort(Protocol):
    """Drivers' links. An unknown secret raises UnknownLink, a bad wish ValueError (field, value, cure)."""

    def knows_link(self, secret: str) -> bool:
        """Whether a secret opens anything."""

    def driver_view(self, secret: str) -> DriverView:
        """The driver's page."""

    async def driver_wish(self, secret: str, wish: DriverWish) -> DriverView:
        """Take a driver's word for the present stay."""


class StationPort(DriverPort, Protocol):
    """A running site. A wish it cannot grant raises ValueError (field, value, cure), an unknown id KeyError, a station that is
    not connected StationOffline. Acts return when they are stored and audited."""

    @property
    def address(self) -> str:
        """Address of the page as drivers' phones reach it; empty where nobody said."""

    def now_s(self) -> float:
        """The site's own time, UTC epoch seconds."""

    def stations(self) -> tuple[StationRow, ...]:
        """Every station, by identity."""

    def station(self, identity: str) -> StationDetail:
        """One station in full."""

    async def add_station(self, entry: StationEntry, actor: str) -> Issued:
        """Register a new station; its password is told this once."""

    async def change_station(self, entry: StationEntry, actor: str) -> Issued:
        """Change a station; its password stays."""

    async def remove_station(self, identity: str, actor: str) -> None:
        """Remove a station and its password."""

    async def rotate_password(self, identity: str, actor: str) -> Rotated:
        """Give a connected station a new password."""

    async def set_mode(self, identity: str, mode: StationMode, actor: str) -> None:
        """Allow or forbid discharge at a station."""

    async def move_station(self, identity: str, profile: SecurityProfile, downgrade_allowed: bool, actor: str) -> None:
        """Let a station come in on another security profile too."""

    async def push_local_list(self, identity: str, actor: str) -> bool:
        """Give a station the registered cards; False if it did not take them."""

    def knocked(self) -> tuple[KnockRow, ...]:
        """Unknown identities that tried to connect, the latest first."""

    def device_model(self, identity: str) -> tuple[Record, ...]:
        """What the station told of its variables."""

    def profiles(self, identity: str) -> ProfilesView:
        """Setpoints sent, and the profiles the station reported."""

    def journal(self, identity: str, kind: str | None, limit: int) -> tuple[JournalRow, ...]:
        """What the station told over time, newest first."""

    async def call(
        self, identity: str, action: str, payload: Mapping[str, Any], timeout_s: float, actor: str
    ) -> CallOutcome:
        """Send any message a CSMS may send."""

    async def test_discharge(
        self, identity: str, evse: int, rate_kw: float, duration_s: float, actor: str
    ) -> TestReport:
        """Run a test discharge; returns at its end."""

    async def clear_faults(self, actor: str) -> Cleared:
        """Acknowledge what only a person may; a second time clears nothing."""

    async def charge_profile(self, wish: ChargeProfile, actor: str) -> ProfileStatus:
        """Take a charge profile once; raises Conflict and DischargeDenied too."""

    def charge_profiles(self) -> tuple[ProfileStatus, ...]:
        """All that are remembered, the latest first."""

    async def cancel_charge_profile(self, transaction_id: str, actor: str) -> ProfileStatus:
        """End a charge profile."""

    def tokens(self) -> tuple[TokenEntry, ...]:
        """Every registered token."""

    async def put_token(self, entry: TokenEntry, actor: str) -> None:
        """Register or change a token."""

    async def remove_token(self, id_token: str, type_: str, actor: str) -> None:
        """Remove a token and its links."""

    def refused_tokens(self) -> tuple[RefusedToken, ...]:
        """Cards that were refused, the latest first."""

    async def erase_token(self, id_token: str, actor: str) -> int:
        """Forget a person; how many stored events changed."""

    async def forget(self, before_s: float, actor: str) -> int:
        """Delete ended transactions older than `before_s`; how many went."""

    async def transactions(
        self, start_s: float, end_s: float, station: str | None, limit: int
    ) -> tuple[TransactionRow, ...]:
        """Transactions that began in [start_s, end_s), newest first."""

    async def transaction(self, station: str, transaction_id: str) -> TransactionDetail:
        """One transaction with its events."""

    async def sessions(
        self, start_s: float, end_s: float, station: str | None, shape: Literal["json", "csv", "cdr"]
    ) -> bytes:
        """Sessions that began in [start_s, end_s), oldest first, as JSON, CSV or charge detail records."""

    async def link_token(self, id_token: str, type_: str | None, actor: str) -> str:
        """A new driver link for a token; the secret, told this once."""

    async def link_evse(self, identity: str, evse: int, actor: str) -> str:
        """A new driver link for the present stay at an EVSE."""
