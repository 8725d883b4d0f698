"""Who may connect and who may charge: stations and idTokens as people registered them, kept in the store, every change audited.

Stations of the site file are registered by it; their row in the fleet is theirs from the start. A station registered while
the site runs is served at once and becomes part of the fleet that is steered at the next start.
"""

from collections.abc import Callable, Iterable
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from gridtide.run.csms.refused_tokens import RefusedTokens
from gridtide.run.doors import SecurityProfile, check_switch
from gridtide.run.store import Store
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.dialects import Dialect
from gridtide.wire.ocpp.dialects_vendor import DataTransferTemplate, template_problems

STATION, TOKEN, MODE = "station", "token", "station_mode"
PROFILE, MOVE = "station_profile", "station_move"
"""Kinds: the security profile a station was moved to; the one it is being moved to."""
StationMode: TypeAlias = Literal["bidirectional", "charge-only"]
TokenStatus: TypeAlias = Literal["Accepted", "Blocked"]
Verdict: TypeAlias = Literal["Accepted", "Blocked", "Expired", "Invalid", "Unknown", "ConcurrentTx"]
Identity = Annotated[str, Meta(pattern=r"^[A-Za-z0-9*+=:|@._-]{1,48}$")]
Power = Annotated[float, Meta(ge=0.0, le=1_000.0)]
ClockTime = Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
Short = Annotated[str, Meta(max_length=100)]


class EvseEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One EVSE of a station."""

    id: Annotated[int, Meta(ge=1, le=1_000)]
    connectors: Annotated[int, Meta(ge=1, le=16)] = 1
    charge_kw: Power = 11.0
    discharge_kw: Power = 0.0


class StationEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One registered station; its password is kept apart, hashed."""

    identity: Identity
    name: Short = ""
    serial: Short = ""
    """Common name of its client certificate (security profile 3)."""
    security_profile: SecurityProfile = 1
    tls_min: Literal["1.2", "1.3"] = "1.3"
    enabled: bool = True
    evses: Annotated[tuple[EvseEntry, ...], Meta(min_length=1, max_length=64)] = (EvseEntry(id=1),)
    dialect: Dialect = "refuse"
    """How a discharge is asked for; `refuse` never does."""
    discharge_opt_in: bool = False
    """The operator's recorded consent to discharge over OCPP 2.0.1, which cannot negotiate it."""
    template: DataTransferTemplate | None = None
    """The vendor's message of the `data_transfer` dialect."""
    from_file: bool = False
    """Registered by the site file, which alone can change or remove it."""


class TokenEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One idToken and what its driver usually needs."""

    id_token: Annotated[str, Meta(min_length=1, max_length=255)]
    type: Annotated[str, Meta(min_length=1, max_length=20)] = "ISO14443"
    """An IdTokenEnumType value, as ISO14443 or Central."""
    name: Short = ""
    status: TokenStatus = "Accepted"
    group: Annotated[str, Meta(max_length=255)] = ""
    """Tokens of one group may end each other's transactions."""
    expires_s: float | None = None
    """UTC epoch seconds."""
    departure: ClockTime | None = None
    """Local clock time of the usual departure."""
    energy_kwh: Annotated[float, Meta(ge=0.0, le=500.0)] | None = None
    minimum_soc: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    """Never discharged below, and reached first, where the charge is known."""
    may_discharge: bool = True


class Judged(Struct, frozen=True):
    """What becomes of a token that is presented."""

    status: Verdict
    entry: TokenEntry | None = None


class Registry:
    """Stations and tokens in memory, changed only together with the store."""

    def __init__(
        self,
        store: Store,
        base: Iterable[StationEntry] = (),
        tokens: Iterable[TokenEntry] = (),
        *,
        accepts_unknown: bool = True,
    ) -> None:
        """`base`, `tokens`: of the site file; `accepts_unknown`: tokens nobody registered may charge."""
        self._store, self.accepts_unknown = store, accepts_unknown
        self.refused = RefusedTokens()
        self.stations = {entry.identity: entry for entry in base}
        for kept in store.registry(STATION):
            if kept.key not in self.stations:
                self.stations[kept.key] = msgspec.json.decode(kept.value_json, type=StationEntry)
        self.modes: dict[str, StationMode] = {
            kept.key: msgspec.json.decode(kept.value_json, type=StationMode) for kept in store.registry(MODE)
        }
        self.tokens = {token_key(entry.id_token, entry.type): entry for entry in tokens}
        self.tokens.update(
            (kept.key, msgspec.json.decode(kept.value_json, type=TokenEntry)) for kept in store.registry(TOKEN)
        )
        for kept in store.registry(PROFILE):
            if kept.key in self.stations:
                moved = msgspec.json.decode(kept.value_json, type=SecurityProfile)
                self.stations[kept.key] = msgspec.structs.replace(self.stations[kept.key], security_profile=moved)
        self.moves: dict[str, SecurityProfile] = {
            kept.key: msgspec.json.decode(kept.value_json, type=SecurityProfile) for kept in store.registry(MOVE)
        }
        """Stations that may also come in on another security profile, because they are being moved to it (A05)."""
        self.changed: Callable[[str], None] = lambda _identity: None
        """Told of every station that was registered, changed or removed."""
        self.tokens_changed: Callable[[], None] = lambda: None
        """Told after every change of a token."""

    # --- stations ---------------------------------------------------------------------------------------------------
    async def put_station(self, entry: StationEntry, actor: str, at_s: float) -> None:
        """Register or change a station. Raises ValueError for one of the site file and for a serial in use."""
        self._check_own(entry.identity)
        rival = next((s for s in self.stations.values() if s.serial and s.serial == entry.serial), None)
        if rival is not None and rival.identity != entry.identity:
            raise ValueError(f"serial is {entry.serial!r}: station {rival.identity} has it; give each its own")
        if entry.security_profile == 3 and not entry.serial:
            raise ValueError("serial is missing: security profile 3 knows a station by its certificate's common name")
        if entry.dialect == "data_transfer" and entry.template is None:
            raise ValueError("template is missing: dialect data_transfer needs the vendor's message")
        if entry.template is not None and (problems := template_problems(entry.template)):
            raise ValueError(f"template: {problems[0]}")
        if len({evse.id for evse in entry.evses}) < len(entry.evses):
            raise ValueError("evses hold one id twice: number the EVSEs 1, 2, ...")
        entry = msgspec.structs.replace(entry, from_file=False)
        await self._store.put_entry(STATION, entry.identity, msgspec.json.encode(entry), actor, at_s)
        self.stations[entry.identity] = entry
        self.changed(entry.identity)

    async def remove_station(self, identity: str, actor: str, at_s: float) -> None:
        """Remove a station; raises KeyError if there is none, ValueError for one of the site file."""
        if identity not in self.stations:
            raise KeyError(f"there is no station {identity!r}")
        self._check_own(identity)
        await self._store.remove_entry(STATION, identity, actor, at_s)
        del self.stations[identity]
        self.changed(identity)

    async def set_mode(self, identity: str, mode: StationMode, actor: str, at_s: float) -> None:
        """Allow or forbid discharge at a station; raises KeyError if there is none."""
        if identity not in self.stations:
            raise KeyError(f"there is no station {identity!r}")
        await self._store.put_entry(MODE, identity, msgspec.json.encode(mode), actor, at_s)
        self.modes[identity] = mode
        self.changed(identity)

    def mode(self, identity: str) -> StationMode:
        """Whether the operator lets a station discharge; it may unless told otherwise (its dialect decides then)."""
        return self.modes.get(identity, "bidirectional")

    async def begin_move(
        self,
        identity: str,
        profile: SecurityProfile,
        actor: str,
        at_s: float,
        *,
        version: Version,
        downgrade_allowed: bool = False,
    ) -> None:
        """Let a station come in on another security profile too; once it has, that one alone is its own (A05).

        Raises KeyError if there is none, ValueError for a move that the standard forbids or that lacks a serial number.
        """
        entry = self.stations.get(identity)
        if entry is None:
            raise KeyError(f"there is no station {identity!r}")
        check_switch(entry.security_profile, profile, version=version, downgrade_allowed=downgrade_allowed)
        if profile == 3 and not entry.serial:
            raise ValueError("serial is missing: security profile 3 knows a station by its certificate's common name")
        await self._store.put_entry(MOVE, identity, msgspec.json.encode(profile), actor, at_s)
        self.moves[identity] = profile

    async def finish_move(self, identity: str, profile: SecurityProfile, at_s: float) -> bool:
        """The station came in on `profile`: if it was being moved to it, the old one is over. Whether that is so."""
        if self.moves.get(identity) != profile or identity not in self.stations:
            return False
        await self._store.put_entry(PROFILE, identity, msgspec.json.encode(profile), identity, at_s)
        await self._store.remove_entry(MOVE, identity, identity, at_s)
        self.stations[identity] = msgspec.structs.replace(self.stations[identity], security_profile=profile)
        del self.moves[identity]
        return True

    def by_serial(self, serial: str) -> str | None:
        """Identity of the station with this serial number, or None."""
        return next((s.identity for s in self.stations.values() if s.serial and s.serial == serial), None)

    def _check_own(self, identity: str) -> None:
        known = self.stations.get(identity)
        if known is not None and known.from_file:
            raise ValueError(f"identity is {identity!r}: the site file registers it; change it there and restart")

    # --- tokens -----------------------------------------------------------------------------------------------------
    async def put_token(self, entry: TokenEntry, actor: str, at_s: float) -> None:
        """Register or change a token."""
        key = token_key(entry.id_token, entry.type)
        await self._store.put_entry(TOKEN, key, msgspec.json.encode(entry), actor, at_s)
        self.tokens[key] = entry
        if entry.status == "Accepted":
            self.refused.forget(entry.id_token, entry.type)
        self.tokens_changed()

    async def remove_token(self, id_token: str, type_: str, actor: str, at_s: float) -> None:
        """Remove a token; raises KeyError if there is none."""
        key = token_key(id_token, type_)
        if not await self._store.remove_entry(TOKEN, key, actor, at_s):
            raise KeyError(f"there is no token {id_token!r} of type {type_}")
        self.tokens.pop(key, None)
        self.tokens_changed()

    def token(self, id_token: str, type_: str | None = None) -> TokenEntry | None:
        """The entry of a token, of whatever type where none is given; idTokens are case-insensitive (OCPP 2.x, C01)."""
        if type_ is not None:
            return self.tokens.get(token_key(id_token, type_))
        wanted = id_token.lower()
        return next((entry for entry in self.tokens.values() if entry.id_token.lower() == wanted), None)

    def judge(self, id_token: str, type_: str, now_s: float) -> Judged:
        """Whether a token may charge at `now_s` (UTC epoch seconds)."""
        if type_ == "NoAuthorization":
            return Judged("Accepted" if self.accepts_unknown else "Invalid")
        if not id_token:
            return Judged("Invalid")
        entry = self.token(id_token, type_)
        if entry is None:
            return Judged("Accepted" if self.accepts_unknown else "Unknown")
        if entry.expires_s is not None and entry.expires_s <= now_s:
            return Judged("Expired", entry)
        return Judged(entry.status, entry)


def read_template(text: str) -> DataTransferTemplate | None:
    """The template in a site file's JSON text, None for an empty one; raises ValueError (value, cure)."""
    if not text:
        return None
    try:
        template = msgspec.json.decode(text, type=DataTransferTemplate)
    except msgspec.DecodeError as error:
        raise ValueError(
            f'is no template ({error}): give {{"vendor_id": ..., "data": "{{...}}"}} as described in docs/ocpp.md'
        ) from None
    problems = template_problems(template)
    if problems:
        raise ValueError(problems[0])
    return template


def token_key(id_token: str, type_: str) -> str:
    """Key of a token in the registry."""
    return f"{type_}:{id_token.lower()}"
