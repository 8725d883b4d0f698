"""The local authorisation list of every station: sent in bounded parts, whole at first and by differences after (block D)."""

import asyncio
import math
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from gridtide.run.csms.desk import Desk
from gridtide.run.csms.keeping import as_json, tell
from gridtide.run.csms.registry import TokenEntry
from gridtide.run.csms.station import Station
from gridtide.run.csms.tokens import local_list
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.events import CallAnswered, CallFailed
from gridtide.wire.ocpp.structs import WireStruct

LIST, VERSION = "local_list", "local_list_version"
"""Kinds: what the station was given, by token; the version it has (key `version`)."""
PART: Final = 50
"""Tokens a message holds where the station did not tell how many it takes."""
CATCH_UP_S: Final = 10.0
"""After a restart thousands of stations come back at once: lists are compared when they are served again."""
MAX_TOKENS: Final = 4_000
LAST_VERSION: Final = 2**31 - MAX_TOKENS
Calls: TypeAlias = list[tuple[str, dict[str, Any]]]
_ITEMS: Final = "LocalAuthListCtrlr||||ItemsPerMessage|"


class _Wanted(Struct, eq=False, frozen=True):
    """What lists of one OCPP version should hold: AuthorizationData as JSON by key, made once from these entries."""

    items: dict[str, bytes]
    entries: list[TokenEntry]
    until_s: float
    """When the next card expires."""


class LocalLists:
    """Brings the registered tokens to stations, and notes which version each has."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._made: dict[str, _Wanted] = {}
        self._has: dict[str, _Wanted] = {}
        self._dirty: set[str] = set()
        self._due: dict[str, int] = {}
        """Stations that were accepted a moment ago, and on which of their connections."""
        self._turns: dict[str, asyncio.Lock] = {}
        self._comparing = asyncio.Lock()
        self._tasks: set[asyncio.Task[bool]] = set()
        self.requests: dict[str, Any] = {}
        self.answers = {"GetLocalListVersion": self._told, "SendLocalList": self._sent}

    def version(self, identity: str) -> int:
        """Version of the list a station has as far as is known; 0 is none."""
        known = {record.key: record.value_json for record in self._desk.store.records(identity, VERSION)}
        return int(msgspec.json.decode(known["version"])) if "version" in known else 0

    def calls(self, station: Station, *, is_full: bool = False) -> Calls:
        """The messages that bring a station's list up to date: (action, payload), none if it is. A station without a list,
        or `is_full`, gets all of it: one full message and the rest as differences."""
        name = station.provision.identity
        version, given = self.version(name), self._given(name)
        wanted = self._wanted(station).items
        if not 0 < version < LAST_VERSION:
            # None, or a number that leaves no room for the next ones: from the beginning, with all of it.
            version, is_full = 0, True
        changed = [msgspec.json.decode(item) for key, item in wanted.items() if is_full or given.get(key) != item]
        gone = [] if is_full else [_removal(msgspec.json.decode(given[key])) for key in given if key not in wanted]
        calls: Calls = []
        for number, part in enumerate(_parts([*gone, *changed], self._items(name), is_full)):
            update = "Full" if is_full and number == 0 else "Differential"
            payload: dict[str, Any] = {"versionNumber": version + number + 1, "updateType": update}
            if part:
                payload["localAuthorizationList"] = part
            calls.append(("SendLocalList", payload))
        return calls

    async def push(self, station: Station) -> bool:
        """Bring a connected station's list up to date; False if it is not now. A station whose version is another one than
        expected gets all of it. Pushes that come during one become one after it."""
        name = station.provision.identity
        if station.accepted is None:
            return False
        self._dirty.add(name)
        async with self._turns.setdefault(name, asyncio.Lock()):
            if name not in self._dirty:
                # Another one that waited has just brought what this one was to bring.
                return name in self._has
            self._dirty.discard(name)
            return await self._push(station)

    async def push_to(self, stations: Iterable[Station]) -> None:
        """Bring the lists of those stations up to date that keep one of ours; a silent station delays no other."""
        keeping = [station for station in stations if self._is_behind(station)]
        await asyncio.gather(*(self.push(station) for station in keeping))

    def catch_up(self, station: Station) -> None:
        """A station was accepted: what changed while it was away is brought to it, after what cannot wait."""
        name = station.provision.identity
        if self._due.get(name) != station.generation:
            self._due[name] = station.generation
            station.later.append((self._desk.clock.monotonic() + CATCH_UP_S, lambda: self._catch_up(station)))

    def _catch_up(self, station: Station) -> None:
        self._due.pop(station.provision.identity, None)
        if station.accepted is not None and self._is_behind(station):
            task = asyncio.ensure_future(self.push(station))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _is_behind(self, station: Station) -> bool:
        """Whether a station keeps a list of ours and is not known to have all of it."""
        name = station.provision.identity
        return self.version(name) > 0 and self._has.get(name) is not self._wanted(station)

    async def _push(self, station: Station) -> bool:
        wanted, name = self._wanted(station), station.provision.identity
        async with self._comparing:
            # Many stations may come back at once: one comparison, then the others of the loop.
            calls = self.calls(station)
            await asyncio.sleep(0)
        status = await self._send_all(station, calls)
        if status == "VersionMismatch":
            await self._ask_version(station)
        if status in ("VersionMismatch", "Failed"):
            status = await self._send_all(station, self.calls(station, is_full=True))
        if status == "Accepted":
            self._has[name] = wanted
        if status in ("VersionMismatch", "Failed"):
            tell(self._desk, station, "local_list_failed", f"The station did not take the local list: {status}.")
        return status == "Accepted"

    # --- answers ----------------------------------------------------------------------------------------------------
    async def _told(self, station: Station, _request: Any, answer: Any) -> None:
        """-1: it keeps no list; another version than ours: what it holds is not known, so that the next push is full."""
        name = station.provision.identity
        if answer.versionNumber != self.version(name):
            self._has.pop(name, None)
            await self._desk.store.remove_records(name, LIST)
            await self._note_version(name, answer.versionNumber)

    async def _sent(self, station: Station, request: Any, answer: Any) -> None:
        if answer.status != "Accepted":
            return
        name, now_s = station.provision.identity, self._desk.clock.wall()
        self._has.pop(name, None)
        rows, gone = {}, []
        for item in request.localAuthorizationList or ():
            key = _key(item.idToken.type, item.idToken.idToken)
            if item.idTokenInfo is None:
                gone.append(key)
            else:
                rows[key] = as_json(item)
        if request.updateType == "Full" or rows:
            await self._desk.store.put_records(name, LIST, rows, now_s, is_whole=request.updateType == "Full")
        if gone and request.updateType != "Full":
            await self._desk.store.remove_records(name, LIST, tuple(gone))
        await self._note_version(name, request.versionNumber)

    async def _note_version(self, name: str, version: int) -> None:
        rows = {"version": as_json(version)}
        await self._desk.store.put_records(name, VERSION, rows, self._desk.clock.wall())

    # --- sending ----------------------------------------------------------------------------------------------------
    async def _send_all(self, station: Station, calls: Calls) -> str:
        """Accepted when all were; else the first other status, or `silent`."""
        for action, payload in calls:
            request = msgspec.convert(payload, codec.payload_type(station.version, action, "request"))
            outcome = await self._call(station, action, request)
            if not isinstance(outcome, CallAnswered):
                return "silent"
            await self._sent(station, request, outcome.payload)
            status = str(getattr(outcome.payload, "status", "Failed"))
            if status != "Accepted":
                return status
        return "Accepted"

    async def _ask_version(self, station: Station) -> None:
        kind = codec.payload_type(station.version, "GetLocalListVersion", "request")
        outcome = await self._call(station, "GetLocalListVersion", kind())
        if isinstance(outcome, CallAnswered):
            await self._told(station, None, outcome.payload)

    async def _call(self, station: Station, action: str, request: WireStruct) -> CallAnswered | CallFailed | None:
        live = station.accepted
        return None if live is None else await live.call(action, request)

    # --- contents ---------------------------------------------------------------------------------------------------
    def _wanted(self, station: Station) -> _Wanted:
        """What a list of the station's version should hold; made anew when a card changed or expired."""
        now_s, entries = self._desk.clock.wall(), list(self._desk.registry.tokens.values())[:MAX_TOKENS]
        made = self._made.get(station.version)
        if made is None or made.entries != entries or now_s >= made.until_s:
            expiries = (entry.expires_s for entry in entries if entry.expires_s is not None and entry.expires_s > now_s)
            made = _Wanted(self._items_of(station, entries), entries, min(expiries, default=math.inf))
            self._made[station.version] = made
        return made

    def _items_of(self, station: Station, entries: list[TokenEntry]) -> dict[str, bytes]:
        """AuthorizationData by key, of every token the station's version can name."""
        registry, now_s = self._desk.registry, self._desk.clock.wall()
        judged = [registry.judge(entry.id_token, entry.type, now_s) for entry in entries]
        kind = codec.payload_type(station.version, "SendLocalList", "request")
        found: dict[str, bytes] = {}
        for item in local_list(judged):
            made = {"versionNumber": 1, "updateType": "Full", "localAuthorizationList": [item]}
            try:
                request: Any = msgspec.convert(made, kind)
            except msgspec.ValidationError:
                # Of a type only the other version knows: this station asks for it when it is presented.
                continue
            found[_key(item["idToken"]["type"], item["idToken"]["idToken"])] = as_json(
                request.localAuthorizationList[0]
            )
        return found

    def _given(self, name: str) -> dict[str, bytes]:
        return {record.key: record.value_json for record in self._desk.store.records(name, LIST)}

    def _items(self, name: str) -> int:
        """Tokens a message to this station holds: what its device model tells, within reason."""
        known = {record.key: record.value_json for record in self._desk.store.records(name, "variable")}
        if _ITEMS not in known:
            return PART
        values = [attribute.get("value", "") for attribute in msgspec.json.decode(known[_ITEMS])["attributes"]]
        told = [int(value) for value in values if value.isascii() and value.isdigit() and len(value) < 6]
        return min(max(told[0], 1), PART) if told else PART


def _parts(items: list[Any], size: int, is_full: bool) -> Iterator[list[Any]]:
    """Parts of at most `size`; a full list has at least one, maybe empty."""
    if not items and is_full:
        yield []
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _removal(given: Any) -> dict[str, Any]:
    """Without idTokenInfo: the station forgets the token (D01)."""
    return {"idToken": given["idToken"]}


def _key(kind: str, id_token: str) -> str:
    return f"{kind}:{id_token.lower()}"
