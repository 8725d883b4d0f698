"""Links for drivers (GA10): whoever holds one sees the present stay of a token or a bay and says what is needed of it.

The secret in the link has 256 bit and is the whole authentication; only its SHA-256 is kept. A bay's link is for the vehicle
that is there when it is made, and ends with its stay. A token's link lasts as long as its token.
"""

import hashlib
import math
import secrets
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from gridtide.model.view import VehicleView
from gridtide.run.csms.registry import TokenEntry, token_key
from gridtide.run.csms.station import Station
from gridtide.run.site import SiteService

KIND = "driver_link"
MOST_LINKS = 5_000
SECRET_CHARS = 43
SOONEST_S, LATEST_S = 60.0, 14 * 86_400.0
"""A departure lies at least and at most so far ahead."""


WISHES_AT_ONCE = 20
"""Changes one link may make at once; afterwards one more every `WISH_EVERY_S`. Each is in the audit, which cannot forget."""
WISH_EVERY_S = 3600.0 / WISHES_AT_ONCE
SAME_S, SAME_KWH, SAME_SOC = 1.0, 0.01, 1e-6
"""What differs less is the same wish."""


class TooManyWishes(Exception):
    """A link changed its wish too often; it may again later."""


class UnknownLink(Exception):
    """No such link, or one whose stay or token has ended."""


class Link(Struct, frozen=True, kw_only=True):
    """What a link opens: a token, or one stay at an EVSE."""

    token_key: str = ""
    station: str = ""
    evse: int = 0
    transaction_id: str = ""
    created_s: float


class DriverWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a driver asks for; what is not given stays as it is."""

    departs_at_s: float | None = None
    """UTC epoch seconds."""
    energy_kwh: Annotated[float, Meta(ge=0.0, le=500.0)] | None = None
    """From now on."""
    minimum_soc: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    may_discharge: bool | None = None


class DriverView(Struct, frozen=True, kw_only=True):
    """The driver's page. None is not known."""

    site: str
    timezone: str
    now_s: float
    connected: bool
    bay: str = ""
    name: str = ""
    state: str = "empty"
    power_kw: float | None = None
    soc: float | None = None
    minimum_soc: float | None = None
    target_soc: float | None = None
    energy_kwh: float | None = None
    """Taken since it was plugged in."""
    missing_kwh: float | None = None
    ready_s: float | None = None
    """When it would be ready at full power from now on."""
    departs_s: float | None = None
    departure: str = "unknown"
    reason: str = ""
    battery_used: bool = False
    """Whether the site may take from its battery."""
    battery_offered: bool = False
    """Whether this bay could take from a battery at all."""
    stopped: bool = False
    """The emergency stop is pressed."""


class _Budget(Struct):
    left: float
    at_s: float


class DriverLinks:
    """Makes links, resolves them, and passes drivers' wishes on."""

    def __init__(self, site: SiteService) -> None:
        self._site = site
        self._links: dict[str, Link] = {
            entry.key: msgspec.json.decode(entry.value_json, type=Link) for entry in site.store.registry(KIND)
        }
        self._budgets: dict[str, _Budget] = {}

    # --- for operators ----------------------------------------------------------------------------------------------
    async def link_token(self, token: TokenEntry, actor: str) -> str:
        """A new link for the stays of a token; its secret, told this once."""
        key = token_key(token.id_token, token.type)
        return await self._new(Link(token_key=key, created_s=self._site.clock.wall()), actor)

    async def link_evse(self, identity: str, evse: int, actor: str) -> str:
        """A new link for the present stay at an EVSE; raises KeyError for an unknown one, ValueError while it is empty."""
        station = self._site.csms.stations.get(identity)
        row = station.provision.rows.get(evse) if station is not None else None
        if station is None or row is None:
            raise KeyError(f"there is no EVSE {evse} of a station {identity!r} that is steered here")
        transaction = station.transactions.get(row)
        if transaction is None:
            raise ValueError(f"evse is {evse}: no vehicle is there now; a bay's link is for the present stay")
        made = Link(station=identity, evse=evse, transaction_id=transaction, created_s=self._site.clock.wall())
        return await self._new(made, actor)

    async def unlink_token(self, token: TokenEntry, actor: str) -> int:
        """End all links of a token; how many there were."""
        key = token_key(token.id_token, token.type)
        mine = [digest for digest, link in self._links.items() if link.token_key == key]
        for digest in mine:
            await self._remove(digest, actor)
        return len(mine)

    async def _new(self, link: Link, actor: str) -> str:
        for digest in [digest for digest, old in self._links.items() if not self._holds(old)]:
            await self._remove(digest, "site")
        if len(self._links) >= MOST_LINKS:
            raise ValueError(f"there are {MOST_LINKS} driver links: remove some tokens first")
        secret = secrets.token_urlsafe(32)
        digest = _digest(secret)
        await self._site.store.put_entry(KIND, digest, msgspec.json.encode(link), actor, self._site.clock.wall())
        self._links[digest] = link
        return secret

    async def _remove(self, digest: str, actor: str) -> None:
        await self._site.store.remove_entry(KIND, digest, actor, self._site.clock.wall())
        self._links.pop(digest, None)
        self._budgets.pop(digest, None)

    # --- for drivers ------------------------------------------------------------------------------------------------
    def known(self, secret: str) -> bool:
        """Whether the secret opens anything; it tells nothing else."""
        return len(secret) == SECRET_CHARS and self._holds(self._links.get(_digest(secret)))

    def stay(self, secret: str) -> tuple[Station, int] | None:
        """Station and fleet row of the present stay, None while there is none; raises UnknownLink."""
        link = self._links.get(_digest(secret)) if len(secret) == SECRET_CHARS else None
        if link is None or not self._holds(link):
            raise UnknownLink("This link is not valid, or its stay has ended. Ask for a new one.")
        if link.token_key:
            return self._stay_of_token(link.token_key)
        station = self._site.csms.stations[link.station]
        return station, station.provision.rows[link.evse]

    async def wish(self, secret: str, wish: DriverWish) -> None:
        """Take a driver's word for the present stay, audited where it changes something. Raises UnknownLink, TooManyWishes,
        ValueError (field, value, cure)."""
        here = self.stay(secret)
        if here is None:
            raise ValueError("no vehicle of this card is connected now: plug it in first")
        station, row = here
        self._check(wish, station, row)
        if not self._changes(wish, station, row):
            return
        self._spend(_digest(secret))
        detail = msgspec.json.encode({"evse": self._site.settings.table.ids[row], **msgspec.to_builtins(wish)})
        await self._site.store.append_audit(self._site.clock.wall(), "driver", "driver.wish", detail)
        if self.stay(secret) != here:
            raise UnknownLink("The stay has just ended.")
        self._site.csms.set_wish(
            row, departs_at_s=wish.departs_at_s, energy_kwh=wish.energy_kwh, minimum_soc=wish.minimum_soc,
            may_discharge=wish.may_discharge,
        )  # fmt: skip

    def view(self, here: tuple[Station, int] | None, told: VehicleView | None, site: str, timezone: str) -> DriverView:
        """The page of a stay; `told` is the site's own view of its EVSE."""
        now_s = self._site.clock.wall()
        if here is None or told is None:
            return DriverView(site=site, timezone=timezone, now_s=now_s, connected=False)
        station, row = here
        board, table = self._site.board, self._site.settings.table
        missing_kwh = self._missing_kwh(row)
        hours = None if missing_kwh is None else missing_kwh / max(float(board.charge_limit_kw[row]), 1e-3)
        offered = station.may_ever_discharge() and float(table.discharge_kw[row]) > 0.0
        return DriverView(
            site=site, timezone=timezone, now_s=now_s, connected=True, bay=told.bay, name=told.name, state=told.state,
            power_kw=told.power_kw, soc=told.soc, minimum_soc=_known(float(board.minimum_soc[row])),
            target_soc=told.target_soc, energy_kwh=_known(float(board.taken_kwh[row])), missing_kwh=missing_kwh,
            ready_s=None if hours is None else now_s + hours * 3600.0, departs_s=told.departs_s,
            departure=told.departure, reason=told.reason, battery_offered=offered,
            battery_used=offered and row not in station.charge_only, stopped=self._site.state.guard.estop,
        )  # fmt: skip

    # --- parts ------------------------------------------------------------------------------------------------------
    def _holds(self, link: Link | None) -> bool:
        if link is None:
            return False
        if link.token_key:
            entry = self._site.csms.registry.tokens.get(link.token_key)
            return entry is not None and entry.status == "Accepted"
        station = self._site.csms.stations.get(link.station)
        row = station.provision.rows.get(link.evse) if station is not None else None
        return station is not None and row is not None and station.transactions.get(row) == link.transaction_id

    def _stay_of_token(self, key: str) -> tuple[Station, int] | None:
        entry = self._site.csms.registry.tokens[key]
        wanted = entry.id_token.lower()
        for station in self._site.csms.stations.values():
            for row, token in station.tokens.items():
                if token.lower() == wanted and row in station.transactions:
                    return station, row
        return None

    def _check(self, wish: DriverWish, station: Station, row: int) -> None:
        now_s = self._site.clock.wall()
        if wish.departs_at_s is not None and not now_s + SOONEST_S <= wish.departs_at_s <= now_s + LATEST_S:
            raise ValueError("departs_at_s is not ahead: give a time from a minute to two weeks from now")
        if wish.may_discharge and not self._owner_allows(station, row):
            raise ValueError("may_discharge is true: the card's owner has forbidden it; ask whoever gave out the card")

    def _changes(self, wish: DriverWish, station: Station, row: int) -> bool:
        """Whether anything asked for is not so already."""
        board, clock = self._site.board, self._site.clock
        left_s, left_kwh = (
            float(board.departs_s[row]) - clock.monotonic(),
            float(board.asked_kwh[row] - board.taken_kwh[row]),
        )
        asked = (
            (None if wish.departs_at_s is None else wish.departs_at_s - clock.wall(), left_s, SAME_S),
            (wish.energy_kwh, left_kwh, SAME_KWH),
            (wish.minimum_soc, float(board.minimum_soc[row]), SAME_SOC),
        )
        # Not known is NaN: nothing is the same as that.
        if any(wanted is not None and not abs(wanted - now) <= same for wanted, now, same in asked):
            return True
        return wish.may_discharge is not None and wish.may_discharge == (row in station.charge_only)

    def _spend(self, digest: str) -> None:
        now_s = self._site.clock.monotonic()
        budget = self._budgets.setdefault(digest, _Budget(WISHES_AT_ONCE, now_s))
        budget.left = min(WISHES_AT_ONCE, budget.left + (now_s - budget.at_s) / WISH_EVERY_S)
        budget.at_s = now_s
        if budget.left < 1.0:
            raise TooManyWishes(f"This link changed its wish too often: try again in {WISH_EVERY_S:.0f} s.")
        budget.left -= 1.0

    def _owner_allows(self, station: Station, row: int) -> bool:
        """What is registered for the card stands above what a link says."""
        entry = self._site.csms.registry.token(station.tokens.get(row, ""))
        return entry is None or entry.may_discharge

    def _missing_kwh(self, row: int) -> float | None:
        """AC energy to what was asked for: by the charge where it is known, else by the energy."""
        board = self._site.board
        soc, capacity, need = float(board.soc[row]), float(board.capacity_kwh[row]), float(board.need_soc[row])
        lost = float(self._site.settings.table.efficiency[row])
        if math.isfinite(soc) and math.isfinite(need) and capacity > 0.0:
            return max(0.0, need - soc) * capacity / lost
        left = _known(float(board.asked_kwh[row]) - float(board.taken_kwh[row]))
        return None if left is None else max(0.0, left)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
