"""The emulated station, blocks B to H: device model, authorisation, transactions, remote control, reservation."""

from typing import Any

import pytest

from gridtide.run.emulator.station import Setup
from gridtide.wire.ocpp.actions import FROM_BOTH, FROM_STATION, TABLES, Version
from tests.day.raw_csms import STANDARD, TOKEN, RawCsms, vehicle, with_csms

VERSIONS: list[Version] = ["2.1", "2.0.1"]


def get(component: str, variable: str, kind: str | None = None, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"component": {"name": component, **more}, "variable": {"name": variable}}
    return told | ({} if kind is None else {"attributeType": kind})


def put(component: str, variable: str, value: str, kind: str | None = None, **more: Any) -> dict[str, Any]:
    return get(component, variable, kind, **more) | {"attributeValue": value}


async def read(here: RawCsms, *items: dict[str, Any]) -> list[tuple[str, str | None]]:
    told = await here.ask("GetVariables", {"getVariableData": list(items)})
    return [(item["attributeStatus"], item.get("attributeValue")) for item in told["getVariableResult"]]


async def write(here: RawCsms, *items: dict[str, Any]) -> list[str]:
    told = await here.ask("SetVariables", {"setVariableData": list(items)})
    return [item["attributeStatus"] for item in told["setVariableResult"]]


# --- every action -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", VERSIONS)
def test_every_request_of_the_version_is_answered_and_no_other(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        wanted = {name for name in TABLES[version] if name not in FROM_STATION or name in FROM_BOTH}
        assert here.station.blocks.actions() == wanted

    with_csms(scenario, version)


# --- B: device model --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", VERSIONS)
def test_variables_are_read_with_the_status_each_deserves(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        evse: dict[str, Any] = {"evse": {"id": 1}}
        connector: dict[str, Any] = {"evse": {"id": 1, "connectorId": 1}}
        assert await read(
            here, get("AuthCtrlr", "LocalPreAuthorize"), get("Nothing", "X"), get("AuthCtrlr", "X"),
            get("SecurityCtrlr", "BasicAuthPassword"), get("AuthCtrlr", "LocalPreAuthorize", "MaxSet"),
            get("EVSE", "AvailabilityState", **evse), get("Connector", "ConnectorType", **connector),
            get("EVSE", "Power", "Target", **evse), get("TemperatureSensor", "Temperature", "MaxSet"),
        ) == [
            ("Accepted", "true"), ("UnknownComponent", None), ("UnknownVariable", None), ("Rejected", None),
            ("NotSupportedAttributeType", None), ("Accepted", "Available"), ("Accepted", "cCCS2"), ("Accepted", "0"),
            ("Accepted", "85"),
        ]  # fmt: skip
        known = [("Accepted", "true")] if version == "2.1" else [("UnknownComponent", None)]
        assert await read(here, get("V2XChargingCtrlr", "Available")) == known

    with_csms(scenario, version)


def test_variables_are_written_within_their_limits() -> None:
    async def scenario(here: RawCsms) -> None:
        assert await write(
            here, put("OCPPCommCtrlr", "HeartbeatInterval", "120"), put("OCPPCommCtrlr", "HeartbeatInterval", "0"),
            put("OCPPCommCtrlr", "HeartbeatInterval", "soon"), put("AuthCtrlr", "LocalPreAuthorize", "yes"),
            put("AuthCtrlr", "Enabled", "false"), put("X", "Y", "1"), put("AuthCtrlr", "Y", "1"),
            put("AuthCtrlr", "LocalPreAuthorize", "true", "Target"), put("SecurityCtrlr", "Identity", "bay-9"),
            put("ClockCtrlr", "TimeSource", "NTP,GPS"), put("ClockCtrlr", "TimeSource", "NTP,NTP"),
            put("SmartChargingCtrlr", "LimitChangeSignificance", "nan"),
            put("TemperatureSensor", "Temperature", "90", "MaxSet"), put("TemperatureSensor", "Temperature", "95", "MinSet"),
            put("SecurityCtrlr", "BasicAuthPassword", "short"), put("EVSE", "Power", "1", "Target", evse={"id": 1}),
        ) == [
            "Accepted", "Rejected", "Rejected", "Rejected", "Rejected", "UnknownComponent", "UnknownVariable",
            "NotSupportedAttributeType", "RebootRequired", "Accepted", "Rejected", "Rejected", "Accepted", "Rejected",
            "Rejected", "Rejected",
        ]  # fmt: skip
        assert (await read(here, get("OCPPCommCtrlr", "HeartbeatInterval")))[0] == ("Accepted", "120")
        assert (await read(here, get("SecurityCtrlr", "Identity")))[0] == ("Accepted", "bay-1"), "not before the boot"
        assert await here.status("Reset", {"type": "Immediate"}) == "Accepted"
        await here.after(5.0)
        assert (await read(here, get("SecurityCtrlr", "Identity")))[0] == ("Accepted", "bay-9")

    with_csms(scenario)


def test_an_interval_the_station_cannot_keep_is_refused() -> None:
    async def scenario(here: RawCsms) -> None:
        for value, wanted in (("10", "Rejected"), ("30", "Accepted"), ("0", "Accepted")):
            assert await write(here, put("SampledDataCtrlr", "TxUpdatedInterval", value)) == [wanted]

    with_csms(scenario, setup=Setup(standard=True, least_interval_s=30))


def test_a_new_password_is_never_told_and_brings_the_station_back() -> None:
    async def scenario(here: RawCsms) -> None:
        first = here.conversation
        assert await write(here, put("SecurityCtrlr", "BasicAuthPassword", "0123456789abcdef")) == ["Accepted"]
        await here.after(4.0)
        assert here.conversation is not first
        assert here.station.connected
        assert here.station.blocks.network.password == "0123456789abcdef"
        assert (await read(here, get("SecurityCtrlr", "BasicAuthPassword")))[0] == ("Rejected", None)
        assert "0123456789abcdef" not in str(here.heard)
        await here.ask("GetBaseReport", {"requestId": 9, "reportBase": "FullInventory"})
        await here.after(1.0)
        assert "BasicAuthPassword" in str(here.all("NotifyReport"))
        assert "0123456789abcdef" not in str(here.heard)

    with_csms(scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_reports_come_in_numbered_parts_that_hold_everything_once(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        sizes = {}
        for number, base in enumerate(("FullInventory", "ConfigurationInventory", "SummaryInventory")):
            assert await here.status("GetBaseReport", {"requestId": number, "reportBase": base}) == "Accepted"
            await here.after(1.0)
            parts = [part for part in here.all("NotifyReport") if part["requestId"] == number]
            assert [part["seqNo"] for part in parts] == list(range(len(parts)))
            assert [part["tbc"] for part in parts] == [True] * (len(parts) - 1) + [False]
            rows = [(str(row["component"]), str(row["variable"])) for part in parts for row in part["reportData"]]
            assert len(set(rows)) == len(rows)
            sizes[base] = len(rows)
        assert sizes["FullInventory"] == len(here.station.blocks.model._rows) > 80
        assert sizes["FullInventory"] > sizes["ConfigurationInventory"] > sizes["SummaryInventory"] > 5

    with_csms(scenario, version)


def test_a_report_is_narrowed_by_component_and_criterion() -> None:
    async def scenario(here: RawCsms) -> None:
        evse = {"componentVariable": [{"component": {"name": "EVSE", "evse": {"id": 1}}}]}
        assert await here.status("GetReport", {"requestId": 1, **evse}) == "Accepted"
        await here.after(1.0)
        rows = [row for part in here.all("NotifyReport") for row in part["reportData"]]
        assert {row["component"]["name"] for row in rows} == {"EVSE"}
        problem = {"requestId": 2, "componentCriteria": ["Problem"]}
        assert await here.status("GetReport", problem) == "EmptyResultSet"
        here.station.break_down()
        assert await here.status("GetReport", problem) == "Accepted"
        nobody = {"requestId": 3, "componentVariable": [{"component": {"name": "Unicorn"}}]}
        assert await here.status("GetReport", nobody) == "EmptyResultSet"

    with_csms(scenario)


# --- B: boot, reset, network ------------------------------------------------------------------------------------------
def test_a_pending_station_tells_only_what_it_is_asked_and_boots_when_told() -> None:
    async def scenario(here: RawCsms) -> None:
        answer = {"status": "Pending", "currentTime": here.now(), "interval": 1000}
        here.answers["BootNotification"] = lambda _fields: answer
        assert here.link is not None
        here.link.drop()
        await here.after(5.0)
        here.heard.clear()
        here.station.plug(vehicle(here.clock.wall()))
        await here.after(5.0)
        assert not here.heard
        start = {"remoteStartId": 1, "idToken": TOKEN}
        assert await here.status("RequestStartTransaction", start) == "Rejected"
        assert await here.status("GetBaseReport", {"requestId": 1, "reportBase": "SummaryInventory"}) == "Accepted"
        await here.after(2.0)
        assert {name for name, _ in here.heard} == {"NotifyReport"}
        del here.answers["BootNotification"]
        assert await here.status("TriggerMessage", {"requestedMessage": "BootNotification"}) == "Accepted"
        await here.after(2.0)
        assert here.station.connected
        assert here.all("StatusNotification")
        assert await here.status("TriggerMessage", {"requestedMessage": "BootNotification"}) == "Rejected"

    with_csms(scenario)


def test_a_rejected_station_answers_nothing() -> None:
    async def scenario(here: RawCsms) -> None:
        answer = {"status": "Rejected", "currentTime": here.now(), "interval": 60}
        here.answers["BootNotification"] = lambda _fields: answer
        assert here.link is not None
        here.link.drop()
        await here.after(5.0)
        boots = len(here.all("BootNotification"))
        await here.after(50.0)
        assert len(here.all("BootNotification")) == boots
        await here.after(10.0)
        assert len(here.all("BootNotification")) == boots + 1

    with_csms(scenario)


def test_an_immediate_reset_ends_the_transaction_and_boots_again() -> None:
    async def scenario(here: RawCsms) -> None:
        first = await here.charging()
        assert await here.status("Reset", {"type": "Immediate"}) == "Accepted"
        await here.after(5.0)
        ended = [item for item in here.all("TransactionEvent") if item["eventType"] == "Ended"]
        assert [item["transactionInfo"] for item in ended] == [{
            "transactionId": first, "stoppedReason": "ImmediateReset", "chargingState": "EVConnected",
            "operationMode": "ChargingOnly",
        }]  # fmt: skip
        assert [boot["reason"] for boot in here.all("BootNotification")] == ["PowerUp", "RemoteReset"]
        assert here.station.transaction_id not in (None, first)

    with_csms(scenario)


def test_a_reset_on_idle_waits_and_one_of_an_evse_keeps_the_link() -> None:
    async def scenario(here: RawCsms) -> None:
        await here.charging()
        assert await here.status("Reset", {"type": "OnIdle"}) == "Scheduled"
        await here.after(10.0)
        assert len(here.all("BootNotification")) == 1
        here.station.unplug()
        await here.after(5.0)
        assert here.all("BootNotification")[-1]["reason"] == "ScheduledReset"
        await here.charging("card-2")
        assert await here.status("Reset", {"type": "Immediate", "evseId": 1}) == "Accepted"
        await here.after(5.0)
        assert len(here.all("BootNotification")) == 2
        assert here.station.transaction_id is None
        assert await here.status("Reset", {"type": "Immediate", "evseId": 2}) == "Rejected"

    with_csms(scenario)


def test_a_resumed_transaction_goes_on_after_the_reset() -> None:
    async def scenario(here: RawCsms) -> None:
        name = await here.charging()
        assert await here.status("Reset", {"type": "ImmediateAndResume"}) == "Accepted"
        await here.after(5.0)
        assert here.station.transaction_id == name
        assert ("Updated", "TxResumed") in here.events()
        assert "Ended" not in {kind for kind, _ in here.events()}

    with_csms(scenario)


def test_network_profiles_that_cannot_work_are_refused() -> None:
    async def scenario(here: RawCsms) -> None:
        def profile(slot: int = 1, **more: Any) -> dict[str, Any]:
            data = {
                "ocppInterface": "Wired0", "ocppTransport": "JSON", "messageTimeout": 30,
                "ocppCsmsUrl": "ws://127.0.0.1:1/ocpp", "securityProfile": 1, "ocppVersion": "OCPP20",
            }  # fmt: skip
            return {"configurationSlot": slot, "connectionData": data | more}

        priority = put("OCPPCommCtrlr", "NetworkConfigurationPriority", "1")
        assert await write(here, priority) == ["Rejected"], "an empty slot"
        assert await here.status("SetNetworkProfile", profile(slot=9)) == "Rejected"
        assert await here.status("SetNetworkProfile", profile(ocppTransport="SOAP")) == "Rejected"
        assert await here.status("SetNetworkProfile", profile(securityProfile=2)) == "Rejected", "no TLS address"
        secure: dict[str, Any] = {"securityProfile": 2, "ocppCsmsUrl": "wss://127.0.0.1:1/ocpp"}
        assert await here.status("SetNetworkProfile", profile(**secure)) == "Rejected", "no root certificate"
        assert await here.status("SetNetworkProfile", profile(securityProfile=0)) == "Rejected"
        assert await here.status("SetNetworkProfile", profile()) == "Accepted"
        assert await write(here, priority) == ["RebootRequired"]
        await here.ask("Reset", {"type": "Immediate"})
        await here.after(5.0)
        active = here.station.blocks.network.active
        assert active is not None
        assert active.ocppCsmsUrl == "ws://127.0.0.1:1/ocpp"
        for failed, wanted in ((2, active), (3, None), (6, active)):
            here.station.blocks.network.unreached = failed
            assert here.station.blocks.network.active is wanted, "after three attempts the way back is tried"

    for version in VERSIONS:
        with_csms(scenario, version)


def test_no_downgrade_without_leave() -> None:
    async def scenario(here: RawCsms) -> None:
        data = {
            "ocppInterface": "Wired0", "ocppTransport": "JSON", "messageTimeout": 30,
            "ocppCsmsUrl": "ws://127.0.0.1:1/ocpp", "securityProfile": 1,
        }  # fmt: skip
        await write(here, put("SecurityCtrlr", "AllowSecurityProfileDowngrade", "true"))
        assert await here.status("SetNetworkProfile", {"configurationSlot": 1, "connectionData": data}) == "Rejected"

    with_csms(scenario, setup=Setup(standard=True, security_profile=3))


# --- C, D: authorisation ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", VERSIONS)
def test_a_refused_token_gets_no_energy(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        here.answers["Authorize"] = lambda _fields: {"idTokenInfo": {"status": "Blocked"}}
        here.station.plug(vehicle(here.clock.wall()))
        await here.after(1.0)
        assert here.all("Authorize")
        assert not here.events()
        assert here.station.power_wish_kw() == 0.0
        here.station.unplug()
        here.answers.clear()
        await here.charging("card-2")
        assert here.events()[-1] == ("Started", "Authorized")
        assert here.station.power_wish_kw() == 4.0, "the fallback of a charger without profiles"

    with_csms(scenario, version)


def test_the_cache_spares_a_question_until_it_is_cleared_or_expires() -> None:
    async def scenario(here: RawCsms) -> None:
        for wanted in (1, 1):
            await here.charging()
            here.station.unplug()
            assert len(here.all("Authorize")) == wanted
        assert await here.status("ClearCache") == "Accepted"
        await here.charging()
        here.station.unplug()
        assert len(here.all("Authorize")) == 2
        await write(here, put("AuthCacheCtrlr", "Enabled", "false"))
        assert await here.status("ClearCache") == "Rejected"
        await write(here, put("AuthCacheCtrlr", "Enabled", "true"), put("AuthCacheCtrlr", "LifeTime", "60"))
        await here.status("ClearCache")
        await here.charging()
        here.station.unplug()
        await here.after(61.0)
        await here.charging()
        assert len(here.all("Authorize")) == 4, "expired"

    with_csms(scenario)


def entry(token: str, status: str | None = "Accepted") -> dict[str, Any]:
    told: dict[str, Any] = {"idToken": {"idToken": token, "type": "ISO14443"}}
    return told | ({} if status is None else {"idTokenInfo": {"status": status}})


@pytest.mark.parametrize("version", VERSIONS)
def test_the_local_list_is_kept_whole_or_by_differences(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        async def send(number: int, kind: str, *items: dict[str, Any]) -> str:
            told: dict[str, Any] = {"versionNumber": number, "updateType": kind}
            return await here.status("SendLocalList", told | ({"localAuthorizationList": list(items)} if items else {}))

        async def known() -> int:
            return int((await here.ask("GetLocalListVersion"))["versionNumber"])

        assert await known() == 0
        assert await send(0, "Full", entry("a")) == "Failed"
        assert await send(5, "Full", entry("a"), entry("A")) == "Failed", "twice the same"
        assert await send(5, "Full", entry("a", None)) == "Failed"
        assert await send(5, "Full", entry("a"), entry("b")) == "Accepted"
        assert await send(5, "Differential", entry("c")) == "VersionMismatch"
        assert await send(6, "Differential", entry("a", None), entry("c")) == "Accepted"
        assert await known() == 6
        assert (await read(here, get("LocalAuthListCtrlr", "Entries")))[0][1] == "2"
        await here.charging("C")
        assert not here.all("Authorize"), "listed tokens need no question"
        here.station.unplug()
        await here.charging("a")
        assert len(here.all("Authorize")) == 1, "no longer listed"
        await write(here, put("LocalAuthListCtrlr", "Enabled", "false"))
        assert await known() == 0
        assert await send(7, "Full", entry("a")) == "Failed"

    with_csms(scenario, version)


def test_offline_the_list_and_the_cache_decide() -> None:
    async def scenario(here: RawCsms) -> None:
        list_of = {
            "versionNumber": 1,
            "updateType": "Full",
            "localAuthorizationList": [entry("a"), entry("b", "Blocked")],
        }
        await here.status("SendLocalList", list_of)
        here.reachable = False
        assert here.link is not None
        here.link.drop()
        await here.after(2.0)
        for token, starts in (("a", True), ("b", False), ("stranger", False)):
            here.station.plug(vehicle(here.clock.wall(), token))
            assert (here.station.transaction_id is not None) == starts, token
            here.station.unplug()
        here.station.blocks.model.fix("AuthCtrlr", "OfflineTxForUnknownIdEnabled", "true")
        here.station.plug(vehicle(here.clock.wall(), "stranger"))
        assert here.station.transaction_id is not None
        here.reachable = True
        await here.after(120.0)
        assert here.events()[:2] == [("Started", "Authorized"), ("Ended", "EVCommunicationLost")]
        assert all(item["offline"] for item in here.all("TransactionEvent")[:3])

    with_csms(scenario)


# --- E, F: transactions -----------------------------------------------------------------------------------------------
def test_events_are_numbered_and_tell_why() -> None:
    async def scenario(here: RawCsms) -> None:
        await here.charging()
        for _ in range(130):
            await here.after(1.0)
            here.meter(7.0)
        here.meter(0.0)
        here.station.blocks.transactions.present("card-1")
        await here.after(1.0)
        assert here.events() == [
            ("Started", "Authorized"), ("Updated", "ChargingStateChanged"), ("Updated", "MeterValuePeriodic"),
            ("Updated", "MeterValuePeriodic"), ("Updated", "ChargingStateChanged"), ("Ended", "StopAuthorized"),
        ]  # fmt: skip
        told = here.all("TransactionEvent")
        assert [item["seqNo"] for item in told] == list(range(6))
        assert told[-1]["transactionInfo"]["stoppedReason"] == "Local"
        assert told[1]["transactionInfo"]["chargingState"] == "Charging"
        assert here.station.power_wish_kw() == 0.0, "plugged, but nobody pays"

    with_csms(scenario)


def test_a_token_refused_after_the_start_ends_the_transaction() -> None:
    async def scenario(here: RawCsms) -> None:
        here.answers["TransactionEvent"] = lambda _fields: {"idTokenInfo": {"status": "Invalid"}}
        here.station.plug(vehicle(here.clock.wall()))
        await here.after(1.0)
        assert here.events() == [("Started", "Authorized"), ("Ended", "Deauthorized")]
        assert here.all("TransactionEvent")[-1]["transactionInfo"]["stoppedReason"] == "DeAuthorized"

    with_csms(scenario)


def test_a_limit_of_the_transaction_ends_it() -> None:
    async def scenario(here: RawCsms) -> None:
        here.answers["TransactionEvent"] = lambda _fields: {"transactionLimit": {"maxEnergy": 2000.0}}
        await here.charging()
        here.meter(7.0, taken_kwh=1.9)
        await here.after(1.0)
        assert here.station.transaction_id is not None
        here.meter(7.0, taken_kwh=2.0)
        await here.after(1.0)
        assert here.events()[-1] == ("Ended", "EnergyLimitReached")

    with_csms(scenario)


def test_a_card_before_the_plug_counts_for_a_while() -> None:
    async def scenario(here: RawCsms) -> None:
        here.answers["Authorize"] = lambda told: {
            "idTokenInfo": {"status": "Accepted" if told["idToken"]["idToken"] == "card-1" else "Invalid"}
        }  # fmt: skip
        for wait_s, starts in ((50.0, True), (70.0, False)):
            here.heard.clear()
            here.station.blocks.transactions.present("card-1")
            await here.after(wait_s)
            here.station.plug(vehicle(here.clock.wall(), "not-told"))
            await here.after(1.0)
            assert here.events() == ([("Started", "CablePluggedIn")] if starts else [])
            here.station.unplug()
            await here.after(1.0)

    with_csms(scenario)


def test_the_state_of_a_transaction_is_told() -> None:
    async def scenario(here: RawCsms) -> None:
        name = await here.charging()
        ask = {"transactionId": name}
        assert await here.ask("GetTransactionStatus", ask) == {"messagesInQueue": False, "ongoingIndicator": True}
        assert await here.ask("GetTransactionStatus") == {"messagesInQueue": False}
        unknown = await here.ask("GetTransactionStatus", {"transactionId": "foreign"})
        assert unknown == {"messagesInQueue": False, "ongoingIndicator": False}
        here.station.core.outbox.put("TransactionEvent", here.station.core.make("TransactionEvent", {
            "eventType": "Updated", "timestamp": here.now(), "triggerReason": "Trigger", "seqNo": 99,
            "transactionInfo": {"transactionId": name}}))  # fmt: skip
        assert (await here.ask("GetTransactionStatus", ask))["messagesInQueue"] is True

    with_csms(scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_remote_start_and_stop(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        start = {"remoteStartId": 7, "idToken": TOKEN}
        assert await here.status("RequestStartTransaction", start | {"evseId": 2}) == "Rejected"
        assert await here.status("RequestStartTransaction", start | {"evseId": 1}) == "Accepted"
        assert await here.status("RequestStartTransaction", start) == "Rejected", "one is waiting"
        await here.charging("other")
        assert here.events() == [("Started", "RemoteStart")]
        assert here.all("TransactionEvent")[0]["transactionInfo"]["remoteStartId"] == 7
        assert await here.status("RequestStartTransaction", start) == "Rejected", "one is running"
        assert await here.status("RequestStopTransaction", {"transactionId": "foreign"}) == "Rejected"
        name = here.station.transaction_id
        assert await here.status("RequestStopTransaction", {"transactionId": name}) == "Accepted"
        await here.after(1.0)
        assert here.events()[-1] == ("Ended", "RemoteStop")
        assert here.all("TransactionEvent")[-1]["transactionInfo"]["stoppedReason"] == "Remote"

    with_csms(scenario, version)


def test_a_remote_start_is_given_up_when_nobody_comes() -> None:
    async def scenario(here: RawCsms) -> None:
        assert await here.status("RequestStartTransaction", {"remoteStartId": 7, "idToken": TOKEN}) == "Accepted"
        await here.after(61.0)
        here.answers["Authorize"] = lambda _fields: {"idTokenInfo": {"status": "Invalid"}}
        here.station.plug(vehicle(here.clock.wall(), "other"))
        await here.after(1.0)
        assert not here.events()

    with_csms(scenario)


def test_a_remote_start_brings_its_profile() -> None:
    async def scenario(here: RawCsms) -> None:
        def profile(**more: Any) -> dict[str, Any]:
            schedule = {
                "id": 1,
                "chargingRateUnit": "W",
                "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 2000.0}],
            }
            told = {
                "id": 5, "stackLevel": 1, "chargingProfilePurpose": "TxProfile", "chargingProfileKind": "Relative",
                "chargingSchedule": [schedule],
            }  # fmt: skip
            return {"remoteStartId": 7, "idToken": TOKEN, "chargingProfile": told | more}

        default = profile(chargingProfilePurpose="TxDefaultProfile")
        assert await here.status("RequestStartTransaction", default) == "Rejected"
        assert await here.status("RequestStartTransaction", profile(transactionId="t")) == "Rejected"
        assert await here.status("RequestStartTransaction", profile()) == "Accepted"
        await here.charging()
        assert here.station.power_wish_kw() == 2.0

    with_csms(scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_messages_come_when_triggered(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        for wanted, heard in (
            ("Heartbeat", "Heartbeat"), ("StatusNotification", "StatusNotification"), ("MeterValues", "MeterValues"),
            ("FirmwareStatusNotification", "FirmwareStatusNotification"), ("LogStatusNotification", "LogStatusNotification"),
            ("PublishFirmwareStatusNotification", "PublishFirmwareStatusNotification"),
            ("SignChargingStationCertificate", "SignCertificate"), ("SignV2GCertificate", "SignCertificate"),
            ("SignCombinedCertificate", "SignCertificate"),
        ):  # fmt: skip
            before = len(here.all(heard))
            assert await here.status("TriggerMessage", {"requestedMessage": wanted}) == "Accepted", wanted
            await here.after(1.0)
            assert len(here.all(heard)) == before + 1, wanted
        trigger = {"requestedMessage": "TransactionEvent"}
        assert await here.status("TriggerMessage", trigger) == "Rejected", "nothing runs"
        await here.charging()
        assert await here.status("TriggerMessage", trigger) == "Accepted"
        await here.after(1.0)
        assert here.events()[-1] == ("Updated", "Trigger")
        elsewhere = {"requestedMessage": "StatusNotification", "evse": {"id": 4}}
        assert await here.status("TriggerMessage", elsewhere) == "Rejected"
        if version == "2.1":
            custom = {"requestedMessage": "CustomTrigger", "customTrigger": "unheard.of"}
            assert await here.status("TriggerMessage", custom) == "NotImplemented"

    with_csms(scenario, version)


# --- G, H: availability, reservation ----------------------------------------------------------------------------------
def test_availability_changes_at_once_or_after_the_transaction() -> None:
    async def scenario(here: RawCsms) -> None:
        off, on = {"operationalStatus": "Inoperative"}, {"operationalStatus": "Operative"}
        assert await here.status("ChangeAvailability", off | {"evse": {"id": 3}}) == "Rejected"
        assert await here.status("ChangeAvailability", off | {"evse": {"id": 1, "connectorId": 1}}) == "Accepted"
        await here.after(1.0)
        assert here.all("StatusNotification")[-1]["connectorStatus"] == "Unavailable"
        here.station.plug(vehicle(here.clock.wall()))
        await here.after(1.0)
        assert not here.events(), "an unavailable connector starts nothing"
        here.station.unplug()
        assert await here.status("ChangeAvailability", on) == "Accepted"
        await here.after(1.0)
        assert here.all("StatusNotification")[-1]["connectorStatus"] == "Unavailable", "the connector is still off"
        assert await here.status("ChangeAvailability", on | {"evse": {"id": 1, "connectorId": 1}}) == "Accepted"
        await here.charging()
        assert await here.status("ChangeAvailability", off) == "Scheduled"
        assert here.station.power_wish_kw() == 4.0
        here.station.unplug()
        await here.after(1.0)
        assert here.all("StatusNotification")[-1]["connectorStatus"] == "Unavailable"

    with_csms(scenario)


def test_the_lock_opens_unless_somebody_charges() -> None:
    async def scenario(here: RawCsms) -> None:
        lock = {"evseId": 1, "connectorId": 1}
        assert await here.status("UnlockConnector", lock) == "Unlocked"
        assert await here.status("UnlockConnector", lock | {"connectorId": 2}) == "UnknownConnector"
        here.station.faults.unlock_fails = True
        assert await here.status("UnlockConnector", lock) == "UnlockFailed"
        await here.charging()
        assert await here.status("UnlockConnector", lock) == "OngoingAuthorizedTransaction"

    with_csms(scenario)


def test_a_fault_ends_the_transaction_and_is_told() -> None:
    async def scenario(here: RawCsms) -> None:
        await here.charging()
        here.station.break_down()
        await here.after(1.0)
        assert here.events()[-1] == ("Ended", "AbnormalCondition")
        assert here.all("StatusNotification")[-1]["connectorStatus"] == "Faulted"
        here.station.break_down(active=False)
        await here.after(1.0)
        assert here.all("StatusNotification")[-1]["connectorStatus"] == "Occupied"

    with_csms(scenario)


def test_an_opened_case_is_told_and_stops_the_power() -> None:
    async def scenario(here: RawCsms) -> None:
        await here.charging()
        here.station.tamper()
        await here.after(1.0)
        assert here.all("SecurityEventNotification")[-1]["type"] == "TamperDetectionActivated"
        assert here.station.power_wish_kw() == 0.0

    with_csms(scenario)


def reserve(
    here: RawCsms, number: int = 1, seconds: float = 600.0, token: str = "card-1", **more: Any
) -> dict[str, Any]:
    told = {"id": number, "expiryDateTime": here.now(seconds), "idToken": {"idToken": token, "type": "ISO14443"}}
    return told | more


@pytest.mark.parametrize("version", VERSIONS)
def test_a_reservation_keeps_the_bay_for_its_token(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        assert await here.status("ReserveNow", reserve(here)) == "Accepted"
        await here.after(1.0)
        assert here.all("StatusNotification")[-1]["connectorStatus"] == "Reserved"
        assert await here.status("ReserveNow", reserve(here, 2)) == "Occupied"
        here.station.plug(vehicle(here.clock.wall(), "thief"))
        await here.after(1.0)
        assert not here.events()
        here.station.unplug()
        await here.charging("card-1")
        assert here.all("TransactionEvent")[0]["reservationId"] == 1
        assert here.station.blocks.reservations.now is None
        assert await here.status("ReserveNow", reserve(here, 3)) == "Occupied"

    with_csms(scenario, version)


def test_reservations_end_by_time_by_cancellation_and_by_a_fault() -> None:
    async def scenario(here: RawCsms) -> None:
        async def last() -> str:
            await here.after(1.0)
            return str(here.all("ReservationStatusUpdate")[-1]["reservationUpdateStatus"])

        assert await here.status("ReserveNow", reserve(here, seconds=-1.0)) == "Rejected", "in the past"
        assert await here.status("ReserveNow", reserve(here, evseId=7)) == "Rejected"
        assert await here.status("ReserveNow", reserve(here, connectorType="cType1")) == "Rejected"
        assert await here.status("ReserveNow", reserve(here, seconds=5.0)) == "Accepted"
        await here.after(6.0)
        assert await last() == "Expired"
        assert here.all("StatusNotification")[-1]["connectorStatus"] == "Available"
        assert await here.status("CancelReservation", {"reservationId": 1}) == "Rejected"
        assert await here.status("ReserveNow", reserve(here, 4)) == "Accepted"
        assert await here.status("CancelReservation", {"reservationId": 4}) == "Accepted"
        assert await here.status("ReserveNow", reserve(here, 5)) == "Accepted"
        here.station.break_down()
        assert await last() == "Removed"
        assert await here.status("ReserveNow", reserve(here, 6)) == "Faulted"
        here.station.break_down(active=False)
        await here.ask("ChangeAvailability", {"operationalStatus": "Inoperative"})
        assert await here.status("ReserveNow", reserve(here, 7)) == "Unavailable"
        await write(here, put("ReservationCtrlr", "Enabled", "false"))
        assert await here.status("ReserveNow", reserve(here, 8)) == "Rejected"

    with_csms(scenario)


def test_the_plug_starts_at_once_for_a_site_under_test() -> None:
    async def scenario(here: RawCsms) -> None:
        here.heard.clear()
        here.station.plug(vehicle(here.clock.wall()))
        await here.after(1.0)
        assert [name for name, _ in here.heard] == [
            "StatusNotification", "Authorize", "TransactionEvent", "NotifyEVChargingNeeds"
        ]  # fmt: skip
        assert here.events() == [("Started", "CablePluggedIn")]

    with_csms(scenario, setup=Setup(standard=False))
    assert STANDARD.standard
