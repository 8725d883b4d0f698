"""Builds the certificates and revocation lists of the small PKI, as OCPP wants them (A00.FR.501-511). Nothing is kept here."""

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
ROOT_DAYS, CRL_DAYS = 3650.0, 397.0
BACKDATED_S = 3600.0
"""A station's clock may be behind ours."""


class Signer(Struct, frozen=True, eq=False):
    """A root and its key."""

    certificate: x509.Certificate
    key: PrivateKey


def ecdsa_key() -> PrivateKey:
    """A new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def rsa_key(bits: int) -> PrivateKey:
    """A new RSA key."""
    return rsa.generate_private_key(65537, bits)


def make_root(name: str, operator: str, key: PrivateKey, now_s: float) -> Signer:
    """A root that may sign end certificates and revocation lists, and no further authority."""
    subject = _subject(name, operator)
    builder = _builder(subject, subject, key.public_key(), now_s, ROOT_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
    builder = builder.add_extension(_usage(sign_certificates=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Signer(builder.sign(key, hashes.SHA256()), key)


def make_server(
    names: tuple[str, ...], operator: str, key: PrivateKey, by: Signer, now_s: float, days: float
) -> x509.Certificate:
    """A server's certificate; its common name is the first of `names` (FR.510), all of them and loopback are alternatives."""
    builder = _end(_subject(names[0], operator), key.public_key(), by, now_s, days)
    wanted = dict.fromkeys([*names, "localhost", "127.0.0.1", "::1"])
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in wanted]), critical=False)
    # Without key encipherment the RSA key exchange of the conformance suites is not allowed.
    builder = builder.add_extension(_usage(encipher=isinstance(key, rsa.RSAPrivateKey)), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(by.key, hashes.SHA256())


def make_station(serial: str, operator: str, key: PublicKey, by: Signer, now_s: float, days: float) -> x509.Certificate:
    """A station's certificate: common name = serial number of the station (FR.405, FR.511), organisation = operator."""
    builder = _end(_subject(serial, operator), key, by, now_s, days)
    builder = builder.add_extension(_usage(), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    return builder.sign(by.key, hashes.SHA256())


def make_crl(by: Signer, revoked: Iterable[tuple[int, float]], number: int, now_s: float) -> bytes:
    """The root's revocation list as PEM, of (certificate number, UTC epoch seconds of its revocation)."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(by.certificate.subject)
    builder = builder.last_update(_at(now_s)).next_update(_at(now_s) + timedelta(days=CRL_DAYS))
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for certificate, at_s in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate).revocation_date(_at(at_s)).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(by.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def key_pem(key: PrivateKey) -> bytes:
    """A private key as unencrypted PEM: the file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def _end(subject: x509.Name, key: PublicKey, by: Signer, now_s: float, days: float) -> x509.CertificateBuilder:
    builder = _builder(subject, by.certificate.subject, key, now_s, days)
    builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    root = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())
    return builder.add_extension(root, critical=False)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, now_s: float, days: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_at(now_s - BACKDATED_S))
        .not_valid_after(_at(now_s) + timedelta(days=days))
    )


def _subject(name: str, operator: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, operator), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, sign_certificates: bool = False, encipher: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates, content_commitment=False, key_encipherment=encipher,
        data_encipherment=False, key_agreement=False, key_cert_sign=sign_certificates, crl_sign=sign_certificates,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _at(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(int(epoch_s), UTC)
