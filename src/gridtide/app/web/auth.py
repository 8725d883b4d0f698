"""Who may read and who may write: API token, one-time login links, session cookies, Host and Origin.

Reads are open to this machine's own browser (loopback address under a loopback name, no proxy in between); everything
else needs the session cookie or `Authorization: Bearer <token>`. A cookie write also needs our own Origin and the header
`X-Gridtide: 1`, which no foreign page can send. Every request must name us in Host (against DNS rebinding).
Only digests of secrets are kept in memory, and they are compared in constant time.
"""

import hashlib
import hmac
import ipaddress
import math
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct

from gridtide.run.credentials import CredentialError, read_secret, write_secret

COOKIE = "gridtide_session"
LOGIN_LIFE_S = 600.0
SESSION_LIFE_S = 30 * 86_400.0
"""A session ends this long after its last use."""
MAX_LOGINS, MAX_SESSIONS = 16, 64
FAILURES, FAILURE_REFILL_S = 10.0, 6.0
"""Failed logins of one address that are answered one by one, and the seconds until one more is."""
MAX_ADDRESSES = 256
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


class Refused(Exception):
    """A request that may not pass; `status` is the HTTP status, the message is fit to be shown."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Asked(Struct, frozen=True, kw_only=True):
    """What of a request decides whether it may pass."""

    host: str = ""
    origin: str | None = None
    authorization: str | None = None
    session: str | None = None
    """Value of the session cookie."""
    marked: bool = False
    """Carries `X-Gridtide: 1`."""
    peer: str = ""
    """Address the connection comes from."""
    forwarded: bool = False
    """A proxy says it passed this on."""


class Session(Struct):
    """One signed-in browser."""

    actor: str
    used_s: float


class Login(Struct, frozen=True):
    """One unused login link."""

    digest: bytes
    actor: str
    ends_s: float


class FailureBudget:
    """Token bucket per address, for a bounded number of addresses."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, address: str) -> bool:
        """Whether one more failure of `address` is within its budget."""
        now_s = self._now()
        left, at_s = self._left.pop(address, (FAILURES, now_s))
        left = min(FAILURES, left + max(now_s - at_s, 0.0) / FAILURE_REFILL_S)
        self._left[address] = (max(left - 1.0, 0.0), now_s)
        while len(self._left) > MAX_ADDRESSES:
            self._left.popitem(last=False)
        return left >= 1.0


class Access:
    """The doorkeeper of one web server. `now` is a monotonic clock in seconds."""

    def __init__(
        self, token: str, port: int, now: Callable[[], float], *, names: tuple[str, ...] = (), secure: bool = False
    ) -> None:
        """`port`: the one users connect to; `names`: further allowed Host values, `name` or `name:port`;
        `secure`: users come by TLS (here or at a proxy), so cookies are Secure and Origin is https.
        """
        self.secure, self._now = secure, now
        self._token = _digest(token)
        self._local_hosts = _with_port(LOOPBACK_NAMES, port, secure)
        self._hosts = self._local_hosts | _with_port(names, port, secure) | {name.lower() for name in names}
        self._logins: list[Login] = []
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._failures = FailureBudget(now)

    # --- secrets given out ------------------------------------------------------------------------------------------
    def issue_login(self, actor: str = "page", life_s: float | None = LOGIN_LIFE_S) -> str:
        """A token for one login at `/login?token=`; `life_s` None: valid until used. The oldest unused ones lapse."""
        token = secrets.token_urlsafe(32)
        ends_s = math.inf if life_s is None else self._now() + life_s
        self._logins = [*self._logins[-(MAX_LOGINS - 1) :], Login(_digest(token), actor, ends_s)]
        return token

    def redeem(self, token: str, peer: str) -> str:
        """A new session's cookie value for an unused login token; raises Refused (401, 429)."""
        digest, now_s = _digest(token), self._now()
        # No early exit: the time taken says nothing about which one matched.
        found = [login for login in self._logins if hmac.compare_digest(login.digest, digest)]
        if not found or found[0].ends_s < now_s:
            raise self._failed(peer, "This link was used already or has expired. Ask gridtide for a new one.")
        self._logins = [login for login in self._logins if login is not found[0]]
        session = secrets.token_urlsafe(32)
        self._sessions[_digest(session)] = Session(found[0].actor, now_s)
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session

    # --- requests let in --------------------------------------------------------------------------------------------
    def check_host(self, asked: Asked) -> None:
        """Raises Refused (403) unless Host is one of our names."""
        if asked.host.lower() not in self._hosts:
            raise Refused(403, f"Host {asked.host[:100]!r} is not a name of this site; allow it in the configuration.")

    def reader(self, asked: Asked) -> str:
        """Who reads; raises Refused (401, 403, 429)."""
        self.check_host(asked)
        actor = self._bearer(asked) or self._session(asked)
        if actor is None and self._is_local(asked):
            return "local"
        return self._known(actor)

    def writer(self, asked: Asked) -> str:
        """Who writes; raises Refused (401, 403, 429)."""
        self.check_host(asked)
        ours = f"{'https' if self.secure else 'http'}://{asked.host.lower()}"
        if asked.origin is not None and asked.origin.lower() != ours:
            raise Refused(403, f"Origin {asked.origin[:100]!r} is not this page ({ours}).")
        actor = self._bearer(asked)
        if actor is not None:
            return actor
        actor = self._known(self._session(asked))
        if asked.origin is None or not asked.marked:
            raise Refused(403, "A write with the session cookie needs our own Origin and the header X-Gridtide: 1.")
        return actor

    def has_session(self, asked: Asked) -> bool:
        """Whether the request carries a living session."""
        return self._session(asked) is not None

    def _is_local(self, asked: Asked) -> bool:
        return asked.host.lower() in self._local_hosts and is_loopback(asked.peer) and not asked.forwarded

    def _bearer(self, asked: Asked) -> str | None:
        if asked.authorization is None:
            return None
        scheme, _, token = asked.authorization.partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(_digest(token), self._token):
            return "api"
        raise self._failed(asked.peer, "The API token is wrong: use the one in the site's token file.")

    def _session(self, asked: Asked) -> str | None:
        if asked.session is None:
            return None
        # Looked up by digest: timing tells nothing about the secret.
        digest, now_s = _digest(asked.session), self._now()
        session = self._sessions.get(digest)
        if session is None:
            return None
        if now_s - session.used_s > SESSION_LIFE_S:
            del self._sessions[digest]
            return None
        session.used_s = now_s
        self._sessions.move_to_end(digest)
        return session.actor

    def _known(self, actor: str | None) -> str:
        if actor is None:
            raise Refused(401, "Not signed in: open the address that gridtide printed, or send the API token.")
        return actor

    def _failed(self, peer: str, message: str) -> Refused:
        """401, or 429 once there were too many. A right secret always passes: a flood of wrong ones (any foreign web page
        can cause one from this machine) must not keep people from the emergency stop; 256 bits are not guessed."""
        if self._failures.spend(peer):
            return Refused(401, message)
        return Refused(429, f"Too many failed logins; try again in {FAILURE_REFILL_S:.0f} s.")


def load_token(path: Path) -> str:
    """The API token in `path`, made there with mode 0600 if missing; raises CredentialError if others can read it."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(path, secrets.token_urlsafe(32).encode() + b"\n")
    owner = path.stat().st_uid
    if owner not in (os.geteuid(), 0):
        raise CredentialError(f"{path} belongs to user {owner}: give a token file of your own")
    token = read_secret(path).decode("utf-8", "replace").strip()
    if len(token) < 32 or not token.isascii():
        raise CredentialError(f"{path} holds no API token: remove it, and the site makes a new one at its next start")
    return token


def is_loopback(address: str) -> bool:
    """Whether `address` (no name) is this machine's own."""
    try:
        found = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)


def _with_port(names: Iterable[str], port: int, secure: bool) -> frozenset[str]:
    """Host values of `names` at `port`; browsers leave out the scheme's own port."""
    bare = port == (443 if secure else 80)
    return frozenset(f"{name.lower()}{end}" for name in names for end in ((f":{port}", "") if bare else (f":{port}",)))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
