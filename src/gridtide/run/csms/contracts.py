"""Contract certificates in Authorize (C07): their status as far as it can be told here; without a judge none is accepted."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

ContractStatus: TypeAlias = Literal[
    "Accepted",
    "SignatureError",
    "CertificateExpired",
    "CertificateRevoked",
    "NoCertificateAvailable",
    "CertChainError",
    "ContractCancelled",
]
ContractJudge: TypeAlias = Callable[[Any], ContractStatus]
"""Judges an Authorize message that holds a certificate or its hashes: chain up to a trusted root, revocation, contract."""


def contract_status(
    message: Any, now_s: float, judge: ContractJudge | None = None
) -> tuple[ContractStatus | None, bool]:
    """certificateStatus of an Authorize message at `now_s` (UTC epoch seconds), and whether its token may charge.

    (None, True) where it shows no certificate. What can be told from the certificate alone is told; a chain nobody has
    checked is never accepted, so that the token's idTokenInfo must say Invalid (C07.FR.05).
    """
    if not message.certificate and not message.iso15118CertificateHashData:
        return None, True
    if message.certificate:
        defect = _defect(message.certificate, message.idToken.idToken, now_s)
        if defect is not None:
            return defect, False
    if judge is None:
        return ("CertChainError" if message.certificate else "NoCertificateAvailable"), False
    status = judge(message)
    return status, status == "Accepted"


def _defect(chain_pem: str, emaid: str, now_s: float) -> ContractStatus | None:
    try:
        leaf = x509.load_pem_x509_certificates(chain_pem.encode())[0]
        names = [str(item.value) for item in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        begins_s, ends_s = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        return "CertChainError"
    if not begins_s <= now_s < ends_s:
        return "CertificateExpired"
    # An eMAID is written with or without its hyphens.
    if [_bare(name) for name in names] != [_bare(emaid)]:
        return "CertChainError"
    return None


def _bare(emaid: str) -> str:
    return emaid.replace("-", "").upper()
