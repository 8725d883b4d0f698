"""How passwords are kept: salted SHA-256 for generated ones of 192 bit, scrypt for those that people chose; and which new ones a
station was offered in place of the one in force."""

import hashlib
import hmac
import secrets
from typing import Literal

from msgspec import Struct

SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 1
"""16 MiB and some 40 ms a guess (RFC 7914)."""
Scheme = Literal["sha256", "scrypt"]


class PasswordHash(Struct, frozen=True, omit_defaults=True):
    """One password, as it is kept."""

    salt: str
    digest: str
    scheme: Scheme = "sha256"

    def __repr__(self) -> str:
        return f"<{self.scheme}>"

    def matches(self, password: str) -> bool:
        """Whether this is the hash of `password`; scrypt takes its time."""
        return hmac.compare_digest(digest_of(self.scheme, self.salt, password).encode(), self.digest.encode())


class PasswordEntry(PasswordHash, frozen=True, omit_defaults=True):
    """The password in force, and what was offered to replace it."""

    offered: tuple[PasswordHash, ...] = ()
    accepted: bool = False
    """The station accepted the newest of `offered`."""
    entered: bool = False
    """The station logged in with the newest of `offered`."""

    def __repr__(self) -> str:
        return f"<{self.scheme}, {len(self.offered)} offered>"

    def settled(self) -> "PasswordEntry":
        """The newest offered password alone once the station accepted it and logged in with it (A01.FR.03, FR.04)."""
        if not (self.accepted and self.entered):
            return self
        newest = self.offered[-1]
        return PasswordEntry(newest.salt, newest.digest, newest.scheme)


def hashed(password: str, scheme: Scheme = "sha256") -> PasswordEntry:
    """The password under a new salt."""
    salt = secrets.token_hex(16)
    return PasswordEntry(salt, digest_of(scheme, salt, password), scheme)


def digest_of(scheme: str, salt: str, password: str) -> str:
    """Hexadecimal digest; scrypt takes tens of milliseconds."""
    if scheme == "scrypt":
        raw = password.encode(errors="surrogatepass")
        return hashlib.scrypt(raw, salt=salt.encode(), n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=2**26).hex()
    return hashlib.sha256(f"{salt}:{password}".encode(errors="surrogatepass")).hexdigest()
