"""Checks a station's certificate signing request before anybody signs it (use cases A02, A03)."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from gridtide.run.pki_make import PublicKey

MAX_CSR_CHARS = 5_500
"""OCPP's limit for `csr`."""
RSA_BITS = (2048, 8192)
"""At least 112 bit of strength (A00.FR.501), and not so long that checking a signature becomes an attack."""
EC_BITS = 224
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


class CsrError(ValueError):
    """A request that must not be signed; nothing was signed."""


class CsrUnreadableError(CsrError):
    """It is no PEM request, or too long."""


class CsrSignatureError(CsrError):
    """Its sender does not hold the key, or signed with a broken hash."""


class CsrSubjectError(CsrError):
    """It names another station or another operator."""


class CsrKeyError(CsrError):
    """Its key is too weak or of a kind OCPP does not use."""


def check_csr(csr_pem: str, serial: str, operator: str) -> PublicKey:
    """The key to certify, once the request is readable, signed by that key, strong enough, and names exactly the station's
    registered `serial` and its `operator`. Raises a `CsrError`."""
    if len(csr_pem) > MAX_CSR_CHARS:
        raise CsrUnreadableError(f"csr has {len(csr_pem)} characters: OCPP allows {MAX_CSR_CHARS}")
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        key, digest, subject = csr.public_key(), csr.signature_hash_algorithm, csr.subject
    except _UNREADABLE:
        raise CsrUnreadableError(
            "csr is no certificate signing request that can be read: send PEM text of PKCS #10"
        ) from None
    strong = _strong(key)
    try:
        genuine = csr.is_signature_valid
    except _UNREADABLE:
        genuine = False
    if not genuine or digest is None or isinstance(digest, hashes.MD5 | hashes.SHA1):
        raise CsrSignatureError("csr is not signed by its own key with SHA-2: sign it with the new private key")
    _same(subject, NameOID.COMMON_NAME, serial, "common name", "the station's serial number")
    _same(subject, NameOID.ORGANIZATION_NAME, operator, "organisation", "the operator")
    return strong


def _strong(key: object) -> PublicKey:
    if isinstance(key, rsa.RSAPublicKey):
        if RSA_BITS[0] <= key.key_size <= RSA_BITS[1]:
            return key
        raise CsrKeyError(f"csr holds an RSA key of {key.key_size} bit: use {RSA_BITS[0]} to {RSA_BITS[1]}")
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.key_size >= EC_BITS:
            return key
        raise CsrKeyError(f"csr holds an elliptic-curve key of {key.key_size} bit: use {EC_BITS} or more, as P-256")
    raise CsrKeyError("csr holds a key of another kind: use RSA or ECDSA")


def _same(subject: x509.Name, oid: x509.ObjectIdentifier, wanted: str, field: str, what: str) -> None:
    found = [attribute.value for attribute in subject.get_attributes_for_oid(oid)]
    if not wanted or found != [wanted]:
        told = ", ".join(repr(value)[:60] for value in found[:3]) or "missing"
        raise CsrSubjectError(f"csr: {field} is {told}: it must be {what}, {wanted!r}, once")
