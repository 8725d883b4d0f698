"""The emulated station, blocks I, J, K, Q, R: tariffs, meter, charging profiles, bidirectional transfer, grid controls."""

from typing import Any

import pytest

from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.der import BODY_OF
from tests.day.raw_csms import RawCsms, with_csms

VERSIONS: list[Version] = ["2.1", "2.0.1"]


def profile(here: RawCsms, watts: float = 3000.0, evse_id: int = 0, **changed: Any) -> dict[str, Any]:
    """SetChargingProfile with a limit; `period` and `schedule` change theirs."""
    period = {"startPeriod": 0, "limit": watts} | changed.pop("period", {})
    period = {key: value for key, value in period.items() if value is not None}
    schedule = {"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": [period]} | changed.pop("schedule", {})
    told = {
        "id": 1, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Relative",
        "chargingSchedule": [schedule],
    }  # fmt: skip
    return {"evseId": evse_id, "chargingProfile": told | changed}


def lease(here: RawCsms, name: str, watts: float = -7000.0, seconds: int = 5, **changed: Any) -> dict[str, Any]:
    """A discharge as the CSMS grants it."""
    period = {"operationMode": "CentralSetpoint", "setpoint": watts, "dischargeLimit": watts, "limit": 0.0}
    if here.version == "2.0.1":
        period = {"limit": watts}
    return profile(
        here, evse_id=1, id=9, stackLevel=9, chargingProfilePurpose="TxProfile", chargingProfileKind="Absolute",
        transactionId=name, validTo=here.now(seconds), period=period,
        schedule={"startSchedule": here.now(), "duration": seconds,
                  "chargingSchedulePeriod": [{"startPeriod": 0, **period}]}, **changed,
    )  # fmt: skip


# --- K ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", VERSIONS)
def test_a_discharge_is_followed_until_its_lease_ends(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        assert await here.status("SetChargingProfile", profile(here)) == "Accepted"
        assert await here.status("SetChargingProfile", lease(here, "t-foreign")) == "Rejected"
        name = await here.charging()
        assert here.station.power_wish_kw() == 3.0
        assert await here.status("SetChargingProfile", lease(here, name)) == "Accepted"
        assert here.station.power_wish_kw() == -7.0
        asked = {"duration": 65, "evseId": 1}
        told = await here.ask("GetCompositeSchedule", asked)
        periods = told["schedule"]["chargingSchedulePeriod"]
        assert [item["startPeriod"] for item in periods] == [0, 5]
        assert [item.get("setpoint", item["limit"]) for item in periods] == [-7000.0, 3000.0]
        await here.after(5.0)
        assert here.station.power_wish_kw() == 3.0
        here.station.faults.refuses_discharge = True
        assert await here.status("SetChargingProfile", lease(here, name)) == "Rejected"
        assert await here.status("GetCompositeSchedule", asked | {"evseId": 3}) == "Rejected"
        assert await here.status("GetCompositeSchedule", asked | {"duration": 0}) == "Rejected"

    with_csms(scenario, version)


def test_profiles_are_listed_by_what_was_asked_and_cleared() -> None:
    async def scenario(here: RawCsms) -> None:
        for number in range(1, 13):
            set_ = profile(here, id=number, stackLevel=(number - 1) % 6 + 1, evse_id=number // 7)
            assert await here.status("SetChargingProfile", set_) == ("Accepted" if number < 7 else "Rejected")
        most = profile(
            here, id=20, chargingProfilePurpose="ChargingStationMaxProfile", chargingProfileKind="Absolute",
            schedule={"startSchedule": here.now()},
        )  # fmt: skip
        assert await here.status("SetChargingProfile", most) == "Accepted"
        here.station.blocks.book.external_limit(4.0)

        async def listed(number: int, **wanted: Any) -> list[int]:
            told = await here.status("GetChargingProfiles", {"requestId": number, "chargingProfile": wanted})
            if told == "NoProfiles":
                return []
            await here.after(1.0)
            parts = [part for part in here.all("ReportChargingProfiles") if part["requestId"] == number]
            assert [part["tbc"] for part in parts] == [True] * (len(parts) - 1) + [False]
            return sorted(item["id"] for part in parts for item in part["chargingProfile"])

        assert await listed(1, chargingProfileId=[3, 99]) == [3]
        assert await listed(2, chargingProfilePurpose="ChargingStationMaxProfile") == [20]
        assert await listed(3, stackLevel=4) == [4]
        assert len(await listed(4, chargingLimitSource=["EMS"])) == 1
        assert await listed(5, chargingProfileId=[77]) == []
        assert await here.status("ClearChargingProfile", {"chargingProfileId": 77}) == "Unknown"
        assert await here.status("ClearChargingProfile", {"chargingProfileId": 3}) == "Accepted"
        level = {"chargingProfileCriteria": {"chargingProfilePurpose": "TxDefaultProfile", "stackLevel": 4}}
        assert await here.status("ClearChargingProfile", level) == "Accepted"
        assert await listed(6, chargingProfilePurpose="TxDefaultProfile") == [1, 2, 5, 6]
        assert await here.status("ClearChargingProfile") == "Accepted"
        assert len(here.station.blocks.book.installed) == 1, "a limit from outside is not the CSMS's to clear"
        assert await here.status("ClearChargingProfile") == "Unknown"

    with_csms(scenario)


def test_profiles_of_a_transaction_end_with_it() -> None:
    async def scenario(here: RawCsms) -> None:
        name = await here.charging()
        await here.ask("SetChargingProfile", lease(here, name, seconds=3600))
        here.station.unplug()
        assert not here.station.blocks.book.installed

    with_csms(scenario)


def test_switched_off_smart_charging_takes_no_profile() -> None:
    async def scenario(here: RawCsms) -> None:
        here.station.blocks.model.fix("SmartChargingCtrlr", "Enabled", "false")
        assert await here.status("SetChargingProfile", profile(here)) == "Rejected"

    with_csms(scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_limits_from_outside_are_told_and_hold(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        await here.ask("SetChargingProfile", profile(here, 9000.0))
        await here.charging()
        here.station.blocks.book.external_limit(2.5, "SO")
        await here.after(1.0)
        assert here.all("NotifyChargingLimit")[0]["chargingLimit"] == {"chargingLimitSource": "SO"}
        assert here.station.power_wish_kw() == 2.5
        assert here.events()[-1] == ("Updated", "ChargingRateChanged")
        here.station.blocks.book.external_limit(None, "SO")
        await here.after(1.0)
        assert here.all("ClearedChargingLimit") == [{"chargingLimitSource": "SO"}]
        assert here.station.power_wish_kw() == 9.0

    with_csms(scenario, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_vehicle_tells_the_schedule_it_chose(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        assert not here.station.blocks.book.vehicle_schedule()
        name = await here.charging()
        mine = profile(here, evse_id=1, chargingProfilePurpose="TxProfile", transactionId=name)
        await here.ask("SetChargingProfile", mine)
        assert here.station.blocks.book.vehicle_schedule()
        assert not here.station.blocks.book.vehicle_schedule(selected=3)
        await here.after(1.0)
        told = here.all("NotifyEVChargingSchedule")[0]
        assert told["chargingSchedule"]["chargingSchedulePeriod"][0]["limit"] == 3000.0
        assert told.get("selectedChargingScheduleId") == (1 if version == "2.1" else None)

    with_csms(scenario, version)


def test_priority_charging_from_both_sides() -> None:
    async def scenario(here: RawCsms) -> None:
        name = await here.charging()
        use = {"transactionId": name, "activate": True}
        assert await here.status("UsePriorityCharging", use | {"transactionId": "x"}) == "Rejected"
        assert await here.status("UsePriorityCharging", use) == "NoProfile"
        await here.ask("SetChargingProfile", profile(here, 2000.0))
        await here.ask("SetChargingProfile", profile(here, 10_000.0, id=2, chargingProfilePurpose="PriorityCharging"))
        assert here.station.power_wish_kw() == 2.0
        assert await here.status("UsePriorityCharging", use) == "Accepted"
        assert here.station.power_wish_kw() == 10.0
        here.station.blocks.book.press_priority(activated=False)
        await here.after(1.0)
        assert here.all("NotifyPriorityCharging") == [{"transactionId": name, "activated": False}]
        assert here.station.power_wish_kw() == 2.0

    with_csms(scenario)


def test_a_dynamic_profile_is_updated_from_both_sides() -> None:
    async def scenario(here: RawCsms) -> None:
        name = await here.charging()
        dynamic = profile(
            here, evse_id=1, id=4, chargingProfilePurpose="TxProfile", chargingProfileKind="Dynamic", transactionId=name,
            dynUpdateInterval=10, period={"operationMode": "CentralSetpoint", "setpoint": 0.0, "limit": 9000.0,
                                          "dischargeLimit": -9000.0},
        )  # fmt: skip
        update = {"chargingProfileId": 4, "scheduleUpdate": {"setpoint": -5000.0}}
        assert await here.status("UpdateDynamicSchedule", update) == "Rejected"
        assert await here.status("SetChargingProfile", dynamic) == "Accepted"
        assert await here.status("UpdateDynamicSchedule", update) == "Accepted"
        assert here.station.power_wish_kw() == -5.0
        pulled = {"status": "Accepted", "scheduleUpdate": {"setpoint": 4000.0}}
        here.answers["PullDynamicScheduleUpdate"] = lambda _fields: pulled
        await here.after(12.0)
        assert here.all("PullDynamicScheduleUpdate") == [{"chargingProfileId": 4}]
        assert here.station.power_wish_kw() == 4.0
        here.station.faults.refuses_discharge = True
        assert await here.status("UpdateDynamicSchedule", update) == "Rejected"

    with_csms(scenario)


def test_what_does_not_survive_being_offline_does_not_come_back() -> None:
    async def scenario(here: RawCsms) -> None:
        await here.ask("SetChargingProfile", profile(here))
        name = await here.charging()
        long_lease = lease(here, name, seconds=3600, maxOfflineDuration=10, invalidAfterOfflineDuration=True)
        assert await here.status("SetChargingProfile", long_lease) == "Accepted"
        here.reachable = False
        assert here.link is not None
        here.link.drop()
        await here.after(5.0)
        assert here.station.power_wish_kw() == -7.0
        await here.after(6.0)
        assert here.station.power_wish_kw() == 3.0
        here.reachable = True
        await here.after(60.0)
        assert here.station.connected
        assert here.station.power_wish_kw() == 3.0, "nothing resumes by itself"

    with_csms(scenario)


# --- Q ----------------------------------------------------------------------------------------------------------------
CURVES: dict[str, Any] = {
    "v2xSignalWattCurve": [{"signal": -10, "power": -6000.0}, {"signal": 10, "power": 6000.0}],
    "v2xFreqWattCurve": [{"frequency": 49.8, "power": -5000.0}, {"frequency": 50.2, "power": 5000.0}],
}


async def mode(here: RawCsms, name: str, **period: Any) -> None:
    set_ = profile(here, evse_id=0, period={"operationMode": name, "limit": None, **period})
    assert await here.status("SetChargingProfile", set_) == "Accepted"


def test_an_afrr_signal_moves_the_power_by_its_curve() -> None:
    async def scenario(here: RawCsms) -> None:
        def signal(value: int, seconds: float = 0.0) -> dict[str, Any]:
            return {"timestamp": here.now(seconds), "signal": value}

        await here.charging()
        assert await here.status("AFRRSignal", signal(5)) == "Rejected", "no profile asks for it"
        await mode(here, "CentralFrequency", setpoint=1000.0, v2xSignalWattCurve=CURVES["v2xSignalWattCurve"])
        assert here.station.power_wish_kw() == 1.0
        assert await here.status("AFRRSignal", signal(-5)) == "Accepted"
        assert here.station.power_wish_kw() == -2.0
        assert await here.status("AFRRSignal", signal(9, -60.0)) == "Rejected", "older than the last"
        assert here.station.power_wish_kw() == -2.0
        await here.after(1.0)
        assert ("Updated", "OperationModeChanged") in here.events()

    with_csms(scenario)


def test_the_station_follows_frequency_and_meter_by_itself() -> None:
    async def scenario(here: RawCsms) -> None:
        await here.charging()
        await mode(here, "LocalFrequency", v2xBaseline=0.0, v2xFreqWattCurve=CURVES["v2xFreqWattCurve"])
        for hertz, kw in ((50.0, 0.0), (49.9, -2.5), (49.0, -5.0), (50.1, 2.5)):
            here.station.blocks.v2x.sense(frequency_hz=hertz)
            assert here.station.power_wish_kw() == pytest.approx(kw), hertz
        await mode(here, "LocalLoadBalancing")
        here.station.blocks.v2x.sense(load_kw=3.5)
        assert here.station.power_wish_kw() == -3.5
        await mode(here, "ExternalSetpoint", limit=4000.0)
        here.station.blocks.v2x.sense(external_kw=7.0)
        assert here.station.power_wish_kw() == 4.0
        await mode(here, "Idle")
        assert here.station.power_wish_kw() == 0.0
        here.station.blocks.model.fix("V2XChargingCtrlr", "Enabled", "false")
        refused = profile(here, period={"operationMode": "LocalLoadBalancing", "limit": None})
        assert await here.status("SetChargingProfile", refused) == "Rejected"

    with_csms(scenario)


def test_without_bidirectional_service_nothing_flows_out() -> None:
    async def scenario(here: RawCsms) -> None:
        here.answers["Authorize"] = lambda _f: {"idTokenInfo": {"status": "Accepted"}, "allowedEnergyTransfer": ["DC"]}
        name = await here.charging()
        await here.ask("SetChargingProfile", lease(here, name, seconds=60))
        assert here.station.power_wish_kw() == 0.0
        told = {"transactionId": name, "allowedEnergyTransfer": ["DC_BPT"]}
        needs = len(here.all("NotifyEVChargingNeeds"))
        assert await here.status("NotifyAllowedEnergyTransfer", told | {"transactionId": "x"}) == "Rejected"
        only_ac = told | {"allowedEnergyTransfer": ["AC_BPT"]}
        assert await here.status("NotifyAllowedEnergyTransfer", only_ac) == "Rejected"
        assert await here.status("NotifyAllowedEnergyTransfer", told) == "Accepted"
        assert here.station.power_wish_kw() == -7.0
        await here.after(1.0)
        assert len(here.all("NotifyEVChargingNeeds")) == needs + 1
        here.station.unplug()
        here.answers.clear()
        name = await here.charging("card-2", bidirectional=False)
        await here.ask("SetChargingProfile", lease(here, name, seconds=60))
        assert here.station.power_wish_kw() == 0.0

    with_csms(scenario)


# --- R ----------------------------------------------------------------------------------------------------------------
CURVE = {"curveData": [{"x": 1.0, "y": 2.0}], "priority": 1, "yUnit": "PctMaxW"}
BODIES: dict[str, dict[str, Any]] = {
    "curve": CURVE,
    "enterService": {"priority": 1, "highVoltage": 250.0, "lowVoltage": 200.0, "highFreq": 50.1, "lowFreq": 49.9},
    "fixedPFAbsorb": {"priority": 1, "displacement": 0.9, "excitation": True},
    "fixedPFInject": {"priority": 1, "displacement": 0.9, "excitation": True},
    "fixedVar": {"priority": 1, "setpoint": 5.0, "unit": "PctMaxVar"},
    "freqDroop": {
        "priority": 1, "overFreq": 50.1, "underFreq": 49.9, "overDroop": 0.05, "underDroop": 0.05, "responseTime": 1.0,
    },
    "gradient": {"priority": 1, "gradient": 1.0, "softGradient": 1.0},
    "limitMaxDischarge": {"priority": 1, "pctMaxDischargePower": 50.0},
}  # fmt: skip


def control(kind: str, name: str = "c-1", is_default: bool = True, **body: Any) -> dict[str, Any]:
    field = BODY_OF[kind]
    return {"isDefault": is_default, "controlId": name, "controlType": kind, field: BODIES[field] | body}


@pytest.mark.parametrize("kind", sorted(BODY_OF))
def test_each_of_the_22_controls_is_set_reported_and_cleared(kind: str) -> None:
    async def scenario(here: RawCsms) -> None:
        set_ = control(kind)
        wrong = "freqDroop" if BODY_OF[kind] != "freqDroop" else "fixedVar"
        bare = {key: set_[key] for key in ("isDefault", "controlId", "controlType")}
        assert await here.status("SetDERControl", bare) == "Rejected"
        assert await here.status("SetDERControl", bare | {wrong: BODIES[wrong]}) == "Rejected"
        assert await here.status("SetDERControl", set_ | {wrong: BODIES[wrong]}) == "Rejected"
        assert await here.status("GetDERControl", {"requestId": 1}) == "NotFound"
        assert await here.status("SetDERControl", set_) == "Accepted"
        assert await here.status("GetDERControl", {"requestId": 2, "controlType": kind}) == "Accepted"
        await here.after(1.0)
        report = here.all("ReportDERControl")[0]
        assert report[BODY_OF[kind]][0]["id"] == "c-1"
        assert await here.status("ClearDERControl", {"isDefault": True, "controlId": "c-2"}) == "NotFound"
        assert await here.status("ClearDERControl", {"isDefault": False, "controlId": "c-1"}) == "NotFound"
        assert await here.status("ClearDERControl", {"isDefault": True, "controlType": kind}) == "Accepted"
        here.station.blocks.model.fix("DCDERCtrlr", "Enabled", "false")
        assert await here.status("SetDERControl", set_) == "NotSupported"

    with_csms(scenario)
    assert len(BODY_OF) == 22


def test_controls_give_way_by_priority_and_begin_and_end_on_time() -> None:
    async def scenario(here: RawCsms) -> None:
        assert await here.status("SetDERControl", control("FixedVar", "low", priority=5)) == "Accepted"
        told = await here.ask("SetDERControl", control("FixedVar", "high", priority=2))
        assert told == {"status": "Accepted", "supersededIds": ["low"]}
        assert (await here.ask("SetDERControl", control("FixedVar", "late", priority=9))) == {"status": "Accepted"}
        held = here.station.blocks.der.held
        assert [held[name].superseded for name in ("low", "high", "late")] == [True, False, True]
        await here.ask("ClearDERControl", {"isDefault": True, "controlId": "high"})
        assert [held[name].superseded for name in ("low", "late")] == [False, True]
        timed: dict[str, Any] = {"startTime": here.now(5.0), "duration": 10.0}
        assert await here.status("SetDERControl", control("FixedVar", "t", is_default=False)) == "Rejected"
        assert await here.status("SetDERControl", control("FixedVar", "t", **timed)) == "Rejected"
        past: dict[str, Any] = {"startTime": here.now(-50.0), "duration": 10.0}
        assert await here.status("SetDERControl", control("FixedVar", "t", is_default=False, **past)) == "Rejected"
        assert await here.status("SetDERControl", control("FixedVar", "t", is_default=False, **timed)) == "Accepted"
        await here.after(7.0)
        started = here.all("NotifyDERStartStop")[0]
        assert (started["controlId"], started["started"]) == ("t", True)
        assert set(started["supersededIds"]) == {"low", "late"}
        await here.after(10.0)
        assert here.all("NotifyDERStartStop")[1]["started"] is False
        assert "t" not in held
        here.station.blocks.der.alarm("HFMustTrip", "OverFrequency")
        await here.after(1.0)
        assert here.all("NotifyDERAlarm")[0]["gridEventFault"] == "OverFrequency"

    with_csms(scenario)


def test_grid_controls_shape_the_power() -> None:
    async def scenario(here: RawCsms) -> None:
        name = await here.charging()
        await here.ask("SetChargingProfile", lease(here, name, -9000.0, 60))
        await here.ask("SetDERControl", control("LimitMaxDischarge"))
        assert here.station.power_wish_kw() == -5.5, "half of 11 kW"
        await here.ask("SetDERControl", control("FreqDroop", "d"))
        await here.ask("ClearDERControl", {"isDefault": True, "controlType": "LimitMaxDischarge"})
        here.station.blocks.v2x.sense(frequency_hz=50.6)
        assert here.station.power_wish_kw() == pytest.approx(-9.0 + 0.5 / (50 * 0.05) * 11.0, abs=1e-6)

    with_csms(scenario)


# --- I ----------------------------------------------------------------------------------------------------------------
def tariff(name: str = "day", price: float = 0.5, currency: str = "EUR", **price_more: Any) -> dict[str, Any]:
    return {"tariffId": name, "currency": currency, "energy": {"prices": [{"priceKwh": price, **price_more}]}}


def test_tariffs_are_kept_told_and_counted_by() -> None:
    async def scenario(here: RawCsms) -> None:
        async def default(told: dict[str, Any], evse_id: int = 0) -> str:
            return await here.status("SetDefaultTariff", {"evseId": evse_id, "tariff": told})

        assert await here.status("GetTariffs", {"evseId": 0}) == "NoTariff"
        assert await default(tariff(), 4) == "Rejected"
        assert await default(tariff(conditions={"minEnergy": 5.0})) == "ConditionNotSupported"
        crowd = {"tariffId": "x", "currency": "EUR", "energy": {"prices": [{"priceKwh": 1.0}] * 11}}
        assert await default(crowd) == "TooManyElements"
        assert await default(tariff()) == "Accepted"
        told = await here.ask("GetTariffs", {"evseId": 1})
        assert told["tariffAssignments"] == [{"tariffId": "day", "tariffKind": "DefaultTariff", "evseIds": [1]}]
        name = await here.charging()
        change = {"transactionId": name, "tariff": tariff("night", 0.25)}
        assert await here.status("ChangeTransactionTariff", change | {"transactionId": "x"}) == "TxNotFound"
        dollars = change | {"tariff": tariff("usa", currency="USD")}
        assert await here.status("ChangeTransactionTariff", dollars) == "NoCurrencyChange"
        assert await here.status("ChangeTransactionTariff", change) == "Accepted"
        assert await default(tariff("night")) == "DuplicateTariffId"
        here.meter(7.0, taken_kwh=8.0)
        here.station.unplug()
        await here.after(1.0)
        assert ("Updated", "TariffChanged") in here.events()
        cost = here.all("TransactionEvent")[-1]["costDetails"]["totalCost"]
        assert cost["total"] == {"exclTax": 2.0}
        cleared = (await here.ask("ClearTariffs", {"tariffIds": ["day", "no"]}))["clearTariffsResult"]
        assert [item["status"] for item in cleared] == ["Accepted", "NoTariff"]
        assert (await here.ask("ClearTariffs"))["clearTariffsResult"] == [{"status": "NoTariff"}]

    with_csms(scenario)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_running_cost_is_kept_for_its_transaction_only(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        name = await here.charging()
        assert await here.ask("CostUpdated", {"totalCost": 3.5, "transactionId": "foreign"}) == {}
        now = here.station.blocks.transactions.now
        assert now is not None
        assert now.cost == 0.0
        await here.ask("CostUpdated", {"totalCost": 3.5, "transactionId": name})
        assert now.cost == 3.5

    with_csms(scenario, version)


# --- J ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", VERSIONS)
def test_meter_values_come_on_the_clocks_grid(version: Version) -> None:
    async def scenario(here: RawCsms) -> None:
        await here.charging()
        for interval, wanted in (("0", 0), ("10", 3)):
            here.station.blocks.model.fix("AlignedDataCtrlr", "Interval", interval)
            here.heard.clear()
            for _ in range(31):
                await here.after(1.0)
                here.meter(-5.0, 0.42)
            assert len(here.all("MeterValues")) == wanted
        values = here.all("MeterValues")[0]["meterValue"][0]["sampledValue"]
        told = {item["measurand"]: item["value"] for item in values}
        assert told["Power.Active.Export"] == 5000.0
        assert told["SoC"] == 42.0

    with_csms(scenario, version)
