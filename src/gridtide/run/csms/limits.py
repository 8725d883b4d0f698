"""Limits and schedules that others set at a station: external limits, the vehicle's own schedule, priority, profiles (block K)."""

from typing import Any, Final

import msgspec

from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.keeping import as_json, check_transaction, knows_evse, tell
from gridtide.run.csms.parts import PartBook
from gridtide.run.csms.station import Station
from gridtide.run.store import Store
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.structs import WireStruct

LIMIT, EV_SCHEDULE, PROFILE, PRIORITY, ENERGY_TRANSFER = (
    "charging_limit",
    "ev_schedule",
    "charging_profile",
    "priority",
    "energy_transfer",
)
"""Kinds: limits by `<evse>/<source>` (EVSE 0: the station), vehicles' schedules by EVSE, profiles by `<source>/<evse>/<id>`,
priority by transaction (records of the running, journal of all), the journal of allowed energy transfers."""
SIGNAL_CURVE: Final = "signal_curve"
"""Kind: the one record `newest`, the signals of the v2xSignalWattCurve that the station took last."""
SCHEDULE_BYTES: Final = 65_536
MAX_LIMITS: Final = 100
"""Limits one station may tell of at a time."""


class Limits:
    """Answers NotifyChargingLimit, ClearedChargingLimit, NotifyEVChargingSchedule, NotifyPriorityCharging and
    ReportChargingProfiles; takes the answers about what a transaction may transfer."""

    def __init__(self, desk: Desk, effects: Effects, book: PartBook) -> None:
        self._desk, self._book = desk, book
        self.actions: dict[str, Act] = {
            "NotifyChargingLimit": effects.act(self._limited),
            "ClearedChargingLimit": effects.act(self._cleared),
            "NotifyEVChargingSchedule": effects.act(self._ev_schedule),
            "NotifyPriorityCharging": effects.act(self._priority),
            "ReportChargingProfiles": effects.act(self._profiles),
        }
        self.requests = {"GetChargingProfiles": self._asked}
        self.answers = {
            "GetChargingProfiles": self._answered,
            "NotifyAllowedEnergyTransfer": self._transfer,
            "AFRRSignal": self._signal,
            "SetChargingProfile": self._profile_set,
            "ClearChargingProfile": self._profile_cleared,
        }

    # --- limits -----------------------------------------------------------------------------------------------------
    async def _limited(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        name, limit, evse_id = station.provision.identity, message.chargingLimit, message.evseId or 0
        key = f"{evse_id}/{limit.chargingLimitSource}"
        known = {record.key for record in self._desk.store.records(name, LIMIT)}
        if key in known or len(known) < MAX_LIMITS:
            rows = {key: as_json(message, SCHEDULE_BYTES)}
            await self._desk.store.put_records(name, LIMIT, rows, self._desk.clock.wall())
        place = f"EVSE {evse_id}" if evse_id else "the station"
        critical = ", critical for the grid" if limit.isGridCritical else ""
        text = f"{limit.chargingLimitSource or 'somebody'} limits {place}{critical}."
        tell(self._desk, station, "charging_limited", text)
        return reply(station, "NotifyChargingLimit")

    async def _cleared(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        name = station.provision.identity
        known = [(record.key, *record.key.split("/", 1)) for record in self._desk.store.records(name, LIMIT)]
        keys = tuple(
            key
            for key, evse_id, source in known
            if source == message.chargingLimitSource and message.evseId in (None, int(evse_id))
        )
        await self._desk.store.remove_records(name, LIMIT, keys)
        return reply(station, "ClearedChargingLimit")

    # --- schedules and profiles -------------------------------------------------------------------------------------
    async def _ev_schedule(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        if not knows_evse(self._desk, station, message.evseId):
            return reply(station, "NotifyEVChargingSchedule", status="Rejected")
        name, rows = station.provision.identity, {str(message.evseId): as_json(message, SCHEDULE_BYTES)}
        await self._desk.store.put_records(name, EV_SCHEDULE, rows, self._desk.clock.wall())
        return reply(station, "NotifyEVChargingSchedule", status="Accepted")

    async def _profiles(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        place = f"{message.chargingLimitSource}/{message.evseId}"
        rows = {f"{place}/{profile.id}": as_json(profile, SCHEDULE_BYTES) for profile in message.chargingProfile}
        await self._book.take(station, "ReportChargingProfiles", message, PROFILE, rows)
        return reply(station, "ReportChargingProfiles")

    def _asked(self, station: Station, request: Any) -> None:
        criteria = request.chargingProfile
        names = [name for name in criteria.__struct_fields__ if name != "customData"]
        is_whole = request.evseId is None and all(getattr(criteria, name) is None for name in names)
        self._book.expect(station, "ReportChargingProfiles", request.requestId, is_whole=is_whole)

    async def _answered(self, station: Station, request: Any, answer: Any) -> None:
        if answer.status != "Accepted":
            await self._book.cancel(station, "ReportChargingProfiles", request.requestId)

    async def _profile_set(self, station: Station, request: Any, answer: Any) -> None:
        """Keep the signals of the curve that a profile brings (Q07); the profile that held the known one may have lost it."""
        if answer.status != "Accepted":
            return
        store, name, profile = self._desk.store, station.provision.identity, request.chargingProfile
        signals = sorted(_signals(profile))
        if signals:
            rows = {"newest": as_json({"profile": profile.id, "signals": signals})}
            await store.put_records(name, SIGNAL_CURVE, rows, self._desk.clock.wall())
        elif _curve(store, name).get("profile") == profile.id:
            await store.remove_records(name, SIGNAL_CURVE)

    async def _profile_cleared(self, station: Station, request: Any, answer: Any) -> None:
        """What is in force after profiles were cleared by criteria is not known any more."""
        store, name = self._desk.store, station.provision.identity
        known = _curve(store, name).get("profile")
        if answer.status == "Accepted" and known is not None and request.chargingProfileId in (None, known):
            await store.remove_records(name, SIGNAL_CURVE)

    # --- transactions -----------------------------------------------------------------------------------------------
    async def _priority(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        check_transaction(self._desk, station, message.transactionId)
        name, now_s = station.provision.identity, self._desk.clock.wall()
        await self._desk.store.add_journal(name, PRIORITY, now_s, as_json(message))
        began = "has priority now" if message.activated else "has no priority any more"
        tell(self._desk, station, "priority_charging", f"Transaction {message.transactionId} {began}.")
        return reply(station, "NotifyPriorityCharging")

    async def _transfer(self, station: Station, request: Any, answer: Any) -> None:
        """A vehicle that may not give any more does not: Q02."""
        may_give = any("BPT" in mode for mode in request.allowedEnergyTransfer)
        row = next((row for row, name in station.transactions.items() if name == request.transactionId), None)
        if row is not None and not may_give:
            station.bidirectional.discard(row)
            self._desk.judge(station, row)
        entry = {"request": request, "status": answer.status}
        name, now_s = station.provision.identity, self._desk.clock.wall()
        await self._desk.store.add_journal(name, ENERGY_TRANSFER, now_s, as_json(entry))

    async def _signal(self, station: Station, request: Any, answer: Any) -> None:
        entry = {"signal": request.signal, "at": request.timestamp, "status": answer.status}
        name, now_s = station.provision.identity, self._desk.clock.wall()
        await self._desk.store.add_journal(name, "afrr", now_s, as_json(entry))


def signal_curve(store: Store, identity: str) -> tuple[int, ...] | None:
    """Signals of the v2xSignalWattCurve that a station took last; None: not known."""
    signals = _curve(store, identity).get("signals")
    return None if signals is None else tuple(signals)


def _curve(store: Store, identity: str) -> dict[str, Any]:
    found = store.records(identity, SIGNAL_CURVE)
    known: dict[str, Any] = msgspec.json.decode(found[0].value_json) if found else {}
    return known


def _signals(profile: Any) -> set[int]:
    """Of all periods of a profile; 2.0.1 has none."""
    periods = [period for schedule in profile.chargingSchedule for period in schedule.chargingSchedulePeriod]
    return {point.signal for period in periods for point in getattr(period, "v2xSignalWattCurve", None) or ()}
