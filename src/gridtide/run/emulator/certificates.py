"""Blocks A and M: the station's own key and certificate, the trusted roots, and questions about certificates."""

from collections.abc import Iterable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.device_model import DeviceModel
from gridtide.run.emulator.trust import chain_fault, hash_data, parse_chain

MAX_CERTIFICATES = 20
_SIGNED_AS = {
    "SignChargingStationCertificate": "ChargingStationCertificate", "SignV2GCertificate": "V2GCertificate",
    "SignV2G20Certificate": "V2G20Certificate", "SignCombinedCertificate": None,
}  # fmt: skip
"""TriggerMessage -> certificateType; the combined certificate leaves it out."""


class Certificates:
    """Installed roots by type, and what the station proves itself with."""

    def __init__(self, core: Core, model: DeviceModel) -> None:
        self._core, self._model = core, model
        self.roots: list[tuple[str, x509.Certificate]] = []
        self.own: dict[str, tuple[x509.Certificate, ...]] = {}
        """The station's chains by certificateType, leaf first."""
        self._key: ec.EllipticCurvePrivateKey | None = None
        self._asked: dict[str, tuple[ec.EllipticCurvePrivateKey, int | None]] = {}
        """Open requests by certificateType: key and requestId."""
        model.live("SecurityCtrlr", "CertificateEntries", lambda: str(len(self.roots)))

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        return {
            "InstallCertificate": self.install,
            "GetInstalledCertificateIds": self.get_ids,
            "DeleteCertificate": self.delete,
            "CertificateSigned": self.signed,
        }

    # --- trusted roots ----------------------------------------------------------------------------------------------
    def install(self, message: Any) -> Fields:
        """M05."""
        chain = parse_chain(message.certificate)
        if chain is None or len(chain) != 1:
            return status("Rejected", "InvalidCertificate")
        if chain_fault(chain, (), self._core.now()) == "expired":
            return status("Rejected", "CertificateExpired")
        entry = (message.certificateType, chain[0])
        if entry not in self.roots:
            if len(self.roots) >= MAX_CERTIFICATES:
                return status("Failed", "TooManyCertificates")
            self.roots.append(entry)
            self._core.security_event("ReconfigurationOfSecurityParameters", f"installed {message.certificateType}")
        return status("Accepted")

    def get_ids(self, message: Any) -> Fields:
        """M03."""
        wanted = message.certificateType
        chains: list[Fields] = [
            {"certificateType": kind, "certificateHashData": hash_data(root, root)}
            for kind, root in self.roots
            if wanted is None or kind in wanted
        ]
        v2g = self.own.get("V2GCertificate")
        if v2g and (wanted is None or "V2GCertificateChain" in wanted):
            issuers = (*v2g[1:], v2g[-1])
            hashed = [hash_data(one, issuer) for one, issuer in zip(v2g, issuers, strict=True)]
            told: Fields = {"certificateType": "V2GCertificateChain", "certificateHashData": hashed[0]}
            chains.append(told | ({"childCertificateHashData": hashed[1:5]} if hashed[1:] else {}))
        return {"status": "Accepted", "certificateHashDataChain": chains} if chains else status("NotFound")

    def delete(self, message: Any) -> Fields:
        """M04: never the certificate the station proves itself with."""
        wanted = message.certificateHashData
        if any(_same(wanted, chain[0], chain[min(1, len(chain) - 1)]) for chain in self.own.values()):
            return status("Failed", "InUse")
        found = [entry for entry in self.roots if _same(wanted, entry[1], entry[1])]
        if not found:
            return status("NotFound")
        self.roots = [entry for entry in self.roots if entry not in found]
        return status("Accepted")

    def trusted(self, kinds: Iterable[str]) -> list[x509.Certificate]:
        """The installed roots of some types."""
        wanted = tuple(kinds)
        return [root for kind, root in self.roots if kind in wanted]

    # --- its own certificate ----------------------------------------------------------------------------------------
    def sign(self, trigger: str = "SignChargingStationCertificate", tries: int = 0) -> bool:
        """SignCertificate with a real request for a fresh key: the common name is the serial number (A02, A03)."""
        kind = _SIGNED_AS[trigger]
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, self._core.serial),
             x509.NameAttribute(NameOID.ORGANIZATION_NAME, self._model.value("SecurityCtrlr", "OrganizationName"))]
        )  # fmt: skip
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        fields: Fields = {"csr": request.public_bytes(serialization.Encoding.PEM).decode()}
        number = self._core.number() if self._core.version == "2.1" else None
        fields |= ({} if kind is None else {"certificateType": kind}) | (
            {} if number is None else {"requestId": number}
        )
        self._asked[kind or "ChargingStationCertificate"] = (key, number)
        self._core.say("SignCertificate", fields, lambda answer: self._wait(trigger, tries, key, answer), asked=True)
        return True

    def _wait(self, trigger: str, tries: int, key: ec.EllipticCurvePrivateKey, answer: Any) -> None:
        """Ask again, later each time, if no certificate comes (A02.FR.17-19)."""
        if answer is None or answer.status != "Accepted" or tries >= self._number("CertSigningRepeatTimes"):
            return

        def again() -> None:
            if any(asked is key for asked, _ in self._asked.values()):
                self.sign(trigger, tries + 1)

        self._core.later(self._number("CertSigningWaitMinimum") * 2.0**tries, again)

    def _number(self, name: str) -> int:
        return self._model.number("SecurityCtrlr", name)

    def signed(self, message: Any) -> Fields:
        """A02: taken only if it was asked for, fits the key, names this station, and chains to a trusted root."""
        kind = message.certificateType or "ChargingStationCertificate"
        asked = self._asked.get(kind)
        if asked is None or getattr(message, "requestId", None) not in (None, asked[1]):
            return status("Rejected", "NotRequested")
        chain = parse_chain(message.certificateChain)
        fault = "InvalidCertificate" if chain is None else self._fault(chain, asked[0], kind)
        if chain is None or fault is not None:
            self._core.security_event("InvalidChargingStationCertificate", fault or "")
            return status("Rejected", fault or "InvalidCertificate")
        del self._asked[kind]
        self.own[kind], self._key = chain, asked[0]
        self._core.security_event("ReconfigurationOfSecurityParameters", f"new {kind}")
        return status("Accepted")

    def _fault(self, chain: tuple[x509.Certificate, ...], key: ec.EllipticCurvePrivateKey, kind: str) -> str | None:
        leaf = chain[0]
        if leaf.public_key() != key.public_key():
            return "KeyMismatch"
        names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if not names or names[0].value != self._core.serial:
            return "WrongCommonName"
        roots = self.trusted(("V2GRootCertificate",) if kind.startswith("V2G") else ("CSMSRootCertificate",))
        fault = chain_fault(chain, roots, self._core.now())
        return None if fault is None else "CertChainError" if fault == "untrusted" else "InvalidCertificate"

    # --- questions --------------------------------------------------------------------------------------------------
    def ask_contract(self, exi: str, action: str = "Install", schema: str = "urn:iso:15118:2:2013:MsgDef") -> None:
        """Get15118EVCertificate for the plugged vehicle (M01, M02)."""
        fields = {"iso15118SchemaVersion": schema, "action": action, "exiRequest": exi}
        self._core.say("Get15118EVCertificate", fields)

    def ask_status(self, certificate: x509.Certificate, issuer: x509.Certificate, url: str) -> None:
        """GetCertificateStatus: the CSMS asks the OCSP responder (M06)."""
        self._core.say(
            "GetCertificateStatus", {"ocspRequestData": {**hash_data(certificate, issuer), "responderURL": url}}
        )

    def ask_chain_status(self, chain: Iterable[tuple[x509.Certificate, x509.Certificate]], url: str) -> None:
        """GetCertificateChainStatus (2.1, M07)."""
        asked = [{"certificateHashData": hash_data(one, by), "source": "OCSP", "urls": [url]} for one, by in chain]
        self._core.say("GetCertificateChainStatus", {"certificateStatusRequests": asked})


def _same(wanted: Any, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    have = hash_data(certificate, issuer, wanted.hashAlgorithm)
    return all(
        have[name].lower() == getattr(wanted, name).lower()
        for name in ("issuerNameHash", "issuerKeyHash", "serialNumber")
    )
