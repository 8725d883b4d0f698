"""What the small PKI keeps in its index, and the names it gives to subjects and files."""

import ipaddress
import re
from typing import Literal
from urllib.parse import quote

from cryptography import x509
from msgspec import Struct

Kind = Literal["root", "server", "station"]
_HOST = re.compile(r"(?=.{1,64}\Z)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")


class Issued(Struct, frozen=True, kw_only=True):
    """One certificate."""

    number: str
    """Serial number of the certificate, hexadecimal."""
    subject: str
    """Common name: a root's name, a server's, or a station's serial number."""
    kind: Kind
    root: str
    """Which root signed it."""
    file: str
    """Where it lies, relative to the folder."""
    not_after_s: float
    revoked_at_s: float | None = None

    def status(self, now_s: float) -> Literal["valid", "revoked", "expired"]:
        """Whether it may be used."""
        if self.revoked_at_s is not None:
            return "revoked"
        return "expired" if self.not_after_s <= now_s else "valid"

    def days_left(self, now_s: float) -> float:
        """Days until it expires."""
        return (self.not_after_s - now_s) / 86_400.0


class Index(Struct):
    """Everything that was issued."""

    operator: str
    server: tuple[str, ...]
    """Names of the server that was made first."""
    issued: list[Issued]
    crl_number: int = 0


def check_host_name(name: str) -> None:
    """Raise ValueError unless `name` is a host name (64 characters at most, a common name's limit) or an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        if not _HOST.fullmatch(name):
            raise ValueError(
                f"name is {name[:70]!r}: give a host name of letters, digits, - and ., or an address"
            ) from None


def check_text(text: str, field: str) -> None:
    """Raise ValueError unless `text` can be a name in a certificate."""
    if not (1 <= len(text) <= 64 and text.isascii() and text.isprintable() and text == text.strip()):
        raise ValueError(f"{field} is {text[:70]!r}: give 1 to 64 printable ASCII characters")


def issued_of(certificate: x509.Certificate, subject: str, kind: Kind, root: str, file: str) -> Issued:
    """The index entry of a new certificate."""
    return Issued(
        number=f"{certificate.serial_number:x}", subject=subject, kind=kind, root=root, file=file,
        not_after_s=certificate.not_valid_after_utc.timestamp(),
    )  # fmt: skip


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names a server certificate was made for, the common name first."""
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return tuple(str(name.value) for name in held)


def server_file(name: str, kind: str) -> str:
    """Where a server's certificate of this kind lies, relative to the folder."""
    return f"servers/{quote(name, safe='')}-{kind}.pem"


def station_file(serial: str, ending: str) -> str:
    """Where a station's file with this ending lies, relative to the folder."""
    # The prefix keeps names such as ".." from being any but a file's.
    return f"stations/station-{quote(serial, safe='')}.{ending}"
