"""The emulated station, blocks A, L to P and S: firmware, certificates, logs, monitors, streams, display, data, payments."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.events import SendReceived
from tests.day.raw_csms import TOKEN, RawCsms, vehicle, with_csms
from tests.day.wire_site import START_S

VERSIONS: list[Version] = ["2.1", "2.0.1"]
NOW = datetime.fromtimestamp(START_S, UTC)


# --- certificates for the tests ---------------------------------------------------------------------------------------
class Authority:
    """A certificate with its key that signs others."""

    def __init__(self, name: str, by: "Authority | None" = None, days: float = 100.0) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (by or self).sign(self.subject, self.key.public_key(), days)

    def sign(self, subject: x509.Name, key: Any, days: float = 100.0) -> x509.Certificate:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self.subject).public_key(key)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(NOW - timedelta(days=200))
        return made.not_valid_after(NOW + timedelta(days=days)).sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> str:
        return pem(self.certificate)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


ROOT, OTHER = Authority("root"), Authority("other")


async def install(here: RawCsms, authority: Authority, kind: str = "CSMSRootCertificate") -> str:
    return await here.status("InstallCertificate", {"certificateType": kind, "certificate": authority.pem})


# --- A, M -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", VERSIONS)
def test_roots_are_installed_listed_and_deleted_by_hash(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        assert await here.status("GetInstalledCertificateIds") == "NotFound"
        broken = {"certificateType": "CSMSRootCertificate", "certificate": "-----BEGIN CERTIFICATE-----\nAAAA"}
        assert await here.status("InstallCertificate", broken) == "Rejected"
        assert await install(here, Authority("old", days=-1.0)) == "Rejected"
        assert await install(here, ROOT) == "Accepted"
        assert await install(here, ROOT) == "Accepted", "twice is once"
        assert await install(here, OTHER, "V2GRootCertificate") == "Accepted"
        told = await here.ask("GetInstalledCertificateIds", {"certificateType": ["CSMSRootCertificate"]})
        (entry,) = told["certificateHashDataChain"]
        data = entry["certificateHashData"]
        spki = ROOT.key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        assert data == {
            "hashAlgorithm": "SHA256", "serialNumber": f"{ROOT.certificate.serial_number:x}",
            "issuerNameHash": hashlib.sha256(ROOT.certificate.issuer.public_bytes()).hexdigest(),
            "issuerKeyHash": hashlib.sha256(spki).hexdigest(),
        }  # fmt: skip
        wrong = data | {"serialNumber": "00"}
        assert await here.status("DeleteCertificate", {"certificateHashData": wrong}) == "NotFound"
        assert await here.status("DeleteCertificate", {"certificateHashData": data}) == "Accepted"
        assert await here.status("DeleteCertificate", {"certificateHashData": data}) == "NotFound"
        left = await here.ask("GetInstalledCertificateIds")
        assert [item["certificateType"] for item in left["certificateHashDataChain"]] == ["V2GRootCertificate"]

    with_csms(scenario, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_is_asked_for_and_taken_only_if_it_fits(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        await install(here, ROOT)
        chain = {"certificateChain": ROOT.pem, "certificateType": "ChargingStationCertificate"}
        assert await here.status("CertificateSigned", chain) == "Rejected", "nobody asked"
        await here.ask("TriggerMessage", {"requestedMessage": "SignChargingStationCertificate"})
        await here.after(1.0)
        asked = here.all("SignCertificate")[0]
        csr = x509.load_pem_x509_csr(asked["csr"].encode())
        assert csr.is_signature_valid
        assert csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "bay-1"

        async def signed(by: Authority, subject: x509.Name = csr.subject, key: Any = None, days: float = 90.0) -> str:
            leaf = by.sign(subject, key or csr.public_key(), days)
            more = {"requestId": asked["requestId"]} if version == "2.1" else {}
            return await here.status("CertificateSigned", chain | {"certificateChain": pem(leaf)} | more)

        assert await signed(OTHER) == "Rejected"
        assert await signed(ROOT, OTHER.subject) == "Rejected"
        assert await signed(ROOT, key=OTHER.key.public_key()) == "Rejected"
        assert await signed(ROOT, days=-1.0) == "Rejected"
        assert await signed(ROOT) == "Accepted"
        assert await signed(ROOT) == "Rejected", "it was asked for once"
        await here.after(1.0)
        kinds = [item["type"] for item in here.all("SecurityEventNotification")]
        assert kinds.count("InvalidChargingStationCertificate") == 4
        leaf = here.station.blocks.certificates.own["ChargingStationCertificate"][0]
        assert leaf.public_key() == csr.public_key()

    with_csms(scenario, version)


def test_a_certificate_that_does_not_come_is_asked_for_again() -> None:
    async def scenario(here: RawCsms) -> None:
        here.station.blocks.certificates.sign()
        await here.after(299.0)
        assert len(here.all("SignCertificate")) == 1
        await here.after(3000.0)
        assert len(here.all("SignCertificate")) == 4, "three times more, each later"

    with_csms(scenario)


def test_contract_and_status_questions_reach_the_csms() -> None:
    async def scenario(here: RawCsms) -> None:
        certificates = here.station.blocks.certificates
        certificates.ask_contract("exi-request")
        certificates.ask_status(ROOT.certificate, ROOT.certificate, "https://ocsp.example")
        certificates.ask_chain_status([(ROOT.certificate, ROOT.certificate)], "https://ocsp.example")
        await here.after(1.0)
        assert here.all("Get15118EVCertificate")[0]["exiRequest"] == "exi-request"
        assert here.all("GetCertificateStatus")[0]["ocspRequestData"]["responderURL"] == "https://ocsp.example"
        assert len(here.all("GetCertificateChainStatus")[0]["certificateStatusRequests"]) == 1

    with_csms(scenario)


# --- L ----------------------------------------------------------------------------------------------------------------
IMAGE = b"a firmware image"
MAKER = Authority("maker")
SIGNER = Authority("signer", MAKER)


def update(image: bytes = IMAGE, signer: Authority = SIGNER, signed: bytes = IMAGE, **more: Any) -> dict[str, Any]:
    location = "data:application/octet-stream;base64," + base64.b64encode(image).decode()
    signature = base64.b64encode(signer.key.sign(signed, ec.ECDSA(hashes.SHA256()))).decode()
    firmware = {
        "location": location, "retrieveDateTime": NOW.isoformat(), "signingCertificate": signer.pem, "signature": signature,
    }  # fmt: skip
    changed = {key: value for key, value in (firmware | more).items() if value is not None}
    return {"requestId": 1, "firmware": changed}


def firmware_states(here: RawCsms) -> list[str]:
    return [item["status"] for item in here.all("FirmwareStatusNotification")]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_signed_update_goes_through_all_its_states(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        await install(here, MAKER, "ManufacturerRootCertificate")
        await here.charging()
        assert await here.status("UpdateFirmware", update()) == "Accepted"
        await here.after(10.0)
        assert firmware_states(here) == ["Downloading", "Downloaded", "SignatureVerified", "InstallScheduled"]
        here.station.unplug()
        await here.after(10.0)
        assert firmware_states(here)[4:] == ["Installing", "InstallRebooting", "Installed"]
        assert here.all("BootNotification")[-1]["reason"] == "FirmwareUpdate"
        assert "FirmwareUpdated" in [item["type"] for item in here.all("SecurityEventNotification")]
        assert here.station.blocks.firmware.version == hashlib.sha256(IMAGE).hexdigest()[:12]

    with_csms(scenario, version)


@pytest.mark.parametrize(
    ("told", "wanted", "states", "event"),
    [
        (update(signature=None), "Rejected", [], None),
        (update(signingCertificate=None), "Rejected", [], None),
        (update(signer=OTHER), "InvalidCertificate", [], "InvalidFirmwareSigningCertificate"),
        (update(signed=b"another"), "Accepted", ["Downloading", "Downloaded", "InvalidSignature"], "InvalidFirmwareSignature"),
        (update(signature="???"), "Accepted", ["Downloading", "Downloaded", "InvalidSignature"], "InvalidFirmwareSignature"),
        (update(location="https://nowhere.example/x"), "Accepted", ["Downloading", "DownloadFailed"], None),
        (
            update(location="data:;base64,???") | {"retries": 1},
            "Accepted", ["Downloading", "DownloadFailed", "Downloading", "DownloadFailed"], None,
        ),
    ],
)  # fmt: skip
def test_an_update_that_is_not_right_changes_nothing(
    told: dict[str, Any], wanted: str, states: list[str], event: str | None
) -> None:
    async def scenario(here: RawCsms) -> None:
        await install(here, MAKER, "ManufacturerRootCertificate")
        assert await here.status("UpdateFirmware", told) == wanted
        await here.after(20.0)
        assert firmware_states(here) == states
        assert here.station.blocks.firmware.version == "1.0.0"
        events = [item["type"] for item in here.all("SecurityEventNotification")]
        assert event is None or event in events

    with_csms(scenario)


def test_without_a_makers_root_no_update_is_good() -> None:
    async def scenario(here: RawCsms) -> None:
        assert await here.status("UpdateFirmware", update()) == "InvalidCertificate"

    with_csms(scenario)


def test_a_newer_update_cancels_the_one_under_way() -> None:
    async def scenario(here: RawCsms) -> None:
        await install(here, MAKER, "ManufacturerRootCertificate")
        later = update(retrieveDateTime=(NOW + timedelta(hours=1)).isoformat())
        assert await here.status("UpdateFirmware", later) == "Accepted"
        await here.after(1.0)
        assert firmware_states(here) == ["DownloadScheduled"]
        assert await here.status("UpdateFirmware", update() | {"requestId": 2}) == "AcceptedCanceled"
        await here.after(4000.0)
        assert {item["requestId"] for item in here.all("FirmwareStatusNotification")[1:]} == {2}
        assert firmware_states(here)[-1] == "Installed"

    with_csms(scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_firmware_is_published_only_if_its_checksum_is_right(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        checksum = hashlib.md5(IMAGE).hexdigest()
        here.station.blocks.firmware.images["https://maker.example/1"] = IMAGE
        told = {"location": "https://maker.example/1", "checksum": checksum, "requestId": 4}

        async def states(wanted: dict[str, Any]) -> list[str]:
            here.heard.clear()
            assert await here.status("PublishFirmware", wanted) == "Accepted"
            assert await here.status("UnpublishFirmware", {"checksum": wanted["checksum"]}) == "DownloadOngoing"
            assert await here.status("PublishFirmware", wanted) == "Rejected"
            await here.after(5.0)
            return [item["status"] for item in here.all("PublishFirmwareStatusNotification")]

        assert await here.status("UnpublishFirmware", {"checksum": checksum}) == "NoFirmware"
        assert await states(told | {"checksum": "0" * 32}) == ["Downloading", "Downloaded", "InvalidChecksum"]
        assert await states(told | {"location": "https://nowhere.example"}) == ["Downloading", "DownloadFailed"]
        assert await states(told) == ["Downloading", "Downloaded", "ChecksumVerified", "Published"]
        assert await here.status("UnpublishFirmware", {"checksum": checksum}) == "Unpublished"

    with_csms(scenario, version)


# --- N: logs, customers -----------------------------------------------------------------------------------------------
def log(here: RawCsms, number: int = 1, location: str = "https://logs.example/x", **more: Any) -> dict[str, Any]:
    return {"logType": "SecurityLog", "requestId": number, "log": {"remoteLocation": location}, **more}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_log_is_uploaded_and_its_states_told(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        here.station.core.security_event("MemoryExhaustion", "rehearsed")
        assert await here.status("GetLog", log(here, location="file:///etc/passwd")) == "Rejected"
        told = await here.ask("GetLog", log(here))
        assert told["status"] == "Accepted"
        again = await here.ask("GetLog", log(here, 2))
        assert again["status"] == "AcceptedCanceled"
        await here.after(3.0)
        states = [(item["status"], item["requestId"]) for item in here.all("LogStatusNotification")]
        assert states[-2:] == [("Uploading", 2), ("Uploaded", 2)]
        assert ("AcceptedCanceled", 1) in states
        assert b"MemoryExhaustion rehearsed" in here.station.blocks.diagnostics.uploads[again["filename"]]
        assert told["filename"] not in here.station.blocks.diagnostics.uploads

    with_csms(scenario, version)


def test_an_upload_that_fails_is_tried_as_often_as_asked() -> None:
    async def scenario(here: RawCsms) -> None:
        here.station.blocks.diagnostics.upload = lambda _location, _name, _content: False
        await here.ask("GetLog", log(here, retries=2, retryInterval=3))
        await here.after(30.0)
        states = [item["status"] for item in here.all("LogStatusNotification")]
        assert states == ["Uploading", "UploadFailure"] * 3

    with_csms(scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_customer_information_is_told_and_forgotten(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        await here.charging()
        here.station.unplug()
        ask = {"requestId": 1, "report": True, "clear": True, "idToken": TOKEN}
        nobody = {key: value for key, value in ask.items() if key != "idToken"}
        assert await here.status("CustomerInformation", nobody) == "Invalid"
        assert await here.status("CustomerInformation", ask | {"customerIdentifier": "x"}) == "Invalid"
        assert await here.status("CustomerInformation", ask | {"report": False, "clear": False}) == "Rejected"
        assert await here.status("CustomerInformation", ask) == "Accepted"
        await here.after(1.0)
        assert "card-1" in here.all("NotifyCustomerInformation")[0]["data"]
        await here.status("CustomerInformation", ask)
        await here.after(1.0)
        assert here.all("NotifyCustomerInformation")[1]["data"] == ""

    with_csms(scenario, version)


# --- N: monitoring ----------------------------------------------------------------------------------------------------
HEAT: dict[str, Any] = {"component": {"name": "TemperatureSensor"}, "variable": {"name": "Temperature"}}
POWER: dict[str, Any] = {"component": {"name": "EVSE", "evse": {"id": 1}}, "variable": {"name": "Power"}}


async def monitor(here: RawCsms, *items: dict[str, Any]) -> list[tuple[str, int | None]]:
    told = await here.ask("SetVariableMonitoring", {"setMonitoringData": list(items)})
    return [(item["status"], item.get("id")) for item in told["setMonitoringResult"]]


def watch(where: dict[str, Any], kind: str, value: float, severity: int = 5, **more: Any) -> dict[str, Any]:
    return {"type": kind, "value": value, "severity": severity, **where, **more}


@pytest.mark.parametrize("version", VERSIONS)
def test_monitors_are_set_with_the_status_each_deserves(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        model = {"component": {"name": "ChargingStation"}, "variable": {"name": "Model"}}
        state = {"component": {"name": "ChargingStation"}, "variable": {"name": "AvailabilityState"}}
        assert await monitor(
            here, watch(HEAT, "UpperThreshold", 50.0), watch(HEAT, "UpperThreshold", 60.0), watch(POWER, "Delta", 1000.0),
            watch({"component": {"name": "X"}, "variable": {"name": "Y"}}, "Delta", 1.0),
            watch(HEAT | {"variable": {"name": "Y"}}, "Delta", 1.0), watch(model, "Delta", 1.0),
            watch(state, "UpperThreshold", 1.0), watch(HEAT, "Delta", 1.0, severity=10), watch(HEAT, "Delta", 1.0, id=77),
            watch(HEAT, "UpperThreshold", 55.0, id=3), watch(HEAT, "UpperThreshold", 55.0, id=1),
        ) == [
            ("Accepted", 3), ("Duplicate", None), ("Accepted", 4), ("UnknownComponent", None), ("UnknownVariable", None),
            ("UnsupportedMonitorType", None), ("UnsupportedMonitorType", None), ("Rejected", None), ("Rejected", None),
            ("Accepted", 3), ("Rejected", None),
        ]  # fmt: skip
        cleared = (await here.ask("ClearVariableMonitoring", {"id": [1, 3, 99]}))["clearMonitoringResult"]
        assert [item["status"] for item in cleared] == ["Rejected", "Accepted", "NotFound"]

    with_csms(scenario, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_threshold_is_told_when_crossed_both_ways_and_by_severity(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        await here.charging()
        await monitor(here, watch(HEAT, "UpperThreshold", 50.0), watch(POWER, "Delta", 2000.0, severity=8))

        async def events(kw: float, heat_c: float) -> list[tuple[str, str, bool]]:
            here.heard.clear()
            here.meter(kw, heat_c=heat_c)
            await here.after(1.0)
            found = [event for item in here.all("NotifyEvent") for event in item["eventData"]]
            return [(e["variable"]["name"], e["trigger"], e.get("cleared", False)) for e in found]

        assert await events(1.0, 49.0) == []
        assert await events(1.5, 51.0) == [("Temperature", "Alerting", False)]
        assert await events(1.5, 52.0) == []
        assert await events(2.5, 49.0) == [("Temperature", "Alerting", True), ("Power", "Delta", False)]
        assert await here.status("SetMonitoringLevel", {"severity": 11}) == "Rejected"
        assert await here.status("SetMonitoringLevel", {"severity": 6}) == "Accepted"
        assert await events(8.0, 49.0) == []

    with_csms(scenario, version)


def test_a_periodic_monitor_and_one_of_the_distance_to_a_target() -> None:
    async def scenario(here: RawCsms) -> None:
        await here.charging()
        await monitor(
            here,
            watch(HEAT, "Periodic", 10.0),
            watch(POWER, "TargetDelta", 1000.0),
            watch(POWER, "TargetDeltaRelative", 0.5),
        )
        here.heard.clear()
        assert here.station.power_wish_kw() == 4.0
        here.meter(4.0)
        await here.after(31.0)
        told = [event for item in here.all("NotifyEvent") for event in item["eventData"]]
        assert [event["trigger"] for event in told] == ["Periodic"] * 3
        here.meter(2.9)
        await here.after(1.0)
        here.meter(1.9)
        await here.after(1.0)
        deltas = [e for item in here.all("NotifyEvent") for e in item["eventData"] if e["trigger"] == "Delta"]
        assert [event["actualValue"] for event in deltas] == ["2900", "1900"]

    with_csms(scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_monitors_are_reported_and_reset_to_a_base(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        await monitor(here, watch(POWER, "Delta", 1000.0), watch(HEAT, "Periodic", 60.0))

        async def reported(number: int, **wanted: Any) -> list[int]:
            if await here.status("GetMonitoringReport", {"requestId": number, **wanted}) == "EmptyResultSet":
                return []
            await here.after(1.0)
            parts = [part for part in here.all("NotifyMonitoringReport") if part["requestId"] == number]
            return [m["id"] for part in parts for item in part["monitor"] for m in item["variableMonitoring"]]

        assert await reported(1) == [1, 2, 3, 4]
        assert await reported(2, monitoringCriteria=["DeltaMonitoring"]) == [3]
        assert await reported(3, componentVariable=[{"component": {"name": "TemperatureSensor"}}]) == [1, 2, 4]
        assert await reported(4, componentVariable=[{"component": {"name": "Unicorn"}}]) == []
        for base, left in (("All", [1, 2, 3, 4]), ("HardWiredOnly", [1]), ("FactoryDefault", [1, 2])):
            assert await here.status("SetMonitoringBase", {"monitoringBase": base}) == "Accepted"
            assert await reported(10 + len(base)) == left

    with_csms(scenario, version)


# --- N: periodic event streams ----------------------------------------------------------------------------------------
def test_a_stream_carries_a_monitors_values_in_unanswered_messages() -> None:
    async def scenario(here: RawCsms) -> None:
        assert here.conversation is not None
        streamed = here.conversation.session
        got: list[Any] = []
        inner = streamed.receive

        def listening(data: bytes, now_s: float, **more: Any) -> Any:
            events = inner(data, now_s, **more)
            got.extend(event.payload for event in events if isinstance(event, SendReceived))
            return events

        streamed.receive = listening  # type: ignore[method-assign]
        params: dict[str, Any] = {"periodicEventStream": {"interval": 30, "values": 5}}
        assert await monitor(here, watch(HEAT, "Periodic", 2.0, **params)) == [("Accepted", 3)]
        await here.after(1.0)
        (opened,) = here.all("OpenPeriodicEventStream")
        number = opened["constantStreamData"]["id"]
        await here.after(22.0)
        assert [len(item.data) for item in got] == [5, 5]
        assert not here.all("NotifyEvent")
        adjust = {"id": number, "params": {"values": 2}}
        assert await here.status("AdjustPeriodicEventStream", adjust | {"id": 99}) == "Rejected"
        assert await here.status("AdjustPeriodicEventStream", adjust) == "Accepted"
        told = await here.ask("GetPeriodicEventStream")
        assert told["constantStreamData"][0]["params"] == {"interval": 30, "values": 2}
        await here.after(5.0)
        assert len(got[-1].data) == 2
        await here.ask("ClearVariableMonitoring", {"id": [3]})
        await here.after(1.0)
        assert here.all("ClosePeriodicEventStream") == [{"id": number}]
        assert await here.ask("GetPeriodicEventStream") == {}

    with_csms(scenario)


def test_a_refused_stream_falls_back_to_events() -> None:
    async def scenario(here: RawCsms) -> None:
        here.answers["OpenPeriodicEventStream"] = lambda _fields: {"status": "Rejected"}
        await monitor(here, watch(HEAT, "Periodic", 2.0, periodicEventStream={"interval": 30}))
        await here.after(11.0)
        assert len(here.all("NotifyEvent")) >= 4
        assert await here.ask("GetPeriodicEventStream") == {}

    with_csms(scenario)


# --- O, P, S, payments ------------------------------------------------------------------------------------------------
def shown(number: int = 1, **more: Any) -> dict[str, Any]:
    told = {"id": number, "priority": "NormalCycle", "message": {"format": "UTF8", "content": "Hello"}}
    return {"message": told | more}


@pytest.mark.parametrize("version", VERSIONS)
def test_messages_are_shown_listed_and_taken_off(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        display = here.station.blocks.display
        html = shown(message={"format": "HTML", "content": "<b>"})
        assert await here.status("SetDisplayMessage", html) == "NotSupportedMessageFormat"
        assert await here.status("SetDisplayMessage", shown(transactionId="x")) == "UnknownTransaction"
        assert await here.status("SetDisplayMessage", shown(endDateTime=here.now(-5.0))) == "Rejected"
        assert await here.status("GetDisplayMessages", {"requestId": 1}) == "Unknown"
        assert await here.status("SetDisplayMessage", shown()) == "Accepted"
        assert await here.status("SetDisplayMessage", shown(2, priority="AlwaysFront")) == "Accepted"
        assert await here.status("SetDisplayMessage", shown(3, priority="AlwaysFront")) == "Accepted"
        assert sorted(display.messages) == [1, 3], "only one is always in front"
        front = display.shown()
        assert front is not None
        assert front.id == 3
        assert await here.status("GetDisplayMessages", {"requestId": 2, "priority": "NormalCycle"}) == "Accepted"
        await here.after(1.0)
        assert [item["id"] for item in here.all("NotifyDisplayMessages")[0]["messageInfo"]] == [1]
        name = await here.charging()
        assert await here.status("SetDisplayMessage", shown(5, transactionId=name)) == "Accepted"
        assert await here.status("SetDisplayMessage", shown(6, endDateTime=here.now(3.0))) == "Accepted"
        here.station.unplug()
        await here.after(5.0)
        assert sorted(display.messages) == [1, 3]
        assert await here.status("ClearDisplayMessage", {"id": 1}) == "Accepted"
        assert await here.status("ClearDisplayMessage", {"id": 1}) == "Unknown"

    with_csms(scenario, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_vendor_data_goes_both_ways(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        echo = {"vendorId": "gridtide", "messageId": "echo", "data": {"a": [1]}}
        assert await here.ask("DataTransfer", echo) == {"status": "Accepted", "data": {"a": [1]}}
        assert await here.status("DataTransfer", {"vendorId": "gridtide", "messageId": "x"}) == "UnknownMessageId"
        assert await here.status("DataTransfer", {"vendorId": "nobody"}) == "UnknownVendorId"
        here.station.blocks.services.send_data("gridtide", "hello", 5)
        await here.after(1.0)
        assert here.all("DataTransfer") == [{"vendorId": "gridtide", "messageId": "hello", "data": 5}]

    with_csms(scenario, version)


def test_batteries_are_swapped() -> None:
    async def scenario(here: RawCsms) -> None:
        ask = {"requestId": 6, "idToken": TOKEN}
        assert await here.status("RequestBatterySwap", ask) == "Accepted"
        assert await here.status("RequestBatterySwap", ask) == "Rejected", "the only battery is under way"
        await here.after(8.0)
        assert [item["eventType"] for item in here.all("BatterySwap")] == ["BatteryIn", "BatteryOut"]
        here.station.plug(vehicle(here.clock.wall()))
        assert await here.status("RequestBatterySwap", ask) == "Rejected"

    with_csms(scenario)


def test_payments_are_told() -> None:
    async def scenario(here: RawCsms) -> None:
        services = here.station.blocks.services
        services.settle("psp-1", 12.5)
        services.ask_vat("DE123")
        services.tell_web_payment(60)
        await here.after(1.0)
        assert here.all("NotifySettlement")[0]["settlementAmount"] == 12.5
        assert here.all("VatNumberValidation")[0]["vatNumber"] == "DE123"
        assert here.all("NotifyWebPaymentStarted") == [{"evseId": 1, "timeout": 60}]
        assert await here.ask("NotifyWebPaymentStarted", {"evseId": 1, "timeout": 30}) == {}
        assert services.web_payment == 30

    with_csms(scenario)
