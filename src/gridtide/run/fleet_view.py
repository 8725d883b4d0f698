"""What people ask of stations, tokens and drivers on a running site: the port behind those routes."""

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import structs

from gridtide.control.meter import acknowledge_sign
from gridtide.run.credentials import Credentials
from gridtide.run.csms import device_model, limits
from gridtide.run.csms.charge_profiles import ChargeProfile, ChargeProfiles, ProfileStatus
from gridtide.run.csms.discharge_test import DischargeTester, TestReport
from gridtide.run.csms.driver_links import DriverLinks, DriverView, DriverWish
from gridtide.run.csms.operate import CallOutcome, StationOffline
from gridtide.run.csms.provisioning import InThread, Provisioning
from gridtide.run.csms.refused_tokens import RefusedToken
from gridtide.run.csms.registry import StationEntry, StationMode, TokenEntry
from gridtide.run.csms.sessions import export
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
from gridtide.run.login_guard import LoginGuard
from gridtide.run.site import SiteService
from gridtide.run.station_views import StationViews, transaction_detail, transaction_rows
from gridtide.run.store.rows import EARLIEST_S, LATEST_S
from gridtide.run.view import Viewer

SIGN_EVENTS = 200
SLICE = 100
"""Stations looked at before others have their turn."""
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
        address: str = "",
        in_thread: InThread = asyncio.to_thread,
    ) -> None:
        """`guard`: the listener's, once there is one; `in_thread` runs what writes the password file and long reads."""
        self._site, self._viewer, self.address = site, viewer, address
        self._views = StationViews(site, credentials)
        self._in_thread, self._long_read = in_thread, asyncio.Lock()
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

    async def move_station(self, identity: str, profile: SecurityProfile, downgrade_allowed: bool, actor: str) -> None:
        """Let a station come in on another security profile too, by the rules of its OCPP version."""
        csms = self._site.csms
        version = csms.stations[identity].version if identity in csms.stations else "2.1"
        await csms.registry.begin_move(
            identity, profile, actor, self._site.clock.wall(), version=version, downgrade_allowed=downgrade_allowed
        )

    async def push_local_list(self, identity: str, actor: str) -> bool:
        """Give a station the registered cards; False if it did not take them. StationOffline when it is away."""
        station = self._site.csms.stations.get(identity)
        if station is not None and station.accepted is None:
            raise StationOffline(f"station {identity} is not connected: try again when it is back")
        detail = msgspec.json.encode({"station": identity})
        await self._site.store.append_audit(self._site.clock.wall(), actor, "station.local_list", detail)
        return await self._site.csms.push_local_list(identity)

    def knocked(self) -> tuple[KnockRow, ...]:
        """Unknown identities that tried to connect."""
        return self._provisioning.knocked()

    def device_model(self, identity: str) -> tuple[Record, ...]:
        """What the station told of its variables."""
        return tuple(
            structs.replace(record, value=device_model.shown(record.key, record.value))
            for record in self._records(identity, device_model.VARIABLE)
        )

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

    def refused_tokens(self) -> tuple[RefusedToken, ...]:
        """Cards that were refused, the latest first."""
        return self._site.csms.registry.refused.all()

    async def erase_token(self, id_token: str, actor: str) -> int:
        """Forget a person: its registrations, links, reservations, and its token in every stored transaction, also in what is
        yet to come of them. How many records changed."""
        registry, now_s = self._site.csms.registry, self._site.clock.wall()
        wanted = id_token.lower()
        spellings = {id_token}
        for entry in [entry for entry in registry.tokens.values() if entry.id_token.lower() == wanted]:
            spellings.add(entry.id_token)
            await self._links.unlink_token(entry, actor)
            if await self._site.store.remove_entry("token", f"{entry.type}:{wanted}", "erasure", now_s):
                registry.tokens.pop(f"{entry.type}:{wanted}", None)
        csms, changed = self._site.csms, 0
        for one in sorted(spellings):
            # First what is yet to come, then what is there: nothing slips in between.
            csms.erase_token(one)
            changed += await self._site.store.erase_token(one, actor, now_s)
        for place, name in enumerate(list(csms.stations)):
            changed += sum([await csms.reports.erase_token(name, one) for one in sorted(spellings)])
            if place % SLICE == 0:
                await asyncio.sleep(0)
        return changed

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
    async def transactions(
        self, start_s: float, end_s: float, station: str | None, limit: int
    ) -> tuple[TransactionRow, ...]:
        """Transactions that began in [start_s, end_s), newest first."""
        async with self._long_read:
            found: tuple[TransactionRow, ...] = await self._in_thread(
                transaction_rows, self._site.store, start_s, end_s, station, limit
            )
        return found

    async def transaction(self, station: str, transaction_id: str) -> TransactionDetail:
        """One transaction with its events as they were told; of a very long one the first and the last."""
        async with self._long_read:
            found: TransactionDetail = await self._in_thread(
                transaction_detail, self._site.store, station, transaction_id
            )
        return found

    async def sessions(
        self, start_s: float, end_s: float, station: str | None, shape: Literal["json", "csv", "cdr"]
    ) -> bytes:
        """Sessions that began in [start_s, end_s), oldest first."""
        async with self._long_read:
            body: bytes = await self._in_thread(export, self._site.store, start_s, end_s, station, shape)
        return body

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
