"""How many failed logins an address may have: a token bucket each, for a bounded number of addresses."""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

FAILURES, FAILURE_REFILL_S = 10.0, 6.0
"""Failed logins of one address that are answered one by one, and the seconds until one more is."""
MAX_ADDRESSES = 256


class FailureBudget:
    """Token bucket per address, for a bounded number of addresses."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, address: str) -> bool:
        """Whether one more failure of `address` is within its budget."""
        address, now_s = _network(address), self._now()
        left, at_s = self._left.pop(address, (FAILURES, now_s))
        left = min(FAILURES, left + max(now_s - at_s, 0.0) / FAILURE_REFILL_S)
        self._left[address] = (max(left - 1.0, 0.0), now_s)
        while len(self._left) > MAX_ADDRESSES:
            self._left.popitem(last=False)
        return left >= 1.0

    def give_back(self, address: str) -> None:
        """It was no failure after all."""
        address = _network(address)
        if address in self._left:
            left, at_s = self._left[address]
            self._left[address] = (min(left + 1.0, FAILURES), at_s)


def _network(address: str) -> str:
    """What one party holds: an IPv4 address, or the /64 around an IPv6 one."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4 or found.ipv4_mapped:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False))
