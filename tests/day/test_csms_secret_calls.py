"""A secret in a person's raw call reaches the station and nobody else: no audit, record, journal, event, log line or answer,
not even where the station quotes it back."""

import logging
from typing import Any

import pytest
from structlog.testing import capture_logs

from gridtide.run.csms.hidden import HIDDEN, secrets_of, without_texts
from gridtide.wire.ocpp.actions import Version
from tests.day.csms_kit import Kit, variable
from tests.day.wire_site import on_wire

SECRET = "hush-hush-4711"


def item(name: str, component: str = "NetworkConfiguration") -> dict[str, Any]:
    return {"component": {"name": component}, "variable": {"name": name}}


def kept(kit: Kit) -> str:
    """All that anybody could read later."""
    parts: list[object] = [
        kit.store.audit(100),
        kit.store.events(100),
        kit.store.journal(None, None, 1_000),
        kit.events,
    ]
    parts += [kit.records(kind) for kind in ("variable", "network_profile")]
    return str(parts) + b"".join(entry.detail_json for entry in kit.store.audit(100)).decode()


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
@pytest.mark.parametrize("name", ["VpnPassword", "ApnPassword", "VpnKey"])
def test_no_trace_of_a_secret_variable_and_no_echo(
    name: str, version: Version, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        kit = Kit(version)

        def quoting(payload: Any) -> Any:
            value = payload["setVariableData"][0]["attributeValue"]
            info = {"reasonCode": "Odd", "additionalInfo": f"took {value}!"}
            return {"setVariableResult": [{"attributeStatus": "Accepted", "attributeStatusInfo": info, **item(name)}]}

        raw = await kit.station(SetVariables=quoting)
        outcome = await kit.operate("SetVariables", setVariableData=[{"attributeValue": SECRET, **item(name)}])
        heard = [payload for action, payload in raw.heard if action == "SetVariables"]
        assert heard[-1]["setVariableData"][0]["attributeValue"] == SECRET
        told = outcome.payload["setVariableResult"][0]["attributeStatusInfo"]["additionalInfo"]
        assert told == f"took {HIDDEN}!"
        assert "ocpp.call" in kept(kit)
        assert SECRET not in kept(kit)

    caplog.set_level(logging.DEBUG)
    with capture_logs() as lines:
        on_wire(scenario)
    assert SECRET not in str(lines) + caplog.text


def test_what_a_station_says_can_only_be_written_is_a_secret_by_any_name() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        hushed = variable("Token", "")
        hushed["variableAttribute"][0]["mutability"] = "WriteOnly"
        report = {"requestId": 1, "generatedAt": kit.stamp(), "seqNo": 0}
        await raw.ask("NotifyReport", **report, reportData=[hushed, variable("Open", "1")])
        for name, value in (("Token", SECRET), ("Token", "ab"), ("Open", "seen")):
            await kit.operate("SetVariables", setVariableData=[{"attributeValue": value, **item(name, "Bay")}])
        assert kit.records("variable")["Bay||||Open|"]["attributes"][0]["value"] == "seen"
        assert "value" not in kit.records("variable")["Bay||||Token|"]["attributes"][0]
        assert '"attributeValue":"seen"' in kept(kit)
        assert SECRET not in kept(kit)
        assert '"attributeValue":"ab"' not in kept(kit)

    on_wire(scenario)


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
def test_a_call_that_is_refused_leaves_no_secret_either(version: Version) -> None:
    """By the policy before it leaves: the reason names no secret, and nothing is stored."""

    async def scenario() -> None:
        kit = Kit(version)
        await kit.station()
        own = item("BasicAuthPassword", "SecurityCtrlr")
        wanted = [{"attributeValue": SECRET, **item("VpnPassword")}, {"attributeValue": SECRET * 2, **own}]
        with pytest.raises(ValueError, match="rotate") as told:
            await kit.operate("SetVariables", setVariableData=wanted)
        assert SECRET not in str(told.value)
        assert SECRET not in kept(kit)

    on_wire(scenario)


def test_texts_are_hidden_whole_or_where_they_are_long_enough() -> None:
    secrets = secrets_of({"simPin": 4711, "vpn": {"key": "k", "password": "abcd"}, "vpnType": "IPSec", "a": None})
    assert secrets == {"4711", "k", "abcd"}
    told = without_texts({"x": ["k", "kk", "an abcd, 4711", 3], "y": "IPSec"}, secrets)
    assert told == {"x": [HIDDEN, "kk", f"an {HIDDEN}, {HIDDEN}", 3], "y": "IPSec"}
