"""What the operator set for each station's way in: security profile, serial number, TLS version (OCPP use cases A00, A05)."""

from collections.abc import Mapping
from typing import Literal, Protocol

from msgspec import Struct

SecurityProfile = Literal[1, 2, 3]
"""1: ws and password; 2: TLS and password; 3: mutual TLS."""
TlsVersion = Literal["1.2", "1.3"]


class StationDoor(Struct, frozen=True, kw_only=True):
    """How one station may come in."""

    security_profile: SecurityProfile = 2
    serial: str = ""
    """Serial number of the station: the common name its certificate must have (A00.FR.405, FR.511)."""
    tls_min: TlsVersion = "1.3"
    enabled: bool = True
    next_profile: SecurityProfile | None = None
    """Accepted too, while the station is being moved to it; the move is over when it connected so (A05)."""

    def profile_for(self, tls: bool, certificate: bool) -> SecurityProfile | None:
        """The profile a connection of this kind must prove; None where this station may not connect so (A00.FR.002)."""
        allowed = {self.security_profile, self.next_profile}
        if not tls:
            return 1 if 1 in allowed else None
        if 3 in allowed and (certificate or 2 not in allowed):
            return 3
        return 2 if 2 in allowed else None


class Door(Protocol):
    """Where the listener asks about a station; answers at once, from memory."""

    def door(self, identity: str) -> StationDoor | None:
        """The station's door; None for an identity nobody provisioned."""


class Registered(Protocol):
    """What of a registered station decides about its way in."""

    @property
    def security_profile(self) -> SecurityProfile: ...
    @property
    def serial(self) -> str: ...
    @property
    def tls_min(self) -> TlsVersion: ...
    @property
    def enabled(self) -> bool: ...


class RegistryDoors:
    """The doors of registered stations, as they are registered at the moment of the question."""

    def __init__(self, stations: Mapping[str, Registered], moves: Mapping[str, SecurityProfile] | None = None) -> None:
        """`stations` by identity, and the security profile that some are being moved to; both read at every question."""
        self._stations = stations
        self._moves = moves if moves is not None else {}

    def door(self, identity: str) -> StationDoor | None:
        """The station's door; None for an identity that is not registered."""
        entry = self._stations.get(identity)
        if entry is None:
            return None
        return StationDoor(
            security_profile=entry.security_profile,
            serial=entry.serial,
            tls_min=entry.tls_min,
            enabled=entry.enabled,
            next_profile=self._moves.get(identity),
        )


def check_switch(
    now: SecurityProfile, then: SecurityProfile, *, version: Literal["2.0.1", "2.1"], downgrade_allowed: bool = False
) -> None:
    """Raise ValueError unless a station may be moved from one profile to another (A05; a downgrade only in 2.1, 3 to 2, with
    `AllowSecurityProfileDowngrade`)."""
    if then >= now:
        return
    if then == 1:
        raise ValueError(
            f"security_profile is {then}: a station on profile {now} never goes back to plain ws; keep {now}"
        )
    if version != "2.1":
        raise ValueError(f"security_profile is {then}: OCPP {version} allows no downgrade; keep {now}")
    if not downgrade_allowed:
        raise ValueError(
            f"security_profile is {then}: set AllowSecurityProfileDowngrade at the station first, or keep {now}"
        )
