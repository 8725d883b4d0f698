"""Requests to sign, contract certificates and revocation: signed only what is right, accepted only what will be signed."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from gridtide.run.csms import certificates
from gridtide.run.csms.contracts import contract_status
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.generated import v21
from tests.day.csms_kit import OPERATOR, Answering, Kit
from tests.day.wire_site import START_S, on_wire

BOTH: tuple[Version, ...] = ("2.0.1", "2.1")
KEY = ec.generate_private_key(ec.SECP256R1())
WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)
ACCEPTED = {"status": "Accepted"}


def name(common: str, organisation: str = OPERATOR) -> x509.Name:
    made = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    return x509.Name([*made, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)])


def csr(common: str = "SN-1", organisation: str = OPERATOR, key: Any = KEY) -> str:
    made = x509.CertificateSigningRequestBuilder().subject_name(name(common, organisation)).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def forged() -> str:
    """A request whose signature belongs to another text."""
    good = x509.load_pem_x509_csr(csr().encode()).public_bytes(serialization.Encoding.DER)
    bad = good[:-1] + bytes([good[-1] ^ 1])
    text = base64.encodebytes(bad).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


def connected(kit: Kit) -> list[tuple[str, str]]:
    """A signer, and what it was asked to sign: serial number and kind."""
    signed: list[tuple[str, str]] = []

    def sign(_csr: str, serial: str, kind: str) -> str:
        signed.append((serial, kind))
        return "chain of " + serial

    kit.certificates.connect(sign, OPERATOR)
    return signed


async def settled(kit: Kit) -> None:
    await asyncio.sleep(0.5)
    await kit.certificates.effects.idle()


def delivered(raw: Answering) -> list[Any]:
    return [payload for action, payload in raw.heard if action == "CertificateSigned"]


@pytest.mark.parametrize("version", BOTH)
@pytest.mark.parametrize("kind", [None, "ChargingStationCertificate", "V2GCertificate"])
def test_a_right_request_is_signed_and_the_chain_delivered(version: Version, kind: str | None) -> None:
    async def scenario() -> None:
        kit = Kit(version)
        signed = connected(kit)
        raw = await kit.station(CertificateSigned=ACCEPTED)
        fields: dict[str, Any] = {"csr": csr()} | ({"certificateType": kind} if kind else {})
        fields |= {"requestId": 42} if version == "2.1" else {}
        assert await raw.ask("SignCertificate", **fields) == {"status": "Accepted"}
        await settled(kit)
        assert signed == [("SN-1", kind or certificates.COMBINED)]
        (told,) = delivered(raw)
        assert told["certificateChain"] == "chain of SN-1"
        assert told.get("certificateType") == kind
        assert told.get("requestId") == (42 if version == "2.1" else None)
        assert kit.records("signing")[kind or certificates.COMBINED] == {"state": "accepted"}
        assert kit.journal("certificate")[0]["what"] == "accepted"
        assert "took its new certificate" in kit.texts()

    on_wire(scenario)


@pytest.mark.parametrize(
    ("request_text", "reason"),
    [
        ("no request at all", "InvalidCSR"),
        (csr("SN-2"), "InvalidCSR"),
        (csr("bay-1"), "InvalidCSR"),
        (csr(organisation="Somebody Else"), "InvalidCSR"),
        (csr(key=WEAK), "InvalidCSR"),
        (forged(), "InvalidCSR"),
        (csr()[:-80], "InvalidCSR"),
    ],
)
def test_a_wrong_request_is_rejected_with_a_reason_and_signed_by_nobody(request_text: str, reason: str) -> None:
    async def scenario() -> None:
        kit = Kit()
        signed = connected(kit)
        raw = await kit.station()
        told = await raw.ask("SignCertificate", csr=request_text)
        assert (told["status"], told["statusInfo"]["reasonCode"]) == ("Rejected", reason)
        await settled(kit)
        assert signed == []
        assert delivered(raw) == []
        assert kit.journal("certificate")[0]["what"] == "not signed"
        assert "was not signed" in kit.texts()

    on_wire(scenario)


@pytest.mark.parametrize("why", ["nobody", "not this kind", "fails", "too long", "silent"])
def test_no_request_is_accepted_that_is_then_not_signed(why: str) -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    def sign(_csr: str, _serial: str, _kind: str) -> Any:
        if why == "fails":
            raise ValueError("the root is out of order")
        return {"not this kind": None, "too long": "x" * 10_001}.get(why, never() if why == "silent" else None)

    async def scenario() -> None:
        kit = Kit()
        if why != "nobody":
            kit.certificates.connect(sign, OPERATOR)
        raw = await kit.station()
        told = await raw.ask("SignCertificate", csr=csr())
        assert (told["status"], told["statusInfo"]["reasonCode"]) == ("Rejected", "NotSigned")
        assert delivered(raw) == []

    on_wire(scenario)


def test_requests_are_looked_at_at_a_bounded_rate_and_one_at_a_time() -> None:
    async def scenario() -> None:
        kit = Kit()
        signed = connected(kit)
        raw = await kit.station()
        raw.answers = False

        async def ask() -> Any:
            told = await raw.ask("SignCertificate", csr=csr())
            return told.get("statusInfo", {}).get("reasonCode", told["status"])

        assert await ask() == "Accepted"
        assert await ask() == "Busy", "the certificate is on its way"
        await kit.clock.sleep(certificates.OPEN_S + 1.0)
        assert await ask() == "Accepted"
        raw.link.drop()
        await settled(kit)
        again = await kit.station(CertificateSigned=ACCEPTED)
        assert (await again.ask("SignCertificate", csr="bad"))["statusInfo"]["reasonCode"] == "TooOften"
        await kit.clock.sleep(certificates.EVERY_S)
        assert (await again.ask("SignCertificate", csr=csr()))["status"] == "Accepted"
        assert len(signed) == 3

    on_wire(scenario)


@pytest.mark.parametrize("rounds", range(0, 24, 2))
def test_a_connection_that_ends_at_any_moment_keeps_no_station_from_its_certificate(rounds: int) -> None:
    async def scenario() -> None:
        kit = Kit()

        async def sign(_csr: str, serial: str, _kind: str) -> str:
            for _ in range(4):
                await asyncio.sleep(0)
            return "chain of " + serial

        kit.certificates.connect(sign, OPERATOR)
        raw = await kit.station()
        raw.answers = False
        asking = asyncio.ensure_future(raw.call("SignCertificate", {"csr": csr()}))
        for _ in range(rounds):
            await asyncio.sleep(0)
        raw.link.drop()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await kit.clock.sleep(certificates.EVERY_S + 1.0)
        again = await kit.station(CertificateSigned=ACCEPTED)
        assert (await again.ask("SignCertificate", csr=csr()))["status"] == "Accepted"
        await settled(kit)
        assert len(delivered(again)) == 1
        assert kit.records("signing")[certificates.COMBINED] == {"state": "accepted"}

    on_wire(scenario)


def test_a_station_that_refuses_its_certificate_keeps_the_old_one_and_people_are_told() -> None:
    async def scenario() -> None:
        kit = Kit()
        connected(kit)
        raw = await kit.station(CertificateSigned={"status": "Rejected"})
        await raw.ask("SignCertificate", csr=csr())
        await settled(kit)
        assert kit.records("signing")[certificates.COMBINED] == {"state": "refused"}
        assert "keeps the old one" in kit.texts()

    on_wire(scenario)


# --- ISO 15118 and revocation: honest defaults ------------------------------------------------------------------------
HASH = {"hashAlgorithm": "SHA256", "issuerNameHash": "n", "issuerKeyHash": "k", "serialNumber": "1"}


def test_what_nobody_can_answer_has_failed() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        ev = {"iso15118SchemaVersion": "urn:iso", "action": "Install", "exiRequest": "AA"}
        told = await raw.ask("Get15118EVCertificate", **ev)
        assert (told["status"], told["exiResponse"]) == ("Failed", "")
        told = await raw.ask("GetCertificateStatus", ocspRequestData={**HASH, "responderURL": "http://127.0.0.1/"})
        assert told["status"] == "Failed"
        assert "ocspResult" not in told
        asked = [{"certificateHashData": HASH, "source": "OCSP", "urls": ["http://127.0.0.1/"]}]
        told = await raw.ask("GetCertificateChainStatus", certificateStatusRequests=asked)
        assert told["certificateStatus"][0]["status"] == "Failed"
        assert told["certificateStatus"][0]["certificateHashData"] == HASH

    on_wire(scenario)


@pytest.mark.parametrize("fails", [False, True])
def test_connected_ports_answer_and_a_port_that_fails_has_failed(fails: bool) -> None:
    async def ocsp(question: dict[str, Any]) -> str | None:
        if fails:
            raise OSError("no route")
        return "base64 of " + str(question["serialNumber"])

    async def chain(question: dict[str, Any]) -> tuple[str, float] | None:
        return None if fails else ("Good", START_S + 3600.0)

    async def contract(question: dict[str, Any]) -> dict[str, Any] | None:
        return None if fails else {"status": "Accepted", "exiResponse": "BB"}

    async def scenario() -> None:
        kit = Kit()
        kit.certificates.ocsp, kit.certificates.chain, kit.certificates.ev_certificate = ocsp, chain, contract
        raw = await kit.station()
        told = await raw.ask("GetCertificateStatus", ocspRequestData={**HASH, "responderURL": "http://x/"})
        assert told.get("ocspResult") == (None if fails else "base64 of 1")
        asked = [{"certificateHashData": HASH, "source": "CRL", "urls": ["http://x/"]}]
        (one,) = (await raw.ask("GetCertificateChainStatus", certificateStatusRequests=asked))["certificateStatus"]
        assert one["status"] == ("Failed" if fails else "Good")
        ev = {"iso15118SchemaVersion": "urn:iso", "action": "Install", "exiRequest": "AA"}
        assert (await raw.ask("Get15118EVCertificate", **ev))["status"] == ("Failed" if fails else "Accepted")

    on_wire(scenario)


def test_installed_certificates_are_known_from_answers() -> None:
    async def scenario() -> None:
        kit = Kit()
        listed = [{"certificateType": "CSMSRootCertificate", "certificateHashData": HASH}]
        await kit.station(
            GetInstalledCertificateIds={"status": "Accepted", "certificateHashDataChain": listed},
            DeleteCertificate=ACCEPTED, InstallCertificate=ACCEPTED,
        )  # fmt: skip
        await kit.operate("GetInstalledCertificateIds")
        assert set(kit.records("installed_certificate")) == {"k/1"}
        await kit.operate("DeleteCertificate", certificateHashData=HASH)
        assert kit.records("installed_certificate") == {}
        await kit.operate("InstallCertificate", certificateType="CSMSRootCertificate", certificate="pem")
        assert [entry["what"] for entry in kit.journal("certificate")] == ["install", "delete"]

    on_wire(scenario)


# --- contract certificates --------------------------------------------------------------------------------------------
def contract(common: str = "DEXXX123456789", days: float = 30.0) -> str:
    now = datetime.fromtimestamp(START_S, UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name(common))
        .issuer_name(name("some CA"))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .sign(KEY, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def authorize(certificate: str | None = None, hashes_too: bool = False) -> v21.AuthorizeRequest:
    token = v21.IdTokenType(idToken="DE-XXX-123456789", type="eMAID")
    data = v21.OCSPRequestDataType(**HASH, responderURL="http://x/") if hashes_too else None  # type: ignore[arg-type]
    return v21.AuthorizeRequest(
        idToken=token, certificate=certificate, iso15118CertificateHashData=(data,) if data else None
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (authorize(), (None, True)),
        (authorize("not a certificate"), ("CertChainError", False)),
        (authorize(contract(days=-1.0)), ("CertificateExpired", False)),
        (authorize(contract("DEYYY123456789")), ("CertChainError", False)),
        (authorize(contract()), ("CertChainError", False)),
        (authorize(hashes_too=True), ("NoCertificateAvailable", False)),
    ],
)
def test_a_contract_nobody_has_checked_is_never_accepted(
    message: v21.AuthorizeRequest, expected: tuple[str | None, bool]
) -> None:
    assert contract_status(message, START_S) == expected


def test_a_judge_decides_about_a_contract_that_is_sound_in_itself() -> None:
    assert contract_status(authorize(contract()), START_S, lambda _m: "Accepted") == ("Accepted", True)
    assert contract_status(authorize(contract()), START_S, lambda _m: "CertificateRevoked") == (
        "CertificateRevoked",
        False,
    )
    assert contract_status(authorize(contract(days=-1.0)), START_S, lambda _m: "Accepted")[1] is False
