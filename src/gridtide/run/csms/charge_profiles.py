"""Charge profiles that other systems command (GA3): validated, done once per `transaction_id`, kept over restarts.

A profile is a wish like a person's: it becomes manual overrides of the site, step by step, so the guard stays above it. It never
becomes a raw charging profile at a station. It is for the vehicle that is there when it begins and ends with its stay.
"""

import asyncio
from itertools import pairwise
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gridtide.run.csms.registry import Identity
from gridtide.run.csms.station import Station
from gridtide.run.site import SiteService
from gridtide.run.store import StoreError

KIND = "charge_profile"
KEPT = 10_000
"""Commands remembered, so that a repetition has no effect; the oldest that ended make room."""
LONGEST_S = 7 * 86_400.0
TICK_S = 1.0
OVERRIDE_S = 86_400.0
"""Longest override the site takes; a longer step is renewed."""
LATE_S = 5.0
"""An override outlives its step by this, so that the next step finds it."""
Power = Annotated[float, Meta(ge=0.0, le=1_000.0)]
Soc = Annotated[float, Meta(ge=0.0, le=1.0)]
State = Literal["waiting", "running", "ended"]


class DischargeDenied(Exception):
    """The station or its operator does not allow discharge; the message begins with `discharge denied`."""


class Conflict(Exception):
    """The same `transaction_id` came with another body."""


class ProfileStep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From `after_s` (since the start) on: this power, + charges, - discharges."""

    after_s: Annotated[float, Meta(ge=0.0, le=LONGEST_S)]
    power_kw: Annotated[float, Meta(ge=-1_000.0, le=1_000.0)]


class ChargeProfile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One command."""

    transaction_id: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]
    """The sender's; the same command twice has one effect."""
    station: Identity
    evse: Annotated[int, Meta(ge=1, le=1_000)] = 1
    schedule: Annotated[tuple[ProfileStep, ...], Meta(min_length=1, max_length=500)]
    duration_s: Annotated[float, Meta(ge=1.0, le=LONGEST_S)]
    starts_at_s: float | None = None
    """UTC epoch seconds; None: on receipt."""
    max_charge_kw: Power | None = None
    max_discharge_kw: Power | None = None
    """Magnitudes that no step may exceed."""
    stop_charge_soc: Soc | None = None
    """Charging ends when this charge is reached."""
    stop_discharge_soc: Soc | None = None
    """Discharging ends when the charge has fallen to this."""


class ProfileStatus(Struct, frozen=True, kw_only=True):
    """A command and what became of it."""

    transaction_id: str
    station: str
    evse: int
    state: State
    starts_s: float
    ends_s: float
    power_kw: float | None
    """What is wished now; the guard may allow less. None: nothing."""
    words: str
    repeated: bool = False
    """The command had come before; nothing was done again."""


class _Kept(Struct, frozen=True, kw_only=True):
    command: ChargeProfile
    actor: str
    starts_s: float
    stay: str = ""
    """OCPP transaction of the vehicle it was begun for."""
    ended: str = ""
    """Why it ended; empty while it holds."""

    @property
    def ends_s(self) -> float:
        return self.starts_s + self.command.duration_s


class ChargeProfiles:
    """All commands, and the loop that carries them out. Call `run` beside the site."""

    def __init__(self, site: SiteService) -> None:
        self._site = site
        self._lock = asyncio.Lock()
        self._all: dict[str, _Kept] = {}
        self._set: dict[str, tuple[float, float]] = {}
        """Command -> (power, wall-clock end) of the override it has set."""
        for entry in sorted(site.store.registry(KIND), key=lambda entry: entry.changed_s):
            self._all[entry.key] = msgspec.json.decode(entry.value_json, type=_Kept)

    # --- what others ask --------------------------------------------------------------------------------------------
    async def command(self, wish: ChargeProfile, actor: str) -> ProfileStatus:
        """Take a command; one that came before is only answered.

        Raises Conflict, DischargeDenied, KeyError (no such station or EVSE), ValueError (field, value, cure).
        """
        async with self._lock:
            known = self._all.get(wish.transaction_id)
            if known is not None:
                if known.command != wish:
                    raise Conflict(
                        f"transaction_id is {wish.transaction_id!r}: it came before with another body; use a new one"
                    )
                return msgspec.structs.replace(self._status(known), repeated=True)
            station, row = self._find(wish)
            now_s = self._site.clock.wall()
            starts_s = now_s if wish.starts_at_s is None else wish.starts_at_s
            self._check(wish, row, starts_s, now_s)
            self._check_denied(wish, station)
            await self._make_room(actor)
            await self._replace_rivals(wish, starts_s)
            await self._put(_Kept(command=wish, actor=actor, starts_s=starts_s))
        await self.tick()
        return self.status(wish.transaction_id)

    def status(self, transaction_id: str) -> ProfileStatus:
        """One command; raises KeyError if there is none."""
        if transaction_id not in self._all:
            raise KeyError(f"there is no charge profile {transaction_id[:64]!r}")
        return self._status(self._all[transaction_id])

    def all(self) -> tuple[ProfileStatus, ...]:
        """All that are remembered, the latest first."""
        return tuple(self._status(kept) for kept in reversed(self._all.values()))

    async def cancel(self, transaction_id: str, actor: str) -> ProfileStatus:
        """End a command now; a second cancellation does nothing. Raises KeyError if there is none."""
        async with self._lock:
            if transaction_id not in self._all:
                raise KeyError(f"there is no charge profile {transaction_id[:64]!r}")
            if not self._all[transaction_id].ended:
                await self._end(transaction_id, f"Cancelled by {actor}.")
        return self.status(transaction_id)

    # --- its effect -------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Carry out commands for ever; a store that does not take a change is asked again."""
        while True:
            await self._site.clock.sleep(TICK_S)
            try:
                await self.tick()
            except StoreError:
                self._site.note("store_failed", "site", "A charge profile could not go on; it is tried again.")

    async def tick(self) -> None:
        """Bring every command that holds to what it wishes now."""
        async with self._lock:
            for key, kept in list(self._all.items()):
                if not kept.ended:
                    await self._serve(key, kept)

    async def _serve(self, key: str, kept: _Kept) -> None:
        now_s = self._site.clock.wall()
        if now_s >= kept.ends_s:
            await self._end(key, "It came to its end.")
            return
        if now_s < kept.starts_s:
            return
        station = self._site.csms.stations.get(kept.command.station)
        row = station.provision.rows.get(kept.command.evse) if station is not None else None
        if station is None or row is None:
            await self._end(key, "Its station is no longer registered.")
            return
        stay = station.transactions.get(row, "")
        if kept.stay and stay != kept.stay:
            await self._end(key, "Its vehicle left.")
        elif stay:
            if not kept.stay:
                await self._put(msgspec.structs.replace(kept, stay=stay))
            await self._follow(key, self._all[key], row, now_s)

    async def _follow(self, key: str, kept: _Kept, row: int, now_s: float) -> None:
        before = self._set.get(key)
        if before is not None and before[1] > now_s and not self._is_mine(row, before[0]):
            del self._set[key]
            await self._end(key, "Somebody set the vehicle by hand meanwhile.")
            return
        power_kw, until_s = self._wanted(kept, row, now_s)
        if before is not None and before[0] == power_kw and before[1] - now_s > LATE_S / 2.0:
            return
        lasts_s = min(until_s - now_s + LATE_S, OVERRIDE_S)
        await self._site.override(row, "power", power_kw, lasts_s / 60.0, f"profile {key}")
        self._set[key] = (power_kw, now_s + lasts_s)

    def _wanted(self, kept: _Kept, row: int, now_s: float) -> tuple[float, float]:
        """Power wished now, kW, and until when."""
        steps, since_s = kept.command.schedule, now_s - kept.starts_s
        index = max(k for k, step in enumerate(steps) if step.after_s <= since_s + 1e-6)
        end_s = kept.starts_s + steps[index + 1].after_s if index + 1 < len(steps) else kept.ends_s
        power_kw, soc = steps[index].power_kw, float(self._site.board.soc[row])
        stop_up, stop_down = kept.command.stop_charge_soc, kept.command.stop_discharge_soc
        if power_kw > 0.0 and stop_up is not None and soc >= stop_up:
            power_kw = 0.0
        if power_kw < 0.0 and stop_down is not None and not soc > stop_down:
            power_kw = 0.0
        return power_kw, end_s

    def _is_mine(self, row: int, power_kw: float) -> bool:
        return any(o.row == row and o.mode == "power" and o.power_kw == power_kw for o in self._site.settings.overrides)

    async def _end(self, key: str, why: str) -> None:
        kept, had = self._all[key], self._set.pop(key, None)
        await self._put(msgspec.structs.replace(kept, ended=why))
        station = self._site.csms.stations.get(kept.command.station)
        row = station.provision.rows.get(kept.command.evse) if station is not None else None
        if had is not None and row is not None and self._is_mine(row, had[0]):
            await self._site.override(row, "auto", 0.0, 1.0, f"profile {key}")

    async def _put(self, kept: _Kept) -> None:
        key = kept.command.transaction_id
        await self._site.store.put_entry(KIND, key, msgspec.json.encode(kept), kept.actor, self._site.clock.wall())
        self._all[key] = kept

    async def _make_room(self, actor: str) -> None:
        if len(self._all) < KEPT:
            return
        oldest = next((key for key, kept in self._all.items() if kept.ended), None)
        if oldest is None:
            raise ValueError(f"transaction_id: {KEPT} profiles hold already; wait until some have ended")
        await self._site.store.remove_entry(KIND, oldest, actor, self._site.clock.wall())
        del self._all[oldest]

    async def _replace_rivals(self, wish: ChargeProfile, starts_s: float) -> None:
        """The newest command for an EVSE wins; those whose time does not touch it stay."""
        for key, kept in list(self._all.items()):
            same = (kept.command.station, kept.command.evse) == (wish.station, wish.evse)
            if same and not kept.ended and kept.starts_s < starts_s + wish.duration_s and starts_s < kept.ends_s:
                await self._end(key, f"Replaced by {wish.transaction_id}.")

    # --- checks -----------------------------------------------------------------------------------------------------
    def _find(self, wish: ChargeProfile) -> tuple[Station, int]:
        station = self._site.csms.stations.get(wish.station)
        if station is None:
            raise KeyError(f"there is no station {wish.station!r}")
        row = station.provision.rows.get(wish.evse)
        if row is None:
            raise KeyError(f"station {wish.station} has no EVSE {wish.evse} that is steered here")
        return station, row

    def _check(self, wish: ChargeProfile, row: int, starts_s: float, now_s: float) -> None:
        if not now_s - wish.duration_s < starts_s <= now_s + LONGEST_S:
            raise ValueError(
                f"starts_at_s is {starts_s:.0f}: give an instant whose {wish.duration_s:g} s are not over, within a week"
            )
        if wish.schedule[0].after_s != 0.0:
            raise ValueError(f"schedule[0].after_s is {wish.schedule[0].after_s:g}: the first step begins at 0")
        for number, (one, other) in enumerate(pairwise(wish.schedule), 1):
            if not one.after_s < other.after_s:
                raise ValueError(f"schedule[{number}].after_s is {other.after_s:g}: give more than {one.after_s:g}")
        if wish.schedule[-1].after_s >= wish.duration_s:
            raise ValueError(f"duration_s is {wish.duration_s:g}: give more than the last step's beginning")
        table = self._site.settings.table
        most_kw = _least(wish.max_charge_kw, float(table.charge_kw[row]))
        give_kw = _least(wish.max_discharge_kw, float(table.discharge_kw[row]))
        for number, step in enumerate(wish.schedule):
            if not -give_kw <= step.power_kw <= most_kw:
                raise ValueError(
                    f"schedule[{number}].power_kw is {step.power_kw:g}: give -{give_kw:g} to {most_kw:g} kW, what limits and "
                    "EVSE allow"
                )

    def _check_denied(self, wish: ChargeProfile, station: Station) -> None:
        if not any(step.power_kw < 0.0 for step in wish.schedule) or station.may_ever_discharge():
            return
        name = wish.station
        if self._site.csms.registry.mode(name) == "charge-only":
            why = f"an operator set {name} to charge only (`gridtide profile {name} bidirectional` ends that)"
        else:
            why = f"the dialect of {name} is `refuse`: register one that it understands"
        self._site.note("discharge_denied", f"{name}/{wish.evse}", f"Profile {wish.transaction_id} was refused: {why}.")
        raise DischargeDenied(f"discharge denied: {why}")

    def _status(self, kept: _Kept) -> ProfileStatus:
        command, now_s = kept.command, self._site.clock.wall()
        state: State = "ended" if kept.ended else "running" if kept.stay and now_s >= kept.starts_s else "waiting"
        held = self._set.get(command.transaction_id)
        told = kept.ended or ("" if state == "running" else "Waits for its start or for a vehicle.")
        return ProfileStatus(
            transaction_id=command.transaction_id, station=command.station, evse=command.evse, state=state,
            starts_s=kept.starts_s, ends_s=kept.ends_s, power_kw=None if held is None else held[0], words=told,
        )  # fmt: skip


def _least(limit_kw: float | None, rated_kw: float) -> float:
    return rated_kw if limit_kw is None else min(limit_kw, rated_kw)
