"""Who fails to log in, how often, and what that may cost us. A right password always passes: only failures and the
reconnects of one station have budgets, so nobody's bad logins hold up a good station."""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from gridtide.run.clock import Clock

Reason = Literal[
    "malformed identity",
    "unknown station",
    "station disabled",
    "no credentials",
    "wrong password",
    "wrong security profile",
    "TLS version too old",
    "no certificate",
    "certificate of another",
    "certificate revoked",
    "certificate expired",
    "too many attempts",
]
"""Why a connection was refused: for the operator, never told to the station."""


class GuardLimits(Struct, frozen=True, kw_only=True):
    """Budgets: so many at once, and so many a second afterwards."""

    address_failures: float = 40.0
    address_failures_per_s: float = 1.0
    """Failed logins of one IPv4 address or IPv6 /64 that are answered 401; beyond: 429, and no scrypt is spent on it."""
    identity_failures: float = 40.0
    identity_failures_per_s: float = 0.2
    """Failed logins for one identity, from anywhere; beyond: 429."""
    identity_connects: float = 120.0
    identity_connects_per_s: float = 4.0
    """Right logins of one station: one that reconnects without end must not cost the others their time."""
    remembered: int = 4096
    """Addresses and identities whose budgets are kept, the latest ones."""
    knocks: int = 256
    """Unknown identities that are remembered, the latest ones."""


class Knock(Struct, frozen=True):
    """An identity nobody provisioned, which tried to connect."""

    identity: str
    peer: str
    """Address and port of its latest attempt."""
    count: int
    first_seen_s: float
    """UTC epoch seconds."""
    last_seen_s: float


class _Budgets:
    """Token buckets by key; the least recently used are forgotten."""

    def __init__(self, size: float, per_s: float, remembered: int) -> None:
        self._size, self._per_s, self._remembered = size, per_s, remembered
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def left(self, key: str, now_s: float) -> float:
        """Tokens of `key`."""
        tokens, at_s = self._left.get(key, (self._size, now_s))
        return min(tokens + (now_s - at_s) * self._per_s, self._size)

    def take(self, key: str, now_s: float) -> bool:
        """Take one token; False when there was none."""
        tokens = self.left(key, now_s)
        self._left[key] = (max(tokens - 1.0, 0.0), now_s)
        self._left.move_to_end(key)
        if len(self._left) > self._remembered:
            self._left.popitem(last=False)
        return tokens >= 1.0

    def __len__(self) -> int:
        return len(self._left)


class LoginGuard:
    """Budgets and the list of strangers; all in memory, all bounded."""

    def __init__(
        self,
        clock: Clock,
        tell: Callable[[str, str, Reason], None] = lambda _identity, _peer, _reason: None,
        limits: GuardLimits | None = None,
    ) -> None:
        """`tell(identity, peer, reason)` hears of every refusal; it must return at once and not raise."""
        limit = limits or GuardLimits()
        self._clock, self._tell, self._limit = clock, tell, limit
        self._addresses = _Budgets(limit.address_failures, limit.address_failures_per_s, limit.remembered)
        self._identities = _Budgets(limit.identity_failures, limit.identity_failures_per_s, limit.remembered)
        self._connects = _Budgets(limit.identity_connects, limit.identity_connects_per_s, limit.remembered)
        self._knocks: OrderedDict[str, Knock] = OrderedDict()
        self.refused: Counter[Reason] = Counter()
        """Refusals so far by reason."""

    def failed(self, identity: str, address: str, peer: str, reason: Reason) -> bool:
        """Count a failed login (`identity` empty where it fits no pattern); True when a budget is used up."""
        now_s = self._clock.monotonic()
        spent = not self._addresses.take(_network(address), now_s)
        if identity and reason != "unknown station":
            spent = not self._identities.take(identity, now_s) or spent
        elif identity and not spent:
            # Who is over budget must not flush the honest strangers out of the list.
            self._remember(identity, peer)
        self._count(identity, peer, reason)
        return spent

    def may_connect(self, identity: str, peer: str) -> bool:
        """Whether a station with the right credentials may connect once more; counts it."""
        if self._connects.take(identity, self._clock.monotonic()):
            return True
        self._count(identity, peer, "too many attempts")
        return False

    def worth_scrypt(self, address: str) -> bool:
        """Whether this address has failed seldom enough to spend an expensive check on it."""
        return self._addresses.left(_network(address), self._clock.monotonic()) >= 1.0

    def knocked(self) -> tuple[Knock, ...]:
        """Unknown identities that tried, the latest first."""
        return tuple(reversed(self._knocks.values()))

    def forget_knock(self, identity: str) -> bool:
        """Drop one from the list (it was provisioned, or is of no interest); False where it is not there."""
        return self._knocks.pop(identity, None) is not None

    def _remember(self, identity: str, peer: str) -> None:
        now_s = self._clock.wall()
        known = self._knocks.get(identity)
        first_s, count = (known.first_seen_s, known.count) if known else (now_s, 0)
        self._knocks[identity] = Knock(identity, peer, count + 1, first_s, now_s)
        self._knocks.move_to_end(identity)
        if len(self._knocks) > self._limit.knocks:
            self._knocks.popitem(last=False)

    def _count(self, identity: str, peer: str, reason: Reason) -> None:
        self.refused[reason] += 1
        self._tell(identity, peer, reason)


def _network(address: str) -> str:
    """What one sender holds: an IPv4 address or an IPv6 /64."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or int(ip) >> 64)
