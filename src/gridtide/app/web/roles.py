"""Roles, and which one a route needs: viewer < operator < admin.

A route tells its need with `opt={"role": ...}`; without it a write needs an operator and a read below /api a viewer. `"anyone"` is
for routes that check a secret of their own (a login, a driver's link); a write among them still must come from our own page.
Provisioning, tokens, users, raw OCPP calls, certificates and erasure are `"admin"`.
"""

from collections.abc import Mapping
from typing import Literal, get_args

from msgspec import Struct

Role = Literal["viewer", "operator", "admin"]
Need = Literal["anyone", "viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
NEEDS: tuple[Need, ...] = get_args(Need)
"""In rising order."""
READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PRIVATE = ("/api/", "/schema")
"""Reads below these need a viewer; the page's own files hold nothing secret and say how to sign in."""


class Actor(Struct, frozen=True):
    """Who asks: the name that the audit log keeps, and what they may do."""

    name: str
    role: Role


def covers(role: Role, need: Need) -> bool:
    """Whether `role` is enough for `need`."""
    return NEEDS.index(role) >= NEEDS.index(need)


def is_read(method: str | None) -> bool:
    """Whether an HTTP method only reads; None is a WebSocket, and those only tell."""
    return method is None or method in READ_METHODS


def need_of(opt: Mapping[str, object], method: str | None, path: str) -> Need:
    """The least role for a route with the options `opt`; raises ValueError for a role that there is not."""
    told = opt.get("role")
    if told is None:
        if not is_read(method):
            return "operator"
        return "viewer" if path.startswith(PRIVATE) else "anyone"
    for need in NEEDS:
        if told == need:
            return need
    raise ValueError(f"opt role of {path} is {told!r}: give {', '.join(NEEDS[:-1])} or {NEEDS[-1]}")


def role_named(text: str, field: str = "role") -> Role:
    """The role of that name; raises ValueError naming `field`."""
    for role in ROLES:
        if text == role:
            return role
    raise ValueError(f"{field} is {text[:60]!r}: give {', '.join(ROLES[:-1])} or {ROLES[-1]}")
