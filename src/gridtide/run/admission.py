"""Whether a connection may become a station's: path, security profile, proof. Decided before the WebSocket upgrade; refusing
touches nothing but the login guard's counters."""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from gridtide.run.clock import Clock
from gridtide.run.credentials import Credentials, TooBusyError, basic_password
from gridtide.run.doors import Door, SecurityProfile, StationDoor, TlsVersion
from gridtide.run.login_guard import LoginGuard, Reason
from gridtide.run.tls import PeerCertificate
from gridtide.wire.ocpp.actions import identity_of

RETRY_AFTER_S = 10


class Attempt(Struct, frozen=True, kw_only=True):
    """One connection that asks to be upgraded."""

    path: str
    authorization: tuple[str, ...] = ()
    """All values of that header; more than one proves nothing."""
    address: str
    peer: str
    """Address and port, for people."""
    tls: TlsVersion | None = None
    """None: plain ws."""
    certificate: PeerCertificate | None = None
    revoked: frozenset[int] = frozenset()
    """Certificate numbers that the listener's lists revoke."""
    operator: str = ""
    """Organisation that the listener demands of a certificate."""

    def __repr__(self) -> str:
        return f"Attempt(path={self.path!r}, peer={self.peer!r}, tls={self.tls!r})"


class Admitted(Struct, frozen=True):
    """A station that proved itself."""

    identity: str
    security_profile: SecurityProfile
    password: str = ""
    """What it proved itself with; empty with a certificate."""

    def __repr__(self) -> str:
        return f"Admitted({self.identity!r}, security_profile={self.security_profile})"


class Refusal(Struct, frozen=True):
    """The answer to anything else; the reason stays here."""

    reason: Reason | Literal["busy"]
    status: Literal[401, 429, 503]


class Admission:
    """Judges attempts. Without a `door` every identity with a password may enter by what its listener offers, and with a
    certificate whose serial number `identity_of_serial` knows as this identity's."""

    def __init__(
        self,
        credentials: Credentials,
        guard: LoginGuard,
        clock: Clock,
        door: Door | None = None,
        identity_of_serial: Callable[[str], str | None] | None = None,
    ) -> None:
        self._credentials, self._guard, self._clock = credentials, guard, clock
        self._doors, self._identity_of_serial = door, identity_of_serial

    async def judge(self, attempt: Attempt) -> Admitted | Refusal:
        """Let in or refuse. 401 says nothing about why; 429 and 503 only that it is too much at present."""
        identity = identity_of(attempt.path)
        if identity is None:
            return self._refuse("", attempt, "malformed identity")
        door = self._door(identity, attempt)
        if door is None:
            return self._refuse(identity, attempt, "unknown station")
        if not door.enabled:
            return self._refuse(identity, attempt, "station disabled")
        profile = door.profile_for(attempt.tls is not None, attempt.certificate is not None)
        if profile is None:
            return self._refuse(identity, attempt, "wrong security profile")
        if attempt.tls is not None and attempt.tls < door.tls_min:
            return self._refuse(identity, attempt, "TLS version too old")
        if profile == 3:
            wrong, password = self._certificate_fault(identity, door, attempt), ""
        else:
            given = self._password(identity, attempt)
            try:
                wrong, password = await self._password_fault(identity, given, attempt.address), given or ""
            except TooBusyError:
                return Refusal("busy", 503)
        if wrong is not None:
            return self._refuse(identity, attempt, wrong)
        if not self._guard.may_connect(identity, attempt.peer):
            return Refusal("too many attempts", 429)
        return Admitted(identity, profile, password)

    def _door(self, identity: str, attempt: Attempt) -> StationDoor | None:
        if self._doors is not None:
            return self._doors.door(identity)
        serial = attempt.certificate.serial if attempt.certificate is not None else ""
        if serial and self._identity_of_serial is not None and self._identity_of_serial(serial) == identity:
            return StationDoor(security_profile=3, serial=serial, tls_min="1.2")
        if not self._credentials.known(identity):
            return None
        return StationDoor(security_profile=1 if attempt.tls is None else 2, tls_min="1.2")

    def _certificate_fault(self, identity: str, door: StationDoor, attempt: Attempt) -> Reason | None:
        """What is wrong with a certificate that our roots signed. Its dates are read again: a clock may have been wrong."""
        shown = attempt.certificate
        if shown is None:
            return "no certificate"
        if shown.number in attempt.revoked:
            return "certificate revoked"
        if shown.not_after_s <= self._clock.wall():
            return "certificate expired"
        of_another = not shown.serial or shown.serial != door.serial
        if self._identity_of_serial is not None and self._identity_of_serial(shown.serial) != identity:
            of_another = True
        if attempt.operator and shown.operator != attempt.operator:
            of_another = True
        return "certificate of another" if of_another else None

    def _password(self, identity: str, attempt: Attempt) -> str | None:
        if len(attempt.authorization) != 1:
            return None
        return basic_password(attempt.authorization[0], identity)

    async def _password_fault(self, identity: str, given: str | None, address: str) -> Reason | None:
        if given is None:
            return "no credentials"
        right = self._credentials.quick(identity, given)
        if right is None and self._guard.worth_scrypt(address):
            right = await self._credentials.check(identity, given)
        return None if right else "wrong password"

    def _refuse(self, identity: str, attempt: Attempt, reason: Reason) -> Refusal:
        spent = self._guard.failed(identity, attempt.address, attempt.peer, reason)
        return Refusal(reason, 429 if spent else 401)
