"""What stations report in parts, and what their answers tell: device model, monitors, display, customers, profiles, DER."""

import asyncio
from typing import Any

import pytest

from gridtide.run.csms import parts
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.generated import v21
from tests.day.csms_kit import Answering, Kit, variable
from tests.day.wire_site import on_wire

ACCEPTED = {"status": "Accepted"}
BOTH: tuple[Version, ...] = ("2.0.1", "2.1")


async def report(raw: Answering, kit: Kit, request_id: int, seq_no: int, *items: Any, tbc: bool = False) -> None:
    """A part of a NotifyReport."""
    fields: dict[str, Any] = {"requestId": request_id, "seqNo": seq_no, "generatedAt": kit.stamp(), "tbc": tbc}
    assert await raw.ask("NotifyReport", **fields, **({"reportData": list(items)} if items else {})) == {}


def state(kit: Kit, action: str = "NotifyReport", request_id: int = 7) -> str:
    """How far a report has come."""
    return next(
        one.state for one in kit.reports.reports("bay-1") if (one.action, one.request_id) == (action, request_id)
    )


# --- NotifyReport -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", BOTH)
def test_a_report_in_parts_becomes_the_device_model(version: Version) -> None:
    async def scenario() -> None:
        kit = Kit(version)
        raw = await kit.station(GetBaseReport=ACCEPTED)
        await kit.operate("GetBaseReport", requestId=7, reportBase="FullInventory")
        limits = {"dataType": "decimal", "supportsMonitoring": True, "maxLimit": 32.0}
        await report(raw, kit, 7, 0, variable("A", "1"), variable("B", "2", variableCharacteristics=limits), tbc=True)
        assert state(kit) == "open"
        at_evse = {"component": {"name": "EVSE", "instance": "x", "evse": {"id": 1, "connectorId": 2}}}
        await report(raw, kit, 7, 1, variable("C", "3") | at_evse | {"variable": {"name": "C", "instance": "y"}})
        assert state(kit) == "complete"
        model = kit.records("variable")
        assert set(model) == {"Bay||||A|", "Bay||||B|", "EVSE|x|1|2|C|y"}
        assert model["Bay||||A|"]["attributes"] == [{"type": "Actual", "value": "1", "mutability": "ReadWrite"}]
        assert model["Bay||||B|"]["characteristics"]["maxLimit"] == 32.0
        assert {item.key for item in kit.reports.device_model("bay-1")} == set(model)
        assert kit.reports.device_model("bay-2") == ()

    on_wire(scenario)


def test_parts_count_once_and_in_any_order() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station(GetBaseReport=ACCEPTED)
        await kit.operate("GetBaseReport", requestId=7, reportBase="FullInventory")
        await report(raw, kit, 7, 2, variable("C", "3"))
        assert state(kit) == "open"
        await report(raw, kit, 7, 0, variable("A", "1"), tbc=True)
        await report(raw, kit, 7, 0, variable("A", "changed"), tbc=True)
        assert state(kit) == "open"
        assert kit.records("variable")["Bay||||A|"]["attributes"][0]["value"] == "1"
        await report(raw, kit, 7, 1, variable("B", "2"), tbc=True)
        assert state(kit) == "complete"
        await report(raw, kit, 7, 3, variable("D", "4"))
        assert set(kit.records("variable")) == {"Bay||||A|", "Bay||||B|", "Bay||||C|"}, "nothing after the end"

    on_wire(scenario)


def test_a_full_inventory_forgets_what_it_does_not_name_and_no_other_report_does() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station(GetBaseReport=ACCEPTED, GetReport=ACCEPTED)
        await report(raw, kit, 1, 0, variable("Old", "0"))
        await kit.clock.sleep(5.0)
        await kit.operate("GetReport", requestId=2)
        await report(raw, kit, 2, 0, variable("A", "1"))
        await kit.operate("GetBaseReport", requestId=3, reportBase="SummaryInventory")
        await report(raw, kit, 3, 0, variable("B", "1"))
        assert set(kit.records("variable")) == {"Bay||||Old|", "Bay||||A|", "Bay||||B|"}
        await kit.clock.sleep(5.0)
        await kit.operate("GetBaseReport", requestId=4, reportBase="FullInventory")
        await report(raw, kit, 4, 0, variable("A", "2"), tbc=True)
        assert len(kit.records("variable")) == 3, "only the end tells what is gone"
        await report(raw, kit, 4, 1, variable("B", "2"))
        assert set(kit.records("variable")) == {"Bay||||A|", "Bay||||B|"}

    on_wire(scenario)


def test_a_report_nobody_asked_for_is_kept_and_may_come_again() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        await report(raw, kit, 0, 0, variable("A", "1"))
        await report(raw, kit, 0, 0, variable("A", "2"))
        assert kit.records("variable")["Bay||||A|"]["attributes"][0]["value"] == "2"
        assert not kit.reports.reports("bay-1")[0].is_asked

    on_wire(scenario)


def test_a_refused_report_is_not_waited_for_and_one_without_end_is_given_up() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station(GetBaseReport=ACCEPTED, GetReport={"status": "EmptyResultSet"})
        await kit.operate("GetReport", requestId=2)
        assert kit.reports.reports("bay-1") == ()
        await kit.operate("GetBaseReport", requestId=7, reportBase="FullInventory")
        await report(raw, kit, 7, 0, variable("A", "1"), tbc=True)
        await kit.clock.sleep(parts.GIVE_UP_S + 5.0)
        assert state(kit) == "incomplete"
        assert "did not come to its end: 1 parts" in kit.texts()
        await report(raw, kit, 7, 1)
        assert state(kit) == "complete", "late is better than never"

    on_wire(scenario)


def test_no_report_is_waited_for_where_the_call_failed() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station(GetBaseReport=ACCEPTED)
        await kit.operate("GetBaseReport", requestId=7, reportBase="FullInventory")
        await kit.operate("GetBaseReport", requestId=8, reportBase="FullInventory")
        station = kit.csms.stations["bay-1"]
        kit.reports.note_failure(
            station, "GetBaseReport", v21.GetBaseReportRequest(requestId=7, reportBase="FullInventory")
        )
        kit.reports.note_failure(station, "Reset", v21.ResetRequest(type="Immediate"))
        await kit.reports.effects.idle()
        assert [one.request_id for one in kit.reports.reports("bay-1")] == [8]
        assert (await raw.ask("Heartbeat"))["currentTime"]

    on_wire(scenario)


def test_a_report_goes_on_after_a_restart_of_the_controller() -> None:
    async def scenario() -> None:
        old = Kit()
        raw = await old.station(GetBaseReport=ACCEPTED)
        await old.operate("GetBaseReport", requestId=7, reportBase="FullInventory")
        await report(raw, old, 7, 0, variable("A", "1"), tbc=True)
        raw.link.drop()
        kit = Kit(store=old.store)
        again = await kit.station()
        await report(again, kit, 7, 0, variable("A", "changed"), tbc=True)
        await report(again, kit, 7, 1, variable("B", "2"))
        assert state(kit) == "complete"
        assert kit.records("variable")["Bay||||A|"]["attributes"][0]["value"] == "1"

    on_wire(scenario)


@pytest.mark.parametrize("version", BOTH)
def test_answers_to_get_and_set_variables_change_the_model_and_secrets_are_never_kept(version: Version) -> None:
    def told(name: str, status: str, value: str | None = None) -> dict[str, Any]:
        made = {"attributeStatus": status, "component": {"name": "Bay"}, "variable": {"name": name}}
        return made if value is None else {**made, "attributeValue": value}

    async def scenario() -> None:
        kit = Kit(version)
        got = [
            told("A", "Accepted", "1"),
            told("B", "UnknownVariable"),
            told("BasicAuthPassword", "Accepted", "s3cret"),
        ]
        put = [told("A", "Accepted"), told("C", "RebootRequired"), told("D", "Rejected")]
        raw = await kit.station(GetVariables={"getVariableResult": got}, SetVariables={"setVariableResult": put})
        await report(raw, kit, 1, 0, variable("A", "0"), variable("BasicAuthPassword", "s3cret"))
        asked = [{"component": {"name": "Bay"}, "variable": {"name": "A"}}]
        await kit.operate("GetVariables", getVariableData=asked)
        model = kit.records("variable")
        assert model["Bay||||A|"]["attributes"] == [{"type": "Actual", "value": "1", "mutability": "ReadWrite"}]
        assert "Bay||||B|" not in model
        assert "s3cret" not in str(model)
        wanted = [
            {"component": {"name": "Bay"}, "variable": {"name": name}, "attributeValue": "9"}
            for name in ("A", "C", "D")
        ]
        await kit.operate("SetVariables", setVariableData=wanted)
        model = kit.records("variable")
        assert model["Bay||||A|"]["attributes"][0]["value"] == "9"
        assert not {"Bay||||C|", "Bay||||D|"} & set(model)

    on_wire(scenario)


# --- monitors and events ----------------------------------------------------------------------------------------------
def monitor(number: int, severity: int, version: Version) -> dict[str, Any]:
    told = {"id": number, "transaction": False, "value": 1.0, "type": "UpperThreshold", "severity": severity}
    told |= {"eventNotificationType": "CustomMonitor"} if version == "2.1" else {}
    return {"component": {"name": "Bay"}, "variable": {"name": "Heat"}, "variableMonitoring": [told]}


def happening(kit: Kit, **more: Any) -> dict[str, Any]:
    return {
        "eventId": 1, "timestamp": kit.stamp(), "trigger": "Alerting", "actualValue": "99",
        "component": {"name": "Bay"}, "variable": {"name": "Heat"}, "eventNotificationType": "CustomMonitor", **more,
    }  # fmt: skip


@pytest.mark.parametrize("version", BOTH)
def test_monitors_are_known_and_give_events_their_severity(version: Version) -> None:
    async def scenario() -> None:
        kit = Kit(version)
        raw = await kit.station(GetMonitoringReport=ACCEPTED)
        await kit.operate("GetMonitoringReport", requestId=7)
        fields = {"requestId": 7, "seqNo": 0, "generatedAt": kit.stamp()}
        told = [monitor(1, 2, version), monitor(2, 8, version)]
        assert await raw.ask("NotifyMonitoringReport", **fields, monitor=told) == {}
        assert {key: value["severity"] for key, value in kit.records("monitor").items()} == {"1": 2, "2": 8}
        assert state(kit, "NotifyMonitoringReport") == "complete"
        events = [happening(kit, variableMonitoringId=2)]
        assert await raw.ask("NotifyEvent", generatedAt=kit.stamp(), seqNo=0, eventData=events) == {}
        assert "Heat" not in kit.texts(), "a notice is no alarm"
        events = [happening(kit, variableMonitoringId=2), happening(kit, variableMonitoringId=1, techInfo="hot")]
        await raw.ask("NotifyEvent", generatedAt=kit.stamp(), seqNo=1, eventData=events)
        assert "Bay Heat: hot (system failure)." in kit.texts()
        assert len(kit.journal("event")) == 2
        await raw.ask(
            "NotifyEvent",
            generatedAt=kit.stamp(),
            seqNo=2,
            eventData=[happening(kit, variableMonitoringId=1, cleared=True)],
        )
        assert kit.texts().count("Heat") == 1, "what is over is no alarm"

    on_wire(scenario)


def test_a_severity_nobody_knows_is_kept_and_no_alarm() -> None:
    async def scenario() -> None:
        kit = Kit("2.0.1")
        raw = await kit.station()
        told = {"requestId": 7, "seqNo": 0, "generatedAt": kit.stamp(), "monitor": [monitor(1, -7, "2.0.1")]}
        assert (await raw.call("NotifyMonitoringReport", told))[0] == 3
        events = [happening(kit, variableMonitoringId=1), happening(kit, variableMonitoringId=2)]
        assert await raw.ask("NotifyEvent", generatedAt=kit.stamp(), seqNo=0, eventData=events) == {}
        assert kit.events == []
        assert [item.get("severity") for item in kit.journal("event")[0]["events"]] == [-7, None]

    on_wire(scenario)


def test_answers_about_monitors_are_kept() -> None:
    async def scenario() -> None:
        kit = Kit()
        result = {"type": "Delta", "severity": 3, "component": {"name": "Bay"}, "variable": {"name": "Heat"}}
        results = [{**result, "status": "Accepted", "id": 5}, {**result, "status": "Rejected"}]
        cleared = [{"status": "Accepted", "id": 5}, {"status": "Rejected", "id": 6}]
        await kit.station(
            SetVariableMonitoring={"setMonitoringResult": results},
            ClearVariableMonitoring={"clearMonitoringResult": cleared},
        )
        wanted = {"value": 2.0, **result}
        await kit.operate("SetVariableMonitoring", setMonitoringData=[wanted, wanted])
        assert kit.records("monitor")["5"]["value"] == 2.0
        assert set(kit.records("monitor")) == {"5"}
        await kit.operate("ClearVariableMonitoring", id=[5, 6])
        assert kit.records("monitor") == {}

    on_wire(scenario)


# --- display, customers, profiles, DER --------------------------------------------------------------------------------
def test_display_messages_come_and_go() -> None:
    def message(number: int) -> dict[str, Any]:
        return {"id": number, "priority": "NormalCycle", "message": {"format": "UTF8", "content": f"no {number}"}}

    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station(
            GetDisplayMessages=ACCEPTED, SetDisplayMessage=ACCEPTED, ClearDisplayMessage={"status": "Unknown"}
        )
        await kit.operate("SetDisplayMessage", message=message(9))
        assert set(kit.records("display_message")) == {"9"}
        await kit.clock.sleep(1.0)
        await kit.operate("GetDisplayMessages", requestId=7)
        await raw.ask("NotifyDisplayMessages", requestId=7, messageInfo=[message(1)], tbc=True)
        assert state(kit, "NotifyDisplayMessages") == "open"
        await raw.ask("NotifyDisplayMessages", requestId=7, messageInfo=[message(2)])
        assert set(kit.records("display_message")) == {"1", "2"}, "9 is not there any more"
        await kit.operate("ClearDisplayMessage", id=1)
        assert set(kit.records("display_message")) == {"2"}

    on_wire(scenario)


def test_only_the_newest_customer_information_is_kept() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station(CustomerInformation=ACCEPTED)
        for number in (7, 8):
            await kit.operate(
                "CustomerInformation", requestId=number, report=True, clear=False, customerIdentifier="somebody"
            )
            for seq_no in (0, 1):
                told = {"requestId": number, "seqNo": seq_no, "generatedAt": kit.stamp(), "tbc": seq_no == 0}
                assert await raw.ask("NotifyCustomerInformation", **told, data=f"text {number}/{seq_no}") == {}
            await kit.clock.sleep(1.0)
        assert kit.records("customer_information") == {"8/000000": "text 8/0", "8/000001": "text 8/1"}

    on_wire(scenario)


def test_profiles_that_a_station_tells_are_kept_by_source() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station(GetChargingProfiles=ACCEPTED)
        await kit.operate("GetChargingProfiles", requestId=7, chargingProfile={})
        period = {"startPeriod": 0, "limit": 5000.0}
        schedule = {"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": [period]}
        profile = {
            "id": 3, "stackLevel": 1, "chargingProfilePurpose": "ChargingStationExternalConstraints",
            "chargingProfileKind": "Relative", "chargingSchedule": [schedule],
        }  # fmt: skip
        told = {"requestId": 7, "chargingLimitSource": "EMS", "evseId": 1, "chargingProfile": [profile]}
        assert await raw.ask("ReportChargingProfiles", **told) == {}
        assert kit.records("charging_profile")["EMS/1/3"]["stackLevel"] == 1
        assert state(kit, "ReportChargingProfiles") == "complete"

    on_wire(scenario)


def test_der_controls_are_known_and_alarms_of_unknown_ones_are_recorded_as_such() -> None:
    gradient = {"priority": 1, "gradient": 2.0, "softGradient": 3.0}

    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station(SetDERControl=ACCEPTED, GetDERControl=ACCEPTED, ClearDERControl=ACCEPTED)
        await kit.operate("SetDERControl", isDefault=True, controlId="g1", controlType="Gradients", gradient=gradient)
        assert kit.records("der_control")["g1"]["controlType"] == "Gradients"
        for kind in ("Gradients", "VoltVar"):
            assert await raw.ask("NotifyDERAlarm", controlType=kind, timestamp=kit.stamp()) == {}
        assert [entry["isKnown"] for entry in kit.journal("der_alarm")] == [False, True]
        assert kit.texts().count("not set from here") == 1
        assert await raw.ask("NotifyDERStartStop", controlId="g1", started=True, timestamp=kit.stamp()) == {}
        assert await raw.ask("NotifyDERStartStop", controlId="zz", started=True, timestamp=kit.stamp()) == {}
        states = kit.records("der_state")
        assert (states["g1"]["isKnown"], states["zz"]["isKnown"]) == (True, False)
        await kit.clock.sleep(1.0)
        await kit.operate("GetDERControl", requestId=7)
        fixed = {"fixedPF": {"priority": 1, "displacement": 0.9, "excitation": True}, "id": "pf", "isDefault": False}
        await raw.ask("ReportDERControl", requestId=7, fixedPFInject=[{**fixed, "isSuperseded": False}])
        assert {key: value["controlType"] for key, value in kit.records("der_control").items()} == {
            "pf": "FixedPFInject"
        }
        await kit.operate("ClearDERControl", isDefault=True)
        assert set(kit.records("der_control")) == {"pf"}, "it is no default"
        await kit.operate("ClearDERControl", isDefault=False)
        assert kit.records("der_control") == {}

    on_wire(scenario)


# --- streams ----------------------------------------------------------------------------------------------------------
def stream(number: int, monitor_id: int = 1) -> dict[str, Any]:
    return {"constantStreamData": {"id": number, "variableMonitoringId": monitor_id, "params": {"interval": 1}}}


def test_a_stream_is_opened_adjusted_and_closed_and_its_values_are_telemetry() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station(AdjustPeriodicEventStream=ACCEPTED)
        assert (await raw.ask("OpenPeriodicEventStream", **stream(1)))["status"] == "Accepted"
        await kit.operate("AdjustPeriodicEventStream", id=1, params={"interval": 9})
        assert kit.records("stream")["1"]["params"]["interval"] == 9
        data = [{"t": 0.5, "v": "7.25"}, {"t": 1.0, "v": "text"}, {"t": 1.5, "v": "nan"}, {"t": 9e9, "v": "1"}]
        kit.stream(id=1, pending=0, basetime=kit.stamp(), data=data)
        now_s = kit.clock.wall()
        assert [value for _, value in kit.store.telemetry("stream/bay-1/1", now_s - 60, now_s + 60)] == [7.25]
        assert kit.reports._streams.dropped == 3
        assert await raw.ask("ClosePeriodicEventStream", id=1) == {}
        kit.stream(id=1, pending=0, basetime=kit.stamp(), data=data[:1])
        assert kit.reports._streams.dropped == 4
        assert kit.records("stream") == {}

    on_wire(scenario)


def test_the_station_knows_best_which_streams_are_open() -> None:
    async def scenario() -> None:
        kit = Kit()
        told = [stream(4)["constantStreamData"]]
        raw = await kit.station(GetPeriodicEventStream={"constantStreamData": told})
        await raw.ask("OpenPeriodicEventStream", **stream(1))
        await kit.operate("GetPeriodicEventStream")
        assert set(kit.records("stream")) == {"4"}

    on_wire(scenario)


def test_two_stations_do_not_see_each_other() -> None:
    async def scenario() -> None:
        kit = Kit()
        one, two = await asyncio.gather(kit.station("bay-1"), kit.station("bay-2"))
        await report(one, kit, 7, 0, variable("A", "1"))
        await report(two, kit, 7, 0, variable("A", "2"))
        assert kit.records("variable")["Bay||||A|"]["attributes"][0]["value"] == "1"
        assert kit.records("variable", "bay-2")["Bay||||A|"]["attributes"][0]["value"] == "2"

    on_wire(scenario)
