"""Registering stations while the site runs: entries, passwords told once, changes of password (A01), unknown ones that knocked."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from gridtide.run.credentials import CredentialError, Credentials
from gridtide.run.csms.operate import StationOffline
from gridtide.run.csms.registry import StationEntry
from gridtide.run.csms.views import Issued, KnockRow, Rotated
from gridtide.run.login_guard import LoginGuard
from gridtide.run.site import SiteService
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.errors import LocalProtocolError
from gridtide.wire.ocpp.events import CallAnswered

ROTATE_S = 30.0
NOTE_21 = " Where its network profile holds a password of its own (2.1), set that by SetNetworkProfile (B09) as well."
InThread = Callable[..., Awaitable[Any]]
TAKEN = ("Accepted", "RebootRequired")


class Provisioning:
    """Changes who may connect."""

    def __init__(
        self,
        site: SiteService,
        credentials: Credentials,
        guard: Callable[[], LoginGuard | None],
        in_thread: InThread = asyncio.to_thread,
    ) -> None:
        """`guard`: who knows the identities that knocked, once the site listens; `in_thread` keeps file writes off the loop
        (virtual time has no threads)."""
        self._site, self._credentials, self._guard, self._in_thread = site, credentials, guard, in_thread
        self._rotating: set[str] = set()
        self._adding = asyncio.Lock()

    async def add(self, entry: StationEntry, actor: str) -> Issued:
        """Register a new station; its password is told this once. Raises ValueError for one that is known."""
        async with self._adding:
            if entry.identity in self._site.csms.stations:
                raise ValueError(f"identity is {entry.identity!r}: there is such a station; change or remove it")
            issued = await self._put(entry, actor, is_new=True)
        guard = self._guard()
        if guard is not None:
            guard.forget_knock(entry.identity)
        return issued

    async def change(self, entry: StationEntry, actor: str) -> Issued:
        """Change a registered station; its password stays. Raises KeyError, ValueError."""
        if entry.identity not in self._site.csms.stations:
            raise KeyError(f"there is no station {entry.identity!r}")
        return await self._put(entry, actor, is_new=False)

    async def remove(self, identity: str, actor: str) -> None:
        """Remove a station and its password; raises KeyError, ValueError for one of the site file."""
        await self._site.csms.registry.remove_station(identity, actor, self._site.clock.wall())
        await self._in_thread(self._credentials.remove, identity)

    async def _put(self, entry: StationEntry, actor: str, *, is_new: bool) -> Issued:
        await self._site.csms.registry.put_station(entry, actor, self._site.clock.wall())
        password = None
        # Profile 3 knows a station by its certificate alone; a password left by a former station of that name ends.
        if entry.security_profile < 3 and (is_new or not self._credentials.known(entry.identity)):
            password = await self._in_thread(self._credentials.issue, entry.identity)
        return Issued(identity=entry.identity, password=password)

    def knocked(self) -> tuple[KnockRow, ...]:
        """Unknown identities that tried to connect, the latest first."""
        guard = self._guard()
        found = guard.knocked() if guard is not None else ()
        return tuple(msgspec.convert(knock, KnockRow, from_attributes=True) for knock in found)

    async def rotate(self, identity: str, actor: str) -> Rotated:
        """Give a connected station a new password over its own conversation; the old one stays valid until it came back with
        the new one (A01). Nobody else is told it. Raises KeyError, ValueError, StationOffline."""
        station = self._site.csms.stations.get(identity)
        if station is None:
            raise KeyError(f"there is no station {identity!r}")
        live = station.accepted
        if live is None:
            raise StationOffline(f"station {identity} is not connected: its password changes over its own connection")
        if identity in self._rotating:
            raise ValueError(f"station {identity} is being given a password already: wait for its end")
        self._rotating.add(identity)
        try:
            # Audited first and without the secret.
            await self._site.store.append_audit(
                self._site.clock.wall(), actor, "station.rotate", msgspec.json.encode({"station": identity})
            )
            password = await self._made(identity)
            request = codec.payload_type(station.version, "SetVariables", "request")
            item = {
                "attributeValue": password,
                "component": {"name": "SecurityCtrlr"},
                "variable": {"name": "BasicAuthPassword"},
            }
            try:
                outcome = await live.call(
                    "SetVariables", msgspec.convert({"setVariableData": [item]}, request), timeout_s=ROTATE_S
                )
            except LocalProtocolError as error:
                await self._in_thread(self._credentials.abandon, identity)
                raise StationOffline(f"station {identity} takes no more calls now: {error}") from None
            return await self._judged(identity, outcome, station.version)
        finally:
            self._rotating.discard(identity)

    async def _made(self, identity: str) -> str:
        try:
            return str(await self._in_thread(self._credentials.rotate, identity))
        except CredentialError as error:
            raise ValueError(f"identity is {identity!r}: {error}") from None

    async def _judged(self, identity: str, outcome: Any, version: str) -> Rotated:
        results = getattr(outcome.payload, "setVariableResult", ()) if isinstance(outcome, CallAnswered) else ()
        status = str(results[0].attributeStatus) if results else ""
        if status in TAKEN:
            await self._in_thread(self._credentials.confirm, identity)
            words = "The station took its new password; the old one ends when it comes back with the new one."
            if status == "RebootRequired":
                words += " It wants to reboot first."
            return Rotated(identity=identity, status="accepted", words=words + NOTE_21 * (version == "2.1"))
        if status or (not isinstance(outcome, CallAnswered) and outcome.reason == "call_error"):
            await self._in_thread(self._credentials.abandon, identity)
            told = status or outcome.code or "an error"
            words = f"The station refused a new password ({told}); the old one stays."
            return Rotated(identity=identity, status="rejected", words=words)
        words = "The station did not answer; both passwords stay valid until it comes back with one of them."
        return Rotated(identity=identity, status="unanswered", words=words)
