"""No secret of a station stands in the audit, in a record or in an answer; the station itself still gets it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridtide.run.csms import device_model
from gridtide.run.csms.hidden import HIDDEN, is_secret, without_secrets
from gridtide.wire.ocpp.actions import Version
from tests.day.csms_kit import Kit, variable
from tests.day.wire_site import on_wire

SECRET = "s3cret-of-bay"
NAMES = (
    *("BasicAuthPassword", "basicauthpassword", "VpnPassword", "APNPASSWORD", "VpnKey", "SimPin", "SharedSecret"),
    *("wifi_pass_phrase", "Private Key"),
)


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"component": {"name": "NetworkConfiguration"}, "variable": {"name": name}, **more}


@pytest.mark.parametrize("name", ["BasicAuthPassword", "basicauthpassword", "BASICAUTHPASSWORD"])
def test_the_password_goes_by_rotation_only_however_it_is_spelled(name: str) -> None:
    async def scenario() -> None:
        kit = Kit()
        await kit.station()
        with pytest.raises(ValueError, match="rotate") as told:
            await kit.operate("SetVariables", setVariableData=[named(name, attributeValue=SECRET)])
        assert SECRET not in str(told.value)

    on_wire(scenario)


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
def test_a_network_profile_reaches_the_station_and_its_secrets_nobody_else(version: Version) -> None:
    async def scenario() -> None:
        kit, got = Kit(version), list[Any]()

        def take(payload: Any) -> Any:
            got.append(payload)
            return {"status": "Accepted"}

        await kit.station(SetNetworkProfile=take)
        vpn = {"server": "vpn.example", "user": "u", "password": f"{SECRET}-1", "key": f"{SECRET}-2", "type": "IPSec"}
        apn = {"apn": "apn.example", "apnPassword": f"{SECRET}-3", "simPin": 4711, "apnAuthentication": "CHAP"}
        data = {
            "ocppInterface": "Wired0", "ocppTransport": "JSON", "messageTimeout": 30, "securityProfile": 1,
            "ocppCsmsUrl": "wss://csms.example/ocpp", "vpn": vpn, "apn": apn,
        }  # fmt: skip
        if version == "2.1":
            data["basicAuthPassword"] = f"{SECRET}-4"
        else:
            data["ocppVersion"] = "OCPP20"
        await kit.operate("SetNetworkProfile", configurationSlot=1, connectionData=data)
        assert got[0]["connectionData"]["vpn"]["password"] == f"{SECRET}-1"
        audit = b"".join(entry.detail_json for entry in kit.store.audit(50)).decode()
        assert "vpn.example" in audit
        assert SECRET not in audit
        assert "4711" not in audit

    on_wire(scenario)


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_variable_is_in_no_record_and_no_answer(name: str) -> None:
    async def scenario() -> None:
        kit = Kit()
        told = [named(name, attributeStatus="Accepted", attributeValue=SECRET)]
        put = [named(name, attributeStatus="Accepted")]
        raw = await kit.station(GetVariables={"getVariableResult": told}, SetVariables={"setVariableResult": put})
        part = {"requestId": 1, "generatedAt": kit.stamp(), "seqNo": 0, "reportData": [variable(name, SECRET)]}
        await raw.ask("NotifyReport", **part)
        outcome = await kit.operate("GetVariables", getVariableData=[named(name)])
        assert outcome.payload["getVariableResult"][0]["attributeValue"] == HIDDEN
        if name.casefold() != "basicauthpassword":
            await kit.operate("SetVariables", setVariableData=[named(name, attributeValue=SECRET)])
        event = named(
            name, eventId=1, timestamp=kit.stamp(), trigger="Delta", actualValue=SECRET, severity=1,
            eventNotificationType="CustomMonitor",
        )  # fmt: skip
        await raw.ask("NotifyEvent", generatedAt=kit.stamp(), seqNo=0, eventData=[event])
        assert kit.records("variable")
        kept = (kit.records("variable"), kit.journal("event"), kit.store.audit(50), kit.texts())
        assert SECRET not in str(kept)

    on_wire(scenario)


def test_what_can_only_be_written_is_not_kept_either() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        item = variable("Harmless", SECRET)
        item["variableAttribute"][0]["mutability"] = "WriteOnly"
        await raw.ask("NotifyReport", requestId=1, generatedAt=kit.stamp(), seqNo=0, reportData=[item])
        assert kit.records("variable")["Bay||||Harmless|"]["attributes"] == [
            {"type": "Actual", "mutability": "WriteOnly"}
        ]

    on_wire(scenario)


def test_what_was_stored_before_is_not_shown() -> None:
    kept = {"attributes": [{"type": "Actual", "value": SECRET}], "characteristics": {"dataType": "string"}}
    shown = device_model.shown("NetworkConfiguration||||VpnPassword|", kept)
    assert shown == {"attributes": [{"type": "Actual"}], "characteristics": {"dataType": "string"}}
    assert device_model.shown("Bay||||Power|", kept) == kept


def test_a_password_in_an_address_is_hidden_and_the_address_stays() -> None:
    told = without_secrets(
        {"location": "ftps://user:pa@ss@host.example/a?b=c@d", "other": "https://host.example/x:y@z"}
    )
    assert told == {"location": f"ftps://user:{HIDDEN}@host.example/a?b=c@d", "other": "https://host.example/x:y@z"}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc: /@"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "vpn", "value", *NAMES]), inner),
    max_leaves=12,
)


@given(values)
def test_hiding_keeps_the_shape_and_leaves_no_secret(value: Any) -> None:
    def look(told: Any) -> None:
        if isinstance(told, dict):
            for key, item in told.items():
                assert item in (None, HIDDEN) if is_secret(key) else True
                look(item)
        for item in told if isinstance(told, list) else ():
            look(item)

    hidden = without_secrets(value)
    look(hidden)
    assert without_secrets(hidden) == hidden
    if isinstance(value, dict):
        assert hidden.keys() == value.keys()
    msgspec.json.encode(hidden)
