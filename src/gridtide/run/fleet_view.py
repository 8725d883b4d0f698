"""What people ask of stations, tokens and drivers on a running site: the port behind those routes."""

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import structs

from gridtide.control.meter import acknowledge_sign
from gridtide.run.credentials import Credentials
from gridtide.run.csms import device_model, limits
from gridtide.run.csms.charge_profiles import ChargeProfile, ChargeProfiles, ProfileStatus
from gridtide.run.csms.discharge_test import DischargeTester, TestReport
from gridtide.run.csms.driver_links import DriverLinks, DriverView, DriverWish
from gridtide.run.csms.operate import CallOutcome
from gridtide.run.csms.provisioning import InThread, Provisioning
from gridtide.run.csms.registry import StationEntry, StationMode, TokenEntry
from gridtide.run.csms.sessions import Session, sessions
from gridtide.run.csms.views import (
    Cleared,
    EventRow,
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
from gridtide.run.login_guard import LoginGuard
from gridtide.run.site import SiteService
from gridtide.run.station_views import StationViews, transaction_row
from gridtide.run.store.rows import EARLIEST_S, LATEST_S
from gridtide.run.view import Viewer

SIGN_EVENTS = 200
CALL_S = 60.0
"""Longest wait for a station's answer to a person's call."""


class FleetDesk:
    """One running site's desk. Call `run` beside the site: it carries out charge profiles."""

    def __init__(
        self,
        site: SiteService,
        viewer: Viewer,
        credentials: Credentials,
        *,
        guard: Callable[[], LoginGuard | None] = lambda: None,
        timezone: str = "UTC",
        in_thread: InThread = asyncio.to_thread,
    ) -> None:
        """`guard`: the listener's, once there is one; `in_thread` runs what writes the password file."""
        self._site, self._viewer = site, viewer
        self._views = StationViews(site, credentials)
        self._provisioning = Provisioning(site, credentials, guard, in_thread)
        self._profiles = ChargeProfiles(site)
        self._tester = DischargeTester(site, timezone)
        self._links = DriverLinks(site)

    async def run(self) -> None:
        """Carry out charge profiles for ever."""
        await self._profiles.run()

    # --- stations ---------------------------------------------------------------------------------------------------
    def stations(self) -> tuple[StationRow, ...]:
        """Every station, by identity."""
        return self._views.all()

    def station(self, identity: str) -> StationDetail:
        """One station in full."""
        return self._views.one(identity)

    async def add_station(self, entry: StationEntry, actor: str) -> Issued:
        """Register a new station."""
        return await self._provisioning.add(entry, actor)

    async def change_station(self, entry: StationEntry, actor: str) -> Issued:
        """Change a station."""
        return await self._provisioning.change(entry, actor)

    async def remove_station(self, identity: str, actor: str) -> None:
        """Remove a station."""
        await self._provisioning.remove(identity, actor)

    async def rotate_password(self, identity: str, actor: str) -> Rotated:
        """Give a station a new password."""
        return await self._provisioning.rotate(identity, actor)

    async def set_mode(self, identity: str, mode: StationMode, actor: str) -> None:
        """Allow or forbid discharge at a station."""
        await self._site.csms.registry.set_mode(identity, mode, actor, self._site.clock.wall())

    def knocked(self) -> tuple[KnockRow, ...]:
        """Unknown identities that tried to connect."""
        return self._provisioning.knocked()

    def device_model(self, identity: str) -> tuple[Record, ...]:
        """What the station told of its variables."""
        return self._records(identity, device_model.VARIABLE)

    def profiles(self, identity: str) -> ProfilesView:
        """Setpoints sent, and the profiles the station reported."""
        station = self._views.find(identity)
        return ProfilesView(sent=self._views.sent(station), reported=self._records(identity, limits.PROFILE))

    def journal(self, identity: str, kind: str | None, limit: int) -> tuple[JournalRow, ...]:
        """What the station told over time, newest first."""
        self._views.find(identity)
        return tuple(
            JournalRow(
                id=entry.id, station=entry.station_id, kind=entry.kind, at_s=entry.at_s,
                value=msgspec.json.decode(entry.value_json),
            )
            for entry in self._site.store.journal(identity, kind, limit)
        )  # fmt: skip

    async def call(
        self, identity: str, action: str, payload: Mapping[str, Any], timeout_s: float, actor: str
    ) -> CallOutcome:
        """Send any message a CSMS may send."""
        return await self._site.csms.operator.call(identity, action, payload, actor, timeout_s)

    async def test_discharge(
        self, identity: str, evse: int, rate_kw: float, duration_s: float, actor: str
    ) -> TestReport:
        """Run a test discharge."""
        return await self._tester.run(identity, evse, rate_kw, duration_s, actor)

    async def clear_faults(self, actor: str) -> Cleared:
        """Acknowledge what only a person may; a second time clears nothing."""
        site, now_s = self._site, self._site.clock.wall()
        sign = site.state.meter.sign_fault
        await site.store.append_audit(now_s, actor, "faults.clear", msgspec.json.encode({"meter_sign": sign}))
        if sign:
            await site.store.put_setting("meter_sign", b"false", actor, now_s)
            site.state = structs.replace(site.state, meter=acknowledge_sign(site.state.meter))
            for event in site.store.events(SIGN_EVENTS):
                if event.code == "meter_sign" and not event.seen:
                    await site.mark_seen(event.id, actor)
        tampered = site.csms.clear_faults()
        parts = (["the meter's sign fault"] if sign else []) + [f"tampering at {name}" for name in tampered]
        told = f"Cleared: {', '.join(parts)}." if parts else "Nothing was latched."
        if site.state.guard.estop:
            told += " The emergency stop is still pressed: `gridtide estop clear`."
        return Cleared(meter_sign=sign, tampered=tampered, words=told)

    # --- profiles from elsewhere ------------------------------------------------------------------------------------
    async def charge_profile(self, wish: ChargeProfile, actor: str) -> ProfileStatus:
        """Take a charge profile, once."""
        return await self._profiles.command(wish, actor)

    def charge_profiles(self) -> tuple[ProfileStatus, ...]:
        """All that are remembered, the latest first."""
        return self._profiles.all()

    async def cancel_charge_profile(self, transaction_id: str, actor: str) -> ProfileStatus:
        """End a charge profile."""
        return await self._profiles.cancel(transaction_id, actor)

    # --- tokens -----------------------------------------------------------------------------------------------------
    def tokens(self) -> tuple[TokenEntry, ...]:
        """Every registered token."""
        return tuple(entry for _, entry in sorted(self._site.csms.registry.tokens.items()))

    async def put_token(self, entry: TokenEntry, actor: str) -> None:
        """Register or change a token."""
        expires_s = entry.expires_s
        if expires_s is not None and not (math.isfinite(expires_s) and EARLIEST_S <= expires_s < LATEST_S):
            raise ValueError(f"expires_s is {expires_s:g}: give UTC epoch seconds in the years 2000 to 2099")
        await self._site.csms.registry.put_token(entry, actor, self._site.clock.wall())

    async def remove_token(self, id_token: str, type_: str, actor: str) -> None:
        """Remove a token and its links."""
        entry = self._token(id_token, type_)
        await self._links.unlink_token(entry, actor)
        await self._site.csms.registry.remove_token(entry.id_token, entry.type, actor, self._site.clock.wall())

    async def erase_token(self, id_token: str, actor: str) -> int:
        """Forget a person: its registrations, links, and its token in every stored transaction. How many events changed."""
        registry, now_s = self._site.csms.registry, self._site.clock.wall()
        wanted = id_token.lower()
        spellings = {id_token}
        for entry in [entry for entry in registry.tokens.values() if entry.id_token.lower() == wanted]:
            spellings.add(entry.id_token)
            await self._links.unlink_token(entry, actor)
            if await self._site.store.remove_entry("token", f"{entry.type}:{wanted}", "erasure", now_s):
                registry.tokens.pop(f"{entry.type}:{wanted}", None)
        return sum([await self._site.store.erase_token(one, actor, now_s) for one in sorted(spellings)])

    async def forget(self, before_s: float, actor: str) -> int:
        """Delete ended transactions older than `before_s`; how many went."""
        now_s = self._site.clock.wall()
        if not EARLIEST_S <= before_s <= now_s:
            raise ValueError(f"before_s is {before_s:.0f}: give an instant in the past, as UTC epoch seconds")
        gone = await self._site.store.forget_transactions(before_s)
        detail = msgspec.json.encode({"before_s": before_s, "transactions": gone})
        await self._site.store.append_audit(now_s, actor, "transactions.forget", detail)
        return gone

    def _token(self, id_token: str, type_: str | None) -> TokenEntry:
        entry = self._site.csms.registry.token(id_token, type_)
        if entry is None:
            raise KeyError(f"there is no token {id_token[:64]!r}" + (f" of type {type_}" if type_ else ""))
        return entry

    # --- transactions -----------------------------------------------------------------------------------------------
    def transactions(self, start_s: float, end_s: float, station: str | None, limit: int) -> tuple[TransactionRow, ...]:
        """Transactions that began in [start_s, end_s), newest first."""
        return tuple(transaction_row(head) for head in self._site.store.transactions(start_s, end_s, station, limit))

    def transaction(self, station: str, transaction_id: str) -> TransactionDetail:
        """One transaction with its events as they were told."""
        events = self._site.store.transaction_events(station, transaction_id)
        if not events:
            raise KeyError(f"there is no transaction {transaction_id[:64]!r} of station {station[:64]!r}")
        rows = tuple(
            EventRow(
                seq_no=event.seq_no, kind=event.event_type, at_s=event.at_s,
                payload=msgspec.json.decode(event.payload_json),
            )
            for event in events
        )  # fmt: skip
        times = [event.at_s for event in events]
        head = TransactionRow(
            station=station, transaction_id=transaction_id,
            evse=next((event.evse_id for event in events if event.evse_id is not None), None), started_s=min(times),
            last_s=max(times), ended=any(event.event_type == "Ended" for event in events), events=len(events),
            missing_events=max(0, events[-1].seq_no + 1 - len(events)),
        )  # fmt: skip
        return TransactionDetail(transaction=head, events=rows)

    def sessions(self, start_s: float, end_s: float, station: str | None) -> list[Session]:
        """Sessions that began in [start_s, end_s), oldest first."""
        return sessions(self._site.store, start_s, end_s, station)

    # --- drivers ----------------------------------------------------------------------------------------------------
    async def link_token(self, id_token: str, type_: str | None, actor: str) -> str:
        """A new driver link for a token; the secret, told this once."""
        return await self._links.link_token(self._token(id_token, type_), actor)

    async def link_evse(self, identity: str, evse: int, actor: str) -> str:
        """A new driver link for the present stay at an EVSE."""
        return await self._links.link_evse(identity, evse, actor)

    def knows_link(self, secret: str) -> bool:
        """Whether a driver's secret opens anything."""
        return self._links.known(secret)

    def driver_view(self, secret: str) -> DriverView:
        """The driver's page; raises UnknownLink."""
        here = self._links.stay(secret)
        name, zone = self._viewer.place
        waits = here is None or self._site.decision is None
        told = None if here is None or waits else self._viewer.explain(self._site.settings.table.ids[here[1]])
        return self._links.view(here, told, name, zone)

    async def driver_wish(self, secret: str, wish: DriverWish) -> DriverView:
        """Take a driver's word; raises UnknownLink, ValueError."""
        await self._links.wish(secret, wish)
        return self.driver_view(secret)

    def now_s(self) -> float:
        """The site's own time, UTC epoch seconds."""
        return self._site.clock.wall()

    def _records(self, identity: str, kind: str) -> tuple[Record, ...]:
        self._views.find(identity)
        return tuple(
            Record(key=record.key, at_s=record.at_s, value=msgspec.json.decode(record.value_json))
            for record in self._site.store.records(identity, kind)
        )
