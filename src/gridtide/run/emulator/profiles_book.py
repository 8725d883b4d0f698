"""Block K: the charging profiles a station holds, what they ask now and later, and limits that come from elsewhere."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.device_model import DeviceModel
from gridtide.run.emulator.transactions import Transactions
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.composite import RateUnit, composite, composite_fields
from gridtide.wire.ocpp.operation_modes import ProfilePower, Surroundings
from gridtide.wire.ocpp.profile_checks import Situation, discharges, refusal
from gridtide.wire.ocpp.profiles import (
    ChargingProfile,
    InstalledProfile,
    Running,
    next_change,
    profile_power_kw,
    survivors,
)

PROFILES_PER_REPORT = 8
EXTERNAL_ID = 900_000
"""Profile id of a limit from outside."""


class _Known(msgspec.Struct, frozen=True, eq=False):
    """What the profiles asked for at an instant: it holds until one of them, the situation or enough time changes."""

    installed: list[InstalledProfile]
    situation: tuple[object, ...]
    at: datetime
    lasts: timedelta | None
    """So long; None: for ever."""
    power: ProfilePower

    def holds(self, installed: list[InstalledProfile], situation: tuple[object, ...], at: datetime) -> bool:
        """Whether it is still the answer."""
        if installed is not self.installed or situation != self.situation:
            return False
        passed = at - self.at
        return timedelta(0) <= passed and (self.lasts is None or passed < self.lasts)


class ProfilesBook:
    """The installed profiles."""

    def __init__(self, core: Core, model: DeviceModel, transactions: Transactions) -> None:
        self._core, self._model, self._transactions = core, model, transactions
        self.installed: list[InstalledProfile] = []
        self.around = Surroundings()
        self._known: _Known | None = None
        self._pulled_s: dict[int, float] = {}
        model.live("SmartChargingCtrlr", "Entries", lambda: str(len(self.installed)))

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        told: Actions = {
            "SetChargingProfile": self.set,
            "ClearChargingProfile": self.clear,
            "GetChargingProfiles": self.get,
            "GetCompositeSchedule": self.get_composite,
        }
        if self._core.version == "2.0.1":
            return told
        return {**told, "UpdateDynamicSchedule": self.update, "UsePriorityCharging": self.use_priority}

    # --- the power side ---------------------------------------------------------------------------------------------
    def power(self) -> ProfilePower | None:
        """What the profiles ask of the power stage now; None: there are none."""
        if not self.installed:
            return None
        at, now = self._core.now(), self._transactions.now
        begun = (None, None, False) if now is None else (now.id, now.started_at, now.is_priority)
        situation = (*begun, self._core.offline_since, self.around)
        if self._known is None or not self._known.holds(self.installed, situation, at):
            running = self._running(at)
            self.installed = survivors(self.installed, running)
            power, lasts = profile_power_kw(self.installed, running), next_change(self.installed, running)
            self._known = _Known(self.installed, situation, at, lasts, power)
        return self._known.power

    def sense(self, soc: float | None) -> None:
        """The vehicle's charge, 0..1: some schedules depend on it."""
        if soc != self.around.soc:
            self.around = msgspec.structs.replace(self.around, soc=soc)

    def transaction_ended(self) -> None:
        """Profiles of a transaction end with it."""
        self.installed = [p for p in self.installed if p.profile.chargingProfilePurpose != "TxProfile"]

    def _running(self, at: datetime | None = None) -> Running:
        now = self._transactions.now
        return Running(
            now=at or self._core.now(), evse_id=1, transaction_id=None if now is None else now.id,
            started_at=None if now is None else now.started_at, offline_since=self._core.offline_since,
            is_priority=now is not None and now.is_priority, around=self.around,
        )  # fmt: skip

    # --- requests ---------------------------------------------------------------------------------------------------
    def set(self, message: Any) -> Fields:
        """K01."""
        profile = message.chargingProfile
        if not self._model.is_on("SmartChargingCtrlr"):
            return status("Rejected", "NotEnabled")
        fault = refusal(profile, message.evseId, self._situation())
        if fault is None and discharges(profile) and not self._may_discharge():
            fault = "DischargeRefused"
        if fault is not None:
            return status("Rejected", fault)
        self._install(profile, message.evseId)
        return status("Accepted")

    def _situation(self) -> Situation:
        now = self._transactions.now
        modes = frozenset({"ChargingOnly", "Idle", "ExternalLimits"})
        if self._core.version == "2.1" and self._model.is_on("V2XChargingCtrlr"):
            modes = frozenset(self._model.value("V2XChargingCtrlr", "SupportedOperationModes").split(","))
        return Situation(
            transactions={} if now is None else {1: now.id}, installed=tuple(self.installed), modes=modes
        )  # fmt: skip

    def _may_discharge(self) -> bool:
        return not self._core.faults.refuses_discharge and self._core.setup.discharge_kw > 0.0

    def _install(self, profile: ChargingProfile, evse_id: int, source: str = "CSO") -> None:
        item = InstalledProfile(profile=profile, evse_id=evse_id, installed_at=self._core.now(), source=source)
        self.installed = [p for p in self.installed if p.profile.id != profile.id]
        self.installed.append(item)

    def may_start_with(self, profile: ChargingProfile) -> bool:
        """Whether a remote start may bring `profile`: a TxProfile without a transaction, else well-formed (F01.FR.11)."""
        if profile.chargingProfilePurpose != "TxProfile" or profile.transactionId is not None:
            return False
        named = msgspec.structs.replace(profile, transactionId="-")
        here = msgspec.structs.replace(self._situation(), transactions={1: "-"})
        return refusal(named, 1, here) is None and (not discharges(profile) or self._may_discharge())

    def begin_with(self, profile: ChargingProfile, transaction_id: str) -> None:
        """Install the profile of a remote start for its transaction."""
        self._install(msgspec.structs.replace(profile, transactionId=transaction_id), 1)

    def update(self, message: Any) -> Fields:
        """K28."""
        found = self._dynamic(message.chargingProfileId)
        if found is None:
            return status("Rejected", "UnknownProfile")
        gives = min(message.scheduleUpdate.setpoint or 0.0, message.scheduleUpdate.limit or 0.0) < 0.0
        if gives and not self._may_discharge():
            return status("Rejected", "DischargeRefused")
        self._apply(found, message.scheduleUpdate)
        return status("Accepted")

    def _dynamic(self, profile_id: int) -> InstalledProfile | None:
        mine = (p for p in self.installed if p.profile.id == profile_id)
        return next((p for p in mine if p.profile.chargingProfileKind == "Dynamic"), None)

    def _apply(self, found: InstalledProfile, update: Any) -> None:
        changed = msgspec.structs.replace(found, update=update)
        self.installed = [changed if p is found else p for p in self.installed]

    def clear(self, message: Any) -> Fields:
        """K10: by id, or by criteria; limits from outside stay."""
        wanted = message.chargingProfileCriteria
        mine = [p for p in self.installed if p.source == "CSO" and _fits(p, message.chargingProfileId, wanted)]
        self.installed = [p for p in self.installed if p not in mine]
        return status("Accepted" if mine else "Unknown")

    def get(self, message: Any) -> Fields:
        """K09: reported by source and EVSE."""
        wanted = message.chargingProfile
        found = [p for p in self.installed if message.evseId in (None, p.evse_id) and _meets(p, wanted)]
        if not found:
            return status("NoProfiles")
        self._core.soon(lambda: self._report(message.requestId, found))
        return status("Accepted")

    def _report(self, request_id: int, found: list[InstalledProfile]) -> None:
        groups: dict[tuple[str, int], list[Any]] = {}
        for item in found:
            groups.setdefault((item.source, item.evse_id), []).append(item.profile)
        parts = [
            (source, evse_id, profiles[i : i + PROFILES_PER_REPORT])
            for (source, evse_id), profiles in groups.items()
            for i in range(0, len(profiles), PROFILES_PER_REPORT)
        ]
        for number, (source, evse_id, profiles) in enumerate(parts):
            self._core.say(
                "ReportChargingProfiles",
                {"requestId": request_id, "chargingLimitSource": source, "evseId": evse_id,
                 "chargingProfile": profiles, "tbc": number + 1 < len(parts)},
                asked=True,
            )  # fmt: skip

    def get_composite(self, message: Any) -> Fields:
        """K08."""
        if message.evseId not in (0, 1):
            return status("Rejected", "UnknownEvse")
        if message.duration < 1:
            return status("Rejected", "InvalidValue")
        found = composite(self.installed, self._running(), message.duration)
        unit: RateUnit = message.chargingRateUnit or "W"
        free_kw = self._core.setup.fallback_kw
        fields = composite_fields(found, self._core.version, message.evseId, unit, free_kw)
        return {"status": "Accepted", "schedule": fields}

    def use_priority(self, message: Any) -> Fields:
        """K21."""
        now = self._transactions.now
        if now is None or now.id != message.transactionId:
            return status("Rejected", "TxNotFound")
        if not any(p.profile.chargingProfilePurpose == "PriorityCharging" for p in self.installed):
            return status("NoProfile")
        now.is_priority = message.activate
        return status("Accepted")

    # --- from the station's side ------------------------------------------------------------------------------------
    def press_priority(self, *, activated: bool) -> None:
        """The driver asks for priority at the station (K22)."""
        now = self._transactions.now
        if now is not None and self._core.speaks("NotifyPriorityCharging"):
            now.is_priority = activated
            fields = {"transactionId": now.id, "activated": activated}
            self._core.say("NotifyPriorityCharging", fields)

    def external_limit(self, kw: float | None, source: str = "EMS", purpose: str | None = None) -> None:
        """A limit from outside begins (kW, charging), or ends with None (K12-K14)."""
        named = purpose or "ChargingStationExternalConstraints"
        self.installed = [p for p in self.installed if p.source == "CSO" or p.profile.chargingProfilePurpose != named]
        if kw is None:
            self._core.say("ClearedChargingLimit", {"chargingLimitSource": source})
            return
        at = self._core.now()
        period = {"startPeriod": 0, "limit": round(kw * 1000.0, 1)}
        schedule = {"id": 1, "startSchedule": at, "chargingRateUnit": "W", "chargingSchedulePeriod": [period]}
        fields = {
            "id": EXTERNAL_ID + len(self.installed), "stackLevel": 0, "chargingProfilePurpose": named,
            "chargingProfileKind": "Absolute", "chargingSchedule": [schedule],
        }  # fmt: skip
        kind = codec.payload_type(self._core.version, "SetChargingProfile", "request")
        made: Any = msgspec.convert({"evseId": 0, "chargingProfile": fields}, kind)
        self._install(made.chargingProfile, 0, source)
        limit = {"chargingLimit": {"chargingLimitSource": source}, "chargingSchedule": [schedule]}
        self._core.say("NotifyChargingLimit", limit)
        if self._transactions.now is not None and self._core.setup.standard:
            self._transactions.tell("Updated", "ChargingRateChanged")

    def vehicle_schedule(self, selected: int = 0) -> bool:
        """The vehicle chose a schedule of its TxProfile and tells what it will follow (K15); False if it has none."""
        own = [p for p in self.installed if p.profile.chargingProfilePurpose == "TxProfile"]
        if not own or selected >= len(own[-1].profile.chargingSchedule):
            return False
        chosen = msgspec.structs.replace(own[-1], selected=selected)
        self.installed = [chosen if p is own[-1] else p for p in self.installed]
        told: Fields = {"timeBase": self._core.now(), "evseId": 1, "chargingSchedule": chosen.schedule}
        if self._core.version == "2.1":
            told["selectedChargingScheduleId"] = chosen.schedule.id
        self._core.say("NotifyEVChargingSchedule", told)
        return True

    def tick(self) -> None:
        """Ask for the updates of Dynamic profiles that are to be pulled (K28)."""
        if not self.installed or self._core.version != "2.1" or not self._core.connected:
            return
        now_s = self._core.clock.monotonic()
        for item in self.installed:
            interval_s = getattr(item.profile, "dynUpdateInterval", None)
            if not interval_s or item.profile.chargingProfileKind != "Dynamic":
                continue
            if now_s - self._pulled_s.setdefault(item.profile.id, now_s) >= interval_s:
                self._pulled_s[item.profile.id] = now_s
                self.pull(item.profile.id)

    def pull(self, profile_id: int) -> None:
        """PullDynamicScheduleUpdate for one profile."""

        def got(answer: Any) -> None:
            found = self._dynamic(profile_id)
            if found is not None and answer is not None and answer.scheduleUpdate is not None:
                self._apply(found, answer.scheduleUpdate)

        self._core.say("PullDynamicScheduleUpdate", {"chargingProfileId": profile_id}, got)


def _fits(item: InstalledProfile, profile_id: int | None, wanted: Any) -> bool:
    """Whether ClearChargingProfile means this profile."""
    if profile_id is not None:
        return item.profile.id == profile_id
    if wanted is None:
        return True
    told: Iterable[tuple[Any, Any]] = (
        (wanted.evseId, item.evse_id),
        (wanted.chargingProfilePurpose, item.profile.chargingProfilePurpose),
        (wanted.stackLevel, item.profile.stackLevel),
    )
    return all(want is None or want == have for want, have in told)


def _meets(item: InstalledProfile, wanted: Any) -> bool:
    """Whether GetChargingProfiles means this profile."""
    if wanted.chargingProfileId is not None:
        return item.profile.id in wanted.chargingProfileId
    purpose, level, sources = wanted.chargingProfilePurpose, wanted.stackLevel, wanted.chargingLimitSource
    return (
        purpose in (None, item.profile.chargingProfilePurpose)
        and level in (None, item.profile.stackLevel)
        and (sources is None or item.source in sources)
    )
