"""Station passwords: generated with 128 bit and more, kept salted and hashed in a 0600 file, compared in constant time."""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

PASSWORD_CHARS = (16, 40)
"""Length of an OCPP BasicAuthPassword."""


class CredentialError(ValueError):
    """A credential file that must not be used; the message names the cure."""


class _Entry(Struct, frozen=True):
    salt: str
    digest: str


class Credentials:
    """Who may connect. Cheap hashing is right here: every password is random and long."""

    def __init__(self, entries: dict[str, _Entry] | None = None) -> None:
        self._entries = entries or {}
        # An unknown identity costs the same comparison as a known one.
        self._nobody = _entry(secrets.token_urlsafe(24))

    def issue(self, identity: str) -> str:
        """Make, remember (hashed) and return a new password for `identity`."""
        password = secrets.token_urlsafe(24)
        self._entries[identity] = _entry(password)
        return password

    def take(self, identity: str, password: str) -> None:
        """Remember (hashed) a password that an operator chose; raises CredentialError when it is too short or too long."""
        low, high = PASSWORD_CHARS
        if not low <= len(password) <= high:
            raise CredentialError(
                f"the password of {identity} has {len(password)} characters: OCPP asks for {low} to {high}"
            )
        self._entries[identity] = _entry(password)

    def known(self, identity: str) -> bool:
        """Whether the identity is provisioned."""
        return identity in self._entries

    def accepts(self, identity: str, password: str) -> bool:
        """Whether `password` belongs to `identity`."""
        entry = self._entries.get(identity, self._nobody)
        right = hmac.compare_digest(_digest(entry.salt, password), entry.digest)
        return right and identity in self._entries

    def save(self, path: Path) -> None:
        """Write the hashes to `path` with mode 0600, atomically."""
        write_secret(path, msgspec.json.encode(self._entries))

    @classmethod
    def load(cls, path: Path) -> "Credentials":
        """Read `path`; raises CredentialError when others may read it or it is damaged."""
        data = read_secret(path)
        try:
            return cls(msgspec.json.decode(data, type=dict[str, _Entry]))
        except msgspec.DecodeError as error:
            raise CredentialError(
                f"{path} is damaged ({error}): restore it or remove it to issue new passwords"
            ) from None


def _entry(password: str) -> _Entry:
    salt = secrets.token_hex(16)
    return _Entry(salt, _digest(salt, password))


def _digest(salt: str, password: str) -> str:
    return hashlib.sha256(f"{salt}:{password}".encode()).hexdigest()


def write_secret(path: Path, data: bytes) -> None:
    """Write `data` to a file only its owner can read, replacing what was there in one step."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
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


def read_basic(header: str | None) -> tuple[str, str] | None:
    """(identity, password) of an Authorization header; None when it is missing or malformed."""
    if header is None or not header.startswith("Basic ") or len(header) > 512:
        return None
    try:
        text = base64.b64decode(header[6:], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    identity, colon, password = text.partition(":")
    return (identity, password) if colon and identity else None


def provision(path: Path, identities: Iterable[str], chosen: Mapping[str, str] | None = None) -> dict[str, str]:
    """Passwords for identities that have none yet are issued and returned; `chosen` ones are taken. Hashes are kept in `path`."""
    kept = Credentials.load(path) if path.exists() else Credentials()
    for name, password in (chosen or {}).items():
        if not kept.accepts(name, password):
            kept.take(name, password)
    issued = {name: kept.issue(name) for name in identities if not kept.known(name)}
    kept.save(path)
    return issued
