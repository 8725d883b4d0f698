"""Station passwords: kept salted and hashed in a 0600 file, compared in constant time, changed without locking a station out.

Generated ones carry 192 bit, so one SHA-256 is enough. Those an operator chose are kept as scrypt, which takes tens of
milliseconds: in a running loop only `check` may be used, which runs it in one thread and remembers what was right.
"""

import asyncio
import base64
import binascii
import hmac
import os
import secrets
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import structs

from gridtide.run.password_hash import PasswordEntry, PasswordHash, hashed

PASSWORD_CHARS = (16, 40)
"""Length of an OCPP BasicAuthPassword."""
MAX_SLOW_CHECKS = 64
"""Logins with a chosen password that may wait for the thread; further ones are told to come back."""
MAX_OFFERED = 3
"""New passwords of one station whose answers may have been lost; any of them still opens the door."""
Rotation = Literal["none", "offered", "accepted", "entered"]


class CredentialError(ValueError):
    """A credential or key file that must not be used; the message names the cure."""


class TooBusyError(RuntimeError):
    """Too many chosen passwords wait to be checked."""


class Credentials:
    """Who may connect with a password. What changes is written at once where a file is bound (`load`, `save`): from a
    running loop call what changes in a thread."""

    def __init__(self, entries: dict[str, PasswordEntry] | None = None, path: Path | None = None) -> None:
        self._entries = entries or {}
        self._path = path
        self._lock = threading.RLock()
        # An unknown identity costs the same comparison as a known one.
        self._nobody = hashed(secrets.token_urlsafe(24))
        self._verified: dict[str, bytes] = {}
        self._verifier_key = secrets.token_bytes(32)
        self._waiting = 0
        self._thread: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        return f"Credentials({len(self._entries)} stations)"

    def issue(self, identity: str) -> str:
        """Make, remember (hashed) and return a new password for `identity`; the former one ends."""
        password = secrets.token_urlsafe(24)
        self._put(identity, hashed(password))
        return password

    def take(self, identity: str, password: str) -> None:
        """Remember (scrypt) a password that an operator chose; raises CredentialError when it does not fit OCPP's type."""
        low, high = PASSWORD_CHARS
        if not low <= len(password) <= high:
            raise CredentialError(
                f"the password of {identity} has {len(password)} characters: OCPP asks for {low} to {high}"
            )
        if not (password.isascii() and password.isprintable()):
            raise CredentialError(
                f"the password of {identity} holds characters other than printable ASCII: choose one without"
            )
        self._put(identity, hashed(password, "scrypt"))

    def remove(self, identity: str) -> bool:
        """Forget a station's password; False where there was none."""
        with self._lock:
            left = {name: entry for name, entry in self._entries.items() if name != identity}
            known = len(left) < len(self._entries)
            self._write(left)
            self._entries = left
            self._verified.pop(identity, None)
        return known

    def known(self, identity: str) -> bool:
        """Whether the identity has a password."""
        return identity in self._entries

    def accepts(self, identity: str, password: str) -> bool:
        """Whether `password` belongs to `identity`. May run scrypt: in a running loop use `check`."""
        quick = self.quick(identity, password)
        return self._slow(identity, password) if quick is None else quick

    def quick(self, identity: str, password: str) -> bool | None:
        """What can be told within microseconds: right, wrong, or None where only scrypt knows."""
        entry = self._entries.get(identity, self._nobody)
        if any(one.matches(password) for one in entry.offered):
            return True
        if entry.scheme == "sha256":
            return entry.matches(password) and identity in self._entries
        remembered = self._verified.get(identity)
        if remembered is not None and hmac.compare_digest(self._verifier(identity, password), remembered):
            return True
        return None

    async def check(self, identity: str, password: str) -> bool:
        """`accepts` for a running loop: scrypt runs in one thread. Raises TooBusyError when too many wait for it."""
        quick = self.quick(identity, password)
        if quick is not None:
            return quick
        if self._waiting >= MAX_SLOW_CHECKS:
            raise TooBusyError
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "scrypt")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._slow, identity, password)
        finally:
            self._waiting -= 1

    def rotate(self, identity: str) -> str:
        """Make a new password (use case A01). The old one stays valid until the station accepted the new one (`confirm`)
        and logged in with it (`entered`). Raises CredentialError for a station without a password."""
        password = secrets.token_urlsafe(24)
        fresh = hashed(password)
        with self._lock:
            entry = self._known(identity)
            offered = (*entry.offered, PasswordHash(fresh.salt, fresh.digest))[-MAX_OFFERED:]
            self._put(identity, structs.replace(entry, offered=offered, accepted=False, entered=False))
        return password

    def confirm(self, identity: str) -> None:
        """The station answered Accepted to its new password; raises CredentialError where none was offered."""
        with self._lock:
            entry = self._known(identity)
            if not entry.offered:
                raise CredentialError(f"{identity} was offered no new password: rotate it first")
            self._put(identity, structs.replace(entry, accepted=True).settled())

    def abandon(self, identity: str) -> None:
        """The station answered Rejected to its newest password, which ends; raises CredentialError if unknown."""
        with self._lock:
            entry = self._known(identity)
            self._put(identity, structs.replace(entry, offered=entry.offered[:-1], accepted=False, entered=False))

    def entered(self, identity: str, password: str) -> bool:
        """The station logged in with `password`. True where that changed something, which `store` then writes."""
        with self._lock:
            entry = self._entries.get(identity)
            if entry is None or not entry.offered or entry.entered or not entry.offered[-1].matches(password):
                return False
            self._entries[identity] = structs.replace(entry, entered=True).settled()
            self._verified.pop(identity, None)
        return True

    def rotation(self, identity: str) -> Rotation:
        """How far the change of a station's password is; raises CredentialError if unknown."""
        entry = self._known(identity)
        if not entry.offered:
            return "none"
        return "accepted" if entry.accepted else "entered" if entry.entered else "offered"

    def store(self) -> None:
        """Write to the bound file; nothing where there is none."""
        with self._lock:
            self._write(self._entries)

    def save(self, path: Path) -> None:
        """Write the hashes to `path` with mode 0600, atomically, and keep that file up to date from now on."""
        self._path = path
        self.store()

    @classmethod
    def load(cls, path: Path) -> "Credentials":
        """Read `path` and keep it up to date; raises CredentialError when others may read it or it is damaged."""
        return cls(_read(path), path)

    def _known(self, identity: str) -> PasswordEntry:
        entry = self._entries.get(identity)
        if entry is None:
            raise CredentialError(f"{identity[:48]!r} has no password: provision the station first")
        return entry

    def _put(self, identity: str, entry: PasswordEntry) -> None:
        """Written first: what cannot be written does not hold."""
        with self._lock:
            if self._path is not None:
                self._write({**self._entries, identity: entry})
            self._entries[identity] = entry
            self._verified.pop(identity, None)

    def _write(self, entries: dict[str, PasswordEntry]) -> None:
        if self._path is not None:
            write_secret(self._path, msgspec.json.encode(entries))

    def _slow(self, identity: str, password: str) -> bool:
        entry = self._entries.get(identity)
        if entry is None or not entry.matches(password):
            return False
        with self._lock:
            # Whoever changed the password meanwhile must not find the old one remembered.
            if self._entries.get(identity) is entry:
                self._verified[identity] = self._verifier(identity, password)
        return True

    def _verifier(self, identity: str, password: str) -> bytes:
        return hmac.digest(self._verifier_key, f"{identity}\0{password}".encode(errors="surrogatepass"), "sha256")


def _read(path: Path) -> dict[str, PasswordEntry]:
    data = read_secret(path)
    try:
        return msgspec.json.decode(data, type=dict[str, PasswordEntry])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CredentialError(f"{path} is damaged ({error}): restore it or remove it to issue new passwords") from None


def write_secret(path: Path, data: bytes) -> None:
    """Write `data` to a file only its owner can read, replacing what was there in one step, and down to the disk."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def read_secret(path: Path) -> bytes:
    """Read a secret file; raises CredentialError unless its mode is 0600 (or stricter)."""
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise CredentialError(f"{path} has mode {mode:04o}: others can read it; run `chmod 600 {path}`")
    return path.read_bytes()


def basic_header(identity: str, password: str) -> str:
    """Value of an HTTP Authorization header."""
    return "Basic " + base64.b64encode(f"{identity}:{password}".encode()).decode("ascii")


def basic_password(header: str | None, identity: str) -> str | None:
    """The password that an Authorization header gives for `identity`; None unless its user is exactly that.

    RFC 7617 forbids colons in user names, OCPP allows them in identities: so the identity says where the password begins.
    """
    text = _basic_text(header)
    if text is None or not identity or not text.startswith(f"{identity}:"):
        return None
    return text[len(identity) + 1 :]


def _basic_text(header: str | None) -> str | None:
    if header is None or header[:6].lower() != "basic " or len(header) > 512:
        return None
    try:
        return base64.b64decode(header[6:], validate=True).decode()
    except (binascii.Error, ValueError):  # not base64, not ASCII, not UTF-8
        return None


def provision(path: Path, identities: Iterable[str], chosen: Mapping[str, str] | None = None) -> dict[str, str]:
    """Passwords for identities that have none yet are issued and returned; `chosen` ones are taken. Hashes are kept in `path`."""
    kept = Credentials(_read(path) if path.exists() else None)
    for name, password in (chosen or {}).items():
        if not kept.accepts(name, password):
            kept.take(name, password)
    issued = {name: kept.issue(name) for name in identities if not kept.known(name)}
    kept.save(path)
    return issued
