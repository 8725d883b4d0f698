"""Who may come in by name: API tokens and users, kept with their roles in `access.json`, a 0600 file in the home folder.

Only salted digests are kept. A token is random with 256 bit, so one SHA-256 is enough; it reads `name~secret`. A password goes
through scrypt. The file may be changed by another process at any time; whoever uses it next sees the change.
"""

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import structlog
from msgspec import Meta, Struct, structs

from gridtide.app.web.roles import Role
from gridtide.run.credentials import CredentialError, read_secret, write_secret

log = structlog.get_logger(__name__)
FILE = "access.json"
PASSWORD_CHARS = (12, 200)
MAX_ENTRIES = 1000
RESERVED = frozenset({"api", "page", "local", "gridtide", "system", "site", "anyone"})
"""Names the audit log uses for others than people."""
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 3
"""32 MiB and a quarter of a second a try; as strong as OWASP's password storage cheat sheet asks for scrypt."""
_SCRYPT_BYTES = 64 * 2**20
_NAME = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Kind = Literal["token", "user"]
Signature = tuple[int, int, int, int, int]


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One token or user."""

    name: Annotated[str, Meta(pattern=_NAME)]
    role: Role
    kind: Kind
    created_s: float
    """UTC epoch seconds."""
    salt: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}, {self.role}>"


class _Kept(Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    entries: tuple[Entry, ...]


_NOBODY = Entry(name="", role="viewer", kind="user", created_s=0.0, salt="00" * 16, digest="")
"""Stands in for an unknown name, so that it costs as much as a known one."""


class AccessFile:
    """The entries of one file. Changes block for the file and, for passwords, for scrypt: call them in a thread."""

    def __init__(self, path: Path, changed: Callable[[str], None] | None = None) -> None:
        """`changed` is told, in a line each, what another process changed in the file meanwhile."""
        self.path = path
        self._changed = changed
        self._lock = threading.Lock()
        self._seen: Signature | None = None
        self._entries: dict[str, Entry] | None = None

    # --- asked at every request: one stat ---------------------------------------------------------------------------
    def find(self, name: str) -> Entry | None:
        """The entry of that name as the file has it now. A file that must not be trusted lets nobody in, and the log says so."""
        told: tuple[str, ...] = ()
        with self._lock:
            seen = _signature(self.path)
            if seen != self._seen or self._entries is None:
                told = self._take_in(seen)
            found = (self._entries or {}).get(name)
        if self._changed is not None:
            for line in told:
                self._changed(line)
        return found

    def by_token(self, token: str) -> Entry | None:
        """The entry a token belongs to."""
        name, _, secret = token.partition("~")
        entry = self.find(name) or _NOBODY
        right = hmac.compare_digest(_hashed(secret, entry.salt), entry.digest)
        return entry if right and entry.kind == "token" else None

    def by_password(self, name: str, password: str) -> Entry | None:
        """The user with that password. Takes as long for an unknown name; slow on purpose."""
        entry = self.find(name) or _NOBODY
        right = hmac.compare_digest(_stretched(password[: PASSWORD_CHARS[1] + 1], entry.salt), entry.digest)
        return entry if right and entry.kind == "user" else None

    def _take_in(self, seen: Signature | None) -> tuple[str, ...]:
        """Read the file; what is different from before, none the first time."""
        before = self._entries
        try:
            now = {entry.name: entry for entry in self.load()}
        except (CredentialError, OSError) as error:
            log.error("access_file_refused", error=str(error))
            now = {}
        self._seen, self._entries = seen, now
        return () if before is None else tuple(_differences(before, now))

    # --- for people -------------------------------------------------------------------------------------------------
    def load(self) -> tuple[Entry, ...]:
        """All entries; raises CredentialError for a file that must not be used."""
        try:
            owner = self.path.stat().st_uid
        except FileNotFoundError:
            return ()
        if owner not in (os.geteuid(), 0):
            raise CredentialError(f"{self.path} belongs to user {owner}: remove it, and add the people anew")
        try:
            kept = msgspec.json.decode(read_secret(self.path), type=_Kept)
        except msgspec.DecodeError as error:
            raise CredentialError(
                f"{self.path} is damaged ({error}): restore it, or remove it and start anew"
            ) from None
        return kept.entries

    def add_token(self, name: str, role: Role, now_s: float) -> str:
        """A new API token, told this once; raises ValueError for a name that is bad or taken."""
        secret = secrets.token_urlsafe(32)
        salt = secrets.token_hex(16)
        self._add(Entry(name=name, role=role, kind="token", created_s=now_s, salt=salt, digest=_hashed(secret, salt)))
        return f"{name}~{secret}"

    def add_user(self, name: str, role: Role, password: str, now_s: float) -> None:
        """A new user; raises ValueError for a name that is bad or taken, or a password that is too short."""
        _check_name(name)
        salt, digest = _secured(name, password)
        self._add(Entry(name=name, role=role, kind="user", created_s=now_s, salt=salt, digest=digest))

    def set_password(self, name: str, password: str) -> None:
        """Another password; sessions under the old one end. Raises KeyError, ValueError."""
        salt, digest = _secured(name, password)
        with self._changing() as entries:
            entry = _known(entries, name)
            if entry.kind != "user":
                raise ValueError(f"{name} is a token and has no password: remove it and add a new one")
            entries[name] = structs.replace(entry, salt=salt, digest=digest)

    def set_role(self, name: str, role: Role) -> None:
        """Another role, in force from the next request; raises KeyError."""
        with self._changing() as entries:
            entries[name] = structs.replace(_known(entries, name), role=role)

    def remove(self, name: str) -> None:
        """Out from the next request on; raises KeyError."""
        with self._changing() as entries:
            del entries[_known(entries, name).name]

    def _add(self, entry: Entry) -> None:
        _check_name(entry.name)
        with self._changing() as entries:
            if entry.name in entries:
                raise ValueError(f"name is {entry.name!r}: there is such a {entries[entry.name].kind}; remove it first")
            if len(entries) >= MAX_ENTRIES:
                raise ValueError(f"{self.path} holds {MAX_ENTRIES} entries: remove some first")
            entries[entry.name] = entry

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Entry]]:
        """The entries to change; written when the block ends well. One change at a time, over all processes."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.find("")  # what others changed is told before our own change, which whoever asks for it tells
            entries = {entry.name: entry for entry in self.load()}
            yield entries
            write_secret(self.path, msgspec.json.format(msgspec.json.encode(_Kept(1, tuple(entries.values())))) + b"\n")
            with self._lock:
                self._seen, self._entries = _signature(self.path), entries
        finally:
            os.close(lock)


def _signature(path: Path) -> Signature | None:
    """Differs whenever the file was replaced, written or opened up to others; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode, found.st_uid)


def _differences(before: dict[str, Entry], now: dict[str, Entry]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if new is None:
            yield f"{name} was removed"
        elif old is None:
            yield f"{new.kind} {name} was added as {new.role}"
        elif old.role != new.role:
            yield f"{name} is {new.role} now, was {old.role}"
        elif old != new:
            yield f"{name} has another secret"


def _known(entries: dict[str, Entry], name: str) -> Entry:
    if name not in entries:
        raise KeyError(f"there is no token or user {name[:64]!r}: see gridtide users list")
    return entries[name]


def _check_name(name: str) -> None:
    if not re.fullmatch(_NAME, name):
        raise ValueError(
            f"name is {name[:80]!r}: give 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit"
        )
    if name.lower() in RESERVED:
        raise ValueError(f"name is {name!r}: gridtide uses it itself in the audit log; choose another")


def _secured(name: str, password: str) -> tuple[str, str]:
    """(salt, digest) of a password that is long enough; the message never holds it."""
    low, high = PASSWORD_CHARS
    if not low <= len(password) <= high:
        raise ValueError(f"the password of {name} has {len(password)} characters: give {low} to {high}")
    salt = secrets.token_hex(16)
    return salt, _stretched(password, salt)


def _hashed(secret: str, salt: str) -> str:
    return hashlib.sha256(f"{salt}:{secret}".encode("utf-8", "surrogatepass")).hexdigest()


def _stretched(password: str, salt: str) -> str:
    """scrypt (RFC 7914) of the password as typed on any keyboard (NFKC)."""
    data = unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(
        data, salt=bytes.fromhex(salt), n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=_SCRYPT_BYTES, dklen=32
    ).hex()
