"""Who may read and who may write: API tokens, users, one-time login links, session cookies, roles, Host and Origin.

A viewer's reads are open to this machine's own browser (loopback address under a loopback name, no proxy in between);
everything else needs the session cookie or `Authorization: Bearer <token>`, and a role that covers the route's need. A cookie
write also needs our own Origin and the header `X-Gridtide: 1`, which no foreign page can send; a WebSocket with an Origin
needs ours. Every request must name us in Host (against DNS rebinding). The token file, and the login links printed for
whoever starts the site, are admin; `people.AccessFile` knows everyone else.
Only digests of secrets are kept in memory, and they are compared in constant time.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import math
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct

from gridtide.app.web.failures import FAILURE_REFILL_S, FailureBudget
from gridtide.app.web.people import AccessFile, Entry
from gridtide.app.web.roles import Actor, Need, covers
from gridtide.run.credentials import CredentialError, read_secret, write_secret

COOKIE = "gridtide_session"
LOGIN_LIFE_S = 600.0
SESSION_LIFE_S = 30 * 86_400.0
"""A session ends this long after its last use."""
MAX_LOGINS, MAX_SESSIONS = 16, 64
MAX_CHECKS = 8
"""Password logins under way; they are checked one by one."""
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

    actor: Actor
    used_s: float
    entry: Entry | None = None
    """The user as of the login; None after a login link."""


class Login(Struct, frozen=True):
    """One unused login link."""

    digest: bytes
    actor: str
    ends_s: float


class Access:
    """The doorkeeper of one web server. `now` is a monotonic clock in seconds."""

    def __init__(
        self,
        token: str,
        port: int,
        now: Callable[[], float],
        *,
        names: tuple[str, ...] = (),
        secure: bool = False,
        people: AccessFile | None = None,
    ) -> None:
        """`port`: the one users connect to; `names`: further allowed Host values, `name` or `name:port`;
        `secure`: users come by TLS (here or at a proxy), so cookies are Secure and Origin is https.
        """
        self.secure, self.people, self._now = secure, people, now
        self._token = _digest(token)
        self._local_hosts = _with_port(LOOPBACK_NAMES, port, secure)
        self._hosts = self._local_hosts | _with_port(names, port, secure) | {name.lower() for name in names}
        self._logins: list[Login] = []
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._failures = FailureBudget(now)
        # One worker: a flood of logins costs one core at most, and none of the event loop's time.
        self._checker, self._checks = ThreadPoolExecutor(1, "password"), 0

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
        return self._begin(Session(Actor(found[0].actor, "admin"), now_s))

    async def enter(self, asked: Asked, name: str, password: str) -> str:
        """A new session's cookie value for a user's password; raises Refused (401, 403, 429).

        Unlike random secrets passwords can be guessed: an address that failed too often is not even listened to.
        """
        if not self.secure and not is_loopback(asked.peer):
            raise Refused(403, "Passwords travel by HTTPS only: give the site a certificate, or come through a tunnel.")
        if self._checks >= MAX_CHECKS or not self._failures.spend(asked.peer):
            raise _too_many()
        self._checks += 1
        try:
            entry = await asyncio.get_running_loop().run_in_executor(self._checker, self._user, name, password)
        finally:
            self._checks -= 1
        if entry is None:
            raise Refused(401, "Name or password is wrong.")
        self._failures.give_back(asked.peer)
        return self._begin(Session(Actor(entry.name, entry.role), self._now(), entry))

    def leave(self, asked: Asked) -> bool:
        """End the request's session; False if it had none."""
        return asked.session is not None and self._sessions.pop(_digest(asked.session), None) is not None

    def _user(self, name: str, password: str) -> Entry | None:
        return None if self.people is None else self.people.by_password(name, password)

    def _begin(self, session: Session) -> str:
        secret = secrets.token_urlsafe(32)
        self._sessions[_digest(secret)] = session
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return secret

    # --- requests let in --------------------------------------------------------------------------------------------
    def check_host(self, asked: Asked) -> None:
        """Raises Refused (403) unless Host is one of our names."""
        if asked.host.lower() not in self._hosts:
            raise Refused(403, f"Host {asked.host[:100]!r} is not a name of this site; allow it in the configuration.")

    def reader(self, asked: Asked, need: Need = "viewer") -> Actor:
        """Who reads; raises Refused (401, 403, 429)."""
        self.check_host(asked)
        actor = self._bearer(asked) or self._session(asked)
        if actor is None and self._is_local(asked) and covers("viewer", need):
            return Actor("local", "viewer")
        return _enough(_known(actor), need)

    def listener(self, asked: Asked, need: Need = "viewer") -> Actor:
        """Who listens on a WebSocket; raises Refused (401, 403, 429). Browsers let any page open one, so Origin decides."""
        self.check_host(asked)
        self._check_origin(asked, required=asked.session is not None and asked.authorization is None)
        return self.reader(asked, need)

    def writer(self, asked: Asked, need: Need = "operator") -> Actor:
        """Who writes; raises Refused (401, 403, 429)."""
        self.check_host(asked)
        self._check_origin(asked, required=False)
        actor = self._bearer(asked)
        if actor is None:
            actor = _known(self._session(asked))
            if asked.origin is None or not asked.marked:
                raise Refused(403, "A write with the session cookie needs our own Origin and the header X-Gridtide: 1.")
        return _enough(actor, need)

    def visitor(self, asked: Asked, *, writes: bool) -> None:
        """Anyone; raises Refused (403) for a foreign Host, and for a write that does not come from our own page."""
        self.check_host(asked)
        if writes:
            self._check_origin(asked, required=True)

    def has_session(self, asked: Asked) -> bool:
        """Whether the request carries a living session."""
        return self._session(asked) is not None

    def _is_local(self, asked: Asked) -> bool:
        return asked.host.lower() in self._local_hosts and is_loopback(asked.peer) and not asked.forwarded

    def _check_origin(self, asked: Asked, required: bool) -> None:
        ours = f"{'https' if self.secure else 'http'}://{asked.host.lower()}"
        if asked.origin is None and not required:
            return
        if asked.origin is None or asked.origin.lower() != ours:
            raise Refused(403, f"Origin {(asked.origin or 'null')[:100]!r} is not this page ({ours}).")

    def _bearer(self, asked: Asked) -> Actor | None:
        if asked.authorization is None:
            return None
        scheme, _, token = asked.authorization.partition(" ")
        if scheme.lower() == "bearer":
            if hmac.compare_digest(_digest(token), self._token):
                return Actor("api", "admin")
            entry = None if self.people is None else self.people.by_token(token)
            if entry is not None:
                return Actor(entry.name, entry.role)
        raise self._failed(asked.peer, "The API token is wrong: use one that this site gave out, or its token file.")

    def _session(self, asked: Asked) -> Actor | None:
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
        if session.entry is not None:
            user = None if self.people is None else self.people.find(session.entry.name)
            if user is None or user.kind != "user" or user.digest != session.entry.digest:
                del self._sessions[digest]
                return None
            session.actor = Actor(user.name, user.role)
        session.used_s = now_s
        self._sessions.move_to_end(digest)
        return session.actor

    def _failed(self, peer: str, message: str) -> Refused:
        """401, or 429 once there were too many. A right secret always passes: a flood of wrong ones (any foreign web page
        can cause one from this machine) must not keep people from the emergency stop; 256 bits are not guessed."""
        if self._failures.spend(peer):
            return Refused(401, message)
        return _too_many()


def _known(actor: Actor | None) -> Actor:
    if actor is None:
        raise Refused(
            401, "Not signed in: open the address that gridtide printed, sign in at /login, or send an API token."
        )
    return actor


def _enough(actor: Actor, need: Need) -> Actor:
    if not covers(actor.role, need):
        raise Refused(403, f"This needs the role {need}; {actor.name} is {actor.role}.")
    return actor


def _too_many() -> Refused:
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
