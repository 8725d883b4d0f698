"""TLS towards the stations: two server certificates, exactly the suites OCPP allows, certificates of stations checked against
our roots and revocation lists (A00.FR.314-321, FR.417-421, FR.501-511)."""

import asyncio.sslproto
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from msgspec import Struct, structs

from gridtide.run.credentials import CredentialError
from gridtide.run.doors import TlsVersion

FORWARD = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"
"""TLS 1.2 suites that are offered where 1.2 is allowed at all."""
CONFORMANCE = FORWARD + ":AES128-GCM-SHA256:AES256-GCM-SHA384"
"""With the two RSA suites that OCPP demands too; they have no forward secrecy."""
SECURITY_LEVEL = "@SECLEVEL=2"
"""OpenSSL's level for keys of at least 112 bit (FR.501), whatever the machine's default is."""
SSL_BUFFER_BYTES = 16 * 1024
"""A TLS record. asyncio's 256 KiB for each connection would cost 290 KiB a station instead of 55."""


class KeyPair(Struct, frozen=True):
    """A server certificate with its chain, and its key."""

    certificate: Path
    key: Path | None = None
    """None: in the same file."""

    @property
    def secret(self) -> Path:
        """The file that holds the key."""
        return self.key or self.certificate


class TlsSettings(Struct, frozen=True, kw_only=True):
    """Files and rules of the TLS side."""

    pairs: tuple[KeyPair, ...]
    """One ECDSA and one RSA server certificate; one alone serves fewer stations."""
    station_roots: tuple[Path, ...] = ()
    """Who signs the stations' certificates; none: no station can prove itself by one (profile 3)."""
    crls: tuple[Path, ...] = ()
    """Revocation lists of these roots."""
    operator: str = ""
    """Organisation that a station's certificate must name; empty: any that our roots signed."""
    minimum: TlsVersion = "1.3"
    """The lowest of all stations' own minima."""
    conformance: bool = False
    """Also offer the two RSA suites, on TLS 1.2."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that is named."""
        pairs = [path for pair in self.pairs for path in (pair.certificate, pair.secret)]
        return tuple(dict.fromkeys([*pairs, *self.station_roots, *self.crls]))


class PeerCertificate(Struct, frozen=True):
    """What a verified client certificate says."""

    serial: str
    """Common name: the station's serial number. Empty unless there is exactly one."""
    operator: str
    """Organisation. Empty unless there is exactly one."""
    number: int
    """Serial number of the certificate itself."""
    not_after_s: float
    """UTC epoch seconds."""


class Expiry(Struct, frozen=True):
    """How long a certificate, or a revocation list, is still good."""

    subject: str
    days_left: float
    """Negative once over."""

    @property
    def alarm_days(self) -> int | None:
        """The alarm threshold that is reached: 1, 7 or 30 days; None with more time left."""
        return next((days for days in (1, 7, 30) if self.days_left <= days), None)


class StationTls:
    """The listening side's TLS. `context` lives as long as the listener; `reload` puts renewed files into it."""

    def __init__(self, settings: TlsSettings) -> None:
        """Raises CredentialError when a file is missing, damaged, readable by others or too weak."""
        asyncio.sslproto.SSLProtocol.max_size = SSL_BUFFER_BYTES
        self.settings = settings
        self.revoked: frozenset[int] = frozenset()
        """Numbers of revoked client certificates."""
        self.context = _context(settings)
        self.reload()

    def reload(self) -> None:
        """Read all files again: new connections get the new certificates and lists. Raises CredentialError, and then nothing
        has changed. A root that is no longer named stays trusted until the program starts again."""
        check_pairs(self.settings.pairs)
        revoked = _revoked(self.settings)
        _load(_context(self.settings), self.settings)
        _load(self.context, self.settings)
        self.revoked = revoked

    def set_minimum(self, minimum: TlsVersion) -> None:
        """Offer TLS 1.2, or no longer, from the next connection on: when a station is registered for it, or the last one left."""
        self.settings = structs.replace(self.settings, minimum=minimum)
        self.context.minimum_version = _lowest(self.settings)

    def expiries(self, now_s: float) -> list[Expiry]:
        """Days left of the server's certificates, the stations' roots and their revocation lists."""
        found = [
            expiry_of(certificate, now_s)
            for path in (*(pair.certificate for pair in self.settings.pairs), *self.settings.station_roots)
            for certificate in read_certificates(path)
        ]
        for path in self.settings.crls:
            until = _read_crl(path).next_update_utc
            if until is not None:
                found.append(Expiry(f"revocation list {path.name}", (until.timestamp() - now_s) / 86_400.0))
        return found


def peer_certificate(found: dict[str, Any] | None) -> PeerCertificate | None:
    """What `SSLObject.getpeercert()` tells of a verified client certificate; None where there is none."""
    if not found:
        return None
    names: dict[str, list[str]] = {}
    for part in found.get("subject", ()):
        for key, value in part:
            names.setdefault(key, []).append(value)
    return PeerCertificate(
        serial=_only(names.get("commonName")),
        operator=_only(names.get("organizationName")),
        number=int(found["serialNumber"], 16),
        not_after_s=float(ssl.cert_time_to_seconds(found["notAfter"])),
    )


def check_secret_file(path: Path) -> None:
    """Raise CredentialError unless only the owner can read this key and enter its folder."""
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode & 0o777
    except OSError as error:
        raise CredentialError(f"{path}: {error.strerror}; make it with `gridtide pki init`, or name another") from None
    if mode & 0o077:
        raise CredentialError(f"{path} has mode {mode:04o}: others can read this key; run `chmod 600 {path}`")
    check_secret_folder(real.parent)


def check_secret_folder(folder: Path) -> None:
    """Raise CredentialError unless only the owner can enter this folder of keys."""
    mode = folder.stat().st_mode & 0o777
    if mode & 0o077:
        raise CredentialError(
            f"{folder} has mode {mode:04o}: others can enter this folder of keys; run `chmod 700 {folder}`"
        )


def check_pairs(pairs: tuple[KeyPair, ...]) -> None:
    """Raise CredentialError unless the pairs are at most one ECDSA and one RSA certificate of enough strength, kept safely."""
    if not pairs:
        raise CredentialError("no server certificate is named: make a pair with `gridtide pki init`")
    kinds = []
    for pair in pairs:
        check_secret_file(pair.secret)
        key = read_certificates(pair.certificate)[0].public_key()
        kinds.append(type(key).__name__)
        strong = (isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048) or (
            isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= 224
        )
        if not strong:
            raise CredentialError(f"{pair.certificate}: the key is too weak or of a kind OCPP does not use: "
                                  "make RSA of 2048 bit or more, or ECDSA of 224 or more")  # fmt: skip
    if len(set(kinds)) != len(kinds):
        raise CredentialError(
            f"{pairs[0].certificate} and {pairs[1].certificate} hold keys of the same kind: name one ECDSA and one RSA"
        )


def read_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates in a PEM file, at least one; raises CredentialError."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise CredentialError(f"{path}: {error.strerror}; name a PEM file with a certificate") from None
    except ValueError:
        raise CredentialError(f"{path} holds no readable certificate: give PEM text") from None


def expiry_of(certificate: x509.Certificate, now_s: float) -> Expiry:
    """Days left of one certificate."""
    days = (certificate.not_valid_after_utc.timestamp() - now_s) / 86_400.0
    return Expiry(certificate.subject.rfc4514_string(), days)


def _context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _lowest(settings)
    context.set_ciphers(f"{CONFORMANCE if settings.conformance else FORWARD}:{SECURITY_LEVEL}")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    # A resumed session would carry a certificate that nobody verified anew.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_OPTIONAL if settings.station_roots else ssl.CERT_NONE
    return context


def _lowest(settings: TlsSettings) -> ssl.TLSVersion:
    old = settings.minimum == "1.2" or settings.conformance
    return ssl.TLSVersion.TLSv1_2 if old else ssl.TLSVersion.TLSv1_3


def _load(context: ssl.SSLContext, settings: TlsSettings) -> None:
    for pair in settings.pairs:
        try:
            # An empty password: a key with one must end in an error, not in a question on the terminal.
            context.load_cert_chain(pair.certificate, pair.key, password="")
        except (ssl.SSLError, OSError) as error:
            raise CredentialError(f"{pair.certificate} and {pair.secret}: {error.strerror or error}; name a certificate and its "
                                  "own key, unencrypted, as PEM") from None  # fmt: skip
    for path in settings.station_roots:
        read_certificates(path)
        context.load_verify_locations(path)


def _revoked(settings: TlsSettings) -> frozenset[int]:
    """Numbers on the lists; each list must be signed by one of the roots."""
    roots = [root for path in settings.station_roots for root in read_certificates(path)]
    numbers: set[int] = set()
    for path in settings.crls:
        crl = _read_crl(path)
        if not any(root.subject == crl.issuer and _signed(crl, root) for root in roots):
            raise CredentialError(f"{path} is not signed by a root of the stations: name the list of that root")
        numbers.update(entry.serial_number for entry in crl)
    return frozenset(numbers)


def _signed(crl: x509.CertificateRevocationList, root: x509.Certificate) -> bool:
    key = root.public_key()
    return isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)


def _read_crl(path: Path) -> x509.CertificateRevocationList:
    try:
        return x509.load_pem_x509_crl(path.read_bytes())
    except OSError as error:
        raise CredentialError(f"{path}: {error.strerror}; name a PEM revocation list") from None
    except ValueError:
        raise CredentialError(f"{path} holds no readable revocation list: give PEM text") from None


def _only(values: list[str] | None) -> str:
    return values[0] if values is not None and len(values) == 1 else ""
