"""Certificates as bytes and rules: chains read, their faults, OCPP's hash data, and signatures of images."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

MAX_CHAIN = 6


def parse_chain(pem: str) -> tuple[x509.Certificate, ...] | None:
    """The certificates of a PEM text, in its order; None if it is none."""
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
        # Reading a broken name or key fails only when it is looked at.
        for certificate in found:
            certificate.public_key()
            certificate.subject.rfc4514_string()
    except (ValueError, TypeError):
        return None
    return tuple(found) if 1 <= len(found) <= MAX_CHAIN else None


def chain_fault(chain: tuple[x509.Certificate, ...], roots: Iterable[x509.Certificate], now: datetime) -> str | None:
    """`expired`, `broken`, `untrusted`, or None. Without any root the chain needs no anchor: none was given to the station."""
    if any(not c.not_valid_before_utc <= now <= c.not_valid_after_utc for c in chain):
        return "expired"
    if any(not _issued(child, parent) for child, parent in pairwise(chain)):
        return "broken"
    anchors = list(roots)
    last = chain[-1]
    if anchors and not any(last == root or _issued(last, root) for root in anchors):
        return "untrusted"
    return None


def _issued(child: x509.Certificate, parent: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(parent)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def hash_data(certificate: x509.Certificate, issuer: x509.Certificate, algorithm: str = "SHA256") -> dict[str, str]:
    """CertificateHashDataType: issuer's name and key as RFC 6960 hashes them, and the serial number in hexadecimal."""
    name = certificate.issuer.public_bytes()
    key = issuer.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {
        "hashAlgorithm": algorithm, "issuerNameHash": hashlib.new(algorithm.lower(), name).hexdigest(),
        "issuerKeyHash": hashlib.new(algorithm.lower(), _bit_string(key)).hexdigest(),
        "serialNumber": f"{certificate.serial_number:x}",
    }  # fmt: skip


def _bit_string(public_key_info: bytes) -> bytes:
    """The key bits inside a DER SubjectPublicKeyInfo: SEQUENCE { algorithm SEQUENCE, BIT STRING }."""
    _, start = _header(public_key_info, 0)
    length, inner = _header(public_key_info, start)
    _, bits = _header(public_key_info, inner + length)
    return public_key_info[bits + 1 :]  # the first byte counts unused bits


def _header(data: bytes, at: int) -> tuple[int, int]:
    """(length, place of the content) of the DER value at `at`."""
    first = data[at + 1]
    if first < 0x80:
        return first, at + 2
    size = first & 0x7F
    return int.from_bytes(data[at + 2 : at + 2 + size], "big"), at + 2 + size


def is_signed_by(certificate: x509.Certificate, signature: str, image: bytes) -> bool:
    """Whether `signature` (base64, over SHA-256) of `image` was made with the certificate's key: ECDSA, RSA-PSS, RSA."""
    try:
        data = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _verifies(lambda: key.verify(data, image, ec.ECDSA(hashes.SHA256())))
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)
    old = padding.PKCS1v15()
    return _verifies(lambda: key.verify(data, image, pss, hashes.SHA256())) or _verifies(
        lambda: key.verify(data, image, old, hashes.SHA256())
    )


def _verifies(check: Callable[[], None]) -> bool:
    try:
        check()
    except InvalidSignature:
        return False
    return True
