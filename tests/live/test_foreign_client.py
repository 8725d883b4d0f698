"""Somebody else's station: PyPI `ocpp` speaks to our CSMS over a real WebSocket, in OCPP 2.0.1 and 2.1."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import ocpp.exceptions
import ocpp.v21
import ocpp.v201
import pytest
from ocpp.routing import on
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from gridtide.control import site
from gridtide.control.peak import PeakSettings
from gridtide.model.fleet import SiteLimits
from gridtide.run.modbus import MemoryMeter
from gridtide.run.pki import Pki
from gridtide.run.site import SiteService
from gridtide.wire.modbus.registers import Register, RegisterMap
from gridtide.wire.ocpp.actions import Version
from tests.live.csms_server import PROFILES, Door, SecurityProfile, Served, provision, serving, until
from tests.live.foreign_story import ACTOR, CONSENT, TRANSFER, asked, check_stored
from tests.live.recorded_frames import RecordedFrames, RecordedSocket

METER = RegisterMap("site", 1, (Register("power_kw", 0, "int32", unit="W"),), source="tests")
PACKAGES: dict[str, Any] = {"2.0.1": ocpp.v201, "2.1": ocpp.v21}


class Habits:
    """What our foreign station does with what it hears; every profile is kept in the order of its arrival."""

    takes_default = True
    """Accepts the default profile underneath."""

    allowed: list[str]
    """Energy transfers that the CSMS authorised."""

    async def _handle_call(self, msg: Any) -> Any:
        """What it has no handler for is refused. On 2.1 the library alone would leave such a call unanswered, and everything
        that the CSMS has to say would wait behind it for as long as that call may take."""
        if "_on_action" not in self.route_map.get(msg.action, {}):  # type: ignore[attr-defined]
            raise ocpp.exceptions.NotImplementedError(description=f"no handler for {msg.action}")
        return await super()._handle_call(msg)  # type: ignore[misc]

    def remember(self, record: RecordedFrames) -> None:
        """Begin with nothing heard; `record` notes all that is said."""
        self.record = record
        self.profiles: list[dict[str, Any]] = []
        self.stopped: list[str] = []
        """Transactions that the CSMS asked to stop."""

    @on("SetChargingProfile")  # type: ignore[untyped-decorator]
    def on_profile(self, evse_id: int, charging_profile: dict[str, Any], **_rest: Any) -> Any:
        self.profiles.append({"evse_id": evse_id, **charging_profile})
        is_default = charging_profile["charging_profile_purpose"] == "TxDefaultProfile"
        status = "Rejected" if is_default and not self.takes_default else "Accepted"
        return self.package.call_result.SetChargingProfile(status=status)

    @on("SetVariables")  # type: ignore[untyped-decorator]
    def on_set_variables(self, set_variable_data: list[dict[str, Any]], **_rest: Any) -> Any:
        results = [
            {"attribute_status": "Accepted", "component": item["component"], "variable": item["variable"]}
            for item in set_variable_data
        ]
        return self.package.call_result.SetVariables(set_variable_result=results)

    @on("GetVariables")  # type: ignore[untyped-decorator]
    def on_get_variables(self, get_variable_data: list[dict[str, Any]], **_rest: Any) -> Any:
        """It knows none of them."""
        results = [
            {"attribute_status": "UnknownComponent", "component": item["component"], "variable": item["variable"]}
            for item in get_variable_data
        ]
        return self.package.call_result.GetVariables(get_variable_result=results)

    @on("GetCompositeSchedule")  # type: ignore[untyped-decorator]
    def on_composite(self, duration: int, evse_id: int, **_rest: Any) -> Any:
        newest = self.profiles[-1]["charging_schedule"][0]
        schedule = {
            "evse_id": evse_id, "duration": duration, "schedule_start": now(),
            "charging_rate_unit": newest["charging_rate_unit"],
            "charging_schedule_period": newest["charging_schedule_period"],
        }  # fmt: skip
        return self.package.call_result.GetCompositeSchedule(status="Accepted", schedule=schedule)

    @on("RequestStopTransaction")  # type: ignore[untyped-decorator]
    def on_stop(self, transaction_id: str, **_rest: Any) -> Any:
        self.stopped.append(transaction_id)
        return self.package.call_result.RequestStopTransaction(status="Accepted")

    @property
    def package(self) -> Any:
        return PACKAGES[self._ocpp_version]  # type: ignore[attr-defined]

    @property
    def powers_w(self) -> list[float]:
        """What each profile so far asks for, W: the setpoint, or the limit."""
        periods = [item["charging_schedule"][0]["charging_schedule_period"][0] for item in self.profiles]
        return [period.get("setpoint", period.get("limit")) for period in periods]

    async def say(self, action: str, **fields: Any) -> Any:
        """A call of the library's own making, checked against its schemas both ways."""
        return await self.call(getattr(self.package.call, action)(**fields), suppress=False)  # type: ignore[attr-defined]

    async def say_raw(self, action: str, payload: dict[str, Any]) -> Any:
        """Raw JSON, for names that the library's case conversion breaks; the answer's payload, as it came."""
        async with self._call_lock:  # type: ignore[attr-defined]
            await self._send(json.dumps([2, f"raw-{action}", action, payload]))  # type: ignore[attr-defined]
            answer = await self._get_specific_response(f"raw-{action}", 5)  # type: ignore[attr-defined]
        assert type(answer).__name__ == "CallResult", answer
        return answer.payload

    async def transaction(
        self, kind: str, seq_no: int, soc: float | None = None, reason: str = "CablePluggedIn", **fields: Any
    ) -> Any:
        """A TransactionEvent of transaction `foreign-1`; with `soc` (percent) it carries meter values."""
        if soc is not None:
            samples = [
                {"value": 0.0, "measurand": "Power.Active.Import", "unit_of_measure": {"unit": "W"}},
                {"value": soc, "measurand": "SoC", "unit_of_measure": {"unit": "Percent"}},
            ]
            fields["meter_value"] = [{"timestamp": now(), "sampled_value": samples}]
        return await self.say(
            "TransactionEvent", event_type=kind, timestamp=now(), trigger_reason=reason, seq_no=seq_no,
            transaction_info={"transaction_id": "foreign-1"}, evse={"id": 1, "connector_id": 1}, **fields,
        )  # fmt: skip


class Foreign201(Habits, ocpp.v201.ChargePoint):  # type: ignore[misc]
    """An OCPP 2.0.1 station."""


class Foreign21(Habits, ocpp.v21.ChargePoint):  # type: ignore[misc]
    """An OCPP 2.1 station."""


Foreign = Foreign201 | Foreign21


def now(later_s: float = 0.0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=later_s)).isoformat()


def dialled(door: Door, version: Version) -> connect:
    """A client's connection as `bay-1`."""
    return connect(
        f"{door.url}/bay-1", subprotocols=[Subprotocol(f"ocpp{version}")], additional_headers=door.headers, ssl=door.tls,
        proxy=None,
    )  # fmt: skip


@asynccontextmanager
async def foreign(served: Served, version: Version, takes_default: bool = True) -> AsyncIterator[Foreign]:
    """`bay-1`, connected as the security profile asks, booted, authorised and in a transaction at 70 %.

    In the end every frame of both sides must have been valid by the official schemas.
    """
    door, record = served.connect("bay-1"), RecordedFrames()
    async with dialled(door, version) as socket:
        assert socket.subprotocol == f"ocpp{version}"
        recorded = RecordedSocket(socket, record)
        station = (Foreign21 if version == "2.1" else Foreign201)("bay-1", recorded, response_timeout=5)
        station.takes_default = takes_default
        station.remember(record)
        listening = asyncio.ensure_future(station.start())
        try:
            await begin(station)
            yield station
            assert record.check(version) > 10
            assert (record.unanswered("station"), record.unanswered("csms")) == ([], [])
            assert {"BootNotification", "Authorize", "TransactionEvent"} <= set(record.said("station"))
            assert {"SetChargingProfile", "SetVariables"} <= set(record.said("csms"))
        finally:
            listening.cancel()


async def begin(station: Foreign) -> None:
    about = {"model": "Foreign", "vendor_name": "PyPI"}
    booted = await station.say("BootNotification", charging_station=about, reason="PowerUp")
    assert booted.status == "Accepted"
    assert abs(datetime.fromisoformat(booted.current_time) - datetime.now(UTC)) < timedelta(seconds=5)
    await station.say(
        "StatusNotification", timestamp=now(), connector_status="Occupied", evse_id=1, connector_id=1
    )  # fmt: skip
    authorised = await station.say_raw("Authorize", {"idToken": {"idToken": "card-7", "type": "ISO14443"}})
    assert authorised["idTokenInfo"]["status"] == "Accepted"
    station.allowed = authorised.get("allowedEnergyTransfer", [])
    started = await station.transaction("Started", 0, id_token={"id_token": "card-7", "type": "ISO14443"})
    assert started.id_token_info["status"] == "Accepted"
    await station.transaction("Updated", 1, soc=70.0)
    await until(lambda: station.profiles, "the default profile")


async def tell_needs(station: Foreign, transfer: str) -> None:
    """The vehicle's needs, raw: `maxDischargePower_L2` is a name that the library cannot say."""
    dc = {
        "evMaxCurrent": 40,
        "evMaxVoltage": 500,
        "evMaxPower": 11_000,
        "evEnergyCapacity": 60_000,
        "stateOfCharge": 70,
    }
    needs: dict[str, Any] = {"requestedEnergyTransfer": transfer, "dcChargingParameters": dc, "departureTime": now(9e4)}
    if station._ocpp_version == "2.1":
        needs["v2xChargingParameters"] = {
            "maxChargePower": 11_000, "maxDischargePower": 9_000, "maxDischargePower_L2": 3_000, "targetSoC": 60
        }  # fmt: skip
    answer = await station.say_raw("NotifyEVChargingNeeds", {"evseId": 1, "chargingNeeds": needs})
    assert answer["status"] == "Accepted"


async def hears(station: Foreign, power_w: float) -> None:
    try:
        await until(lambda: station.powers_w[-1] == power_w, f"a profile of {power_w} W")
    except AssertionError as error:
        error.add_note(f"heard: {station.powers_w} W; unanswered by the station: {station.record.unanswered('csms')}")
        raise


class Loop:
    """Real cycles of the site service, one at a time, behind a meter whose reading a test sets."""

    def __init__(self, served: Served) -> None:
        self.meter_kw, self._wiggle = 150.0, 0
        settings = site.Settings(
            table=served.table, limits=SiteLimits(transformer_kw=400.0),
            peak=PeakSettings(mode="threshold", limit_kw=220.0, buffer_kw=20.0),
        )  # fmt: skip
        meter = MemoryMeter(self._read, METER, served.clock)
        self.service = SiteService(
            settings, served.board, served.csms, meter, served.store, served.clock, period=lambda _: (0.0, 4e9)
        )

    def _read(self) -> dict[str, float]:
        self._wiggle += 1
        return {"power_kw": self.meter_kw + 0.001 * (self._wiggle % 7)}

    async def cycles(self, meter_kw: float) -> None:
        """Eight cycles with this import."""
        self.meter_kw = meter_kw
        for _ in range(8):
            await self.service.cycle()
            await asyncio.sleep(0.01)


def of_lease(station: Foreign) -> dict[str, Any]:
    """The newest profile, checked as a lease of ours."""
    profile = station.profiles[-1]
    assert profile["charging_profile_purpose"] == "TxProfile"
    assert profile["transaction_id"] == "foreign-1"
    assert profile["stack_level"] > station.profiles[0]["stack_level"]
    ends = datetime.fromisoformat(profile["valid_to"]) - datetime.now(UTC)
    lease_s = 5.0 if station.powers_w[-1] < 0.0 else 60.0
    assert timedelta(0) < ends <= timedelta(seconds=lease_s)
    return profile


def test_a_2_1_station_charges_gives_and_leaves() -> None:
    async def scenario() -> None:
        async with serving(provision(0, dialect="v21_setpoint")) as served, foreign(served, "2.1") as station:
            assert "DC_BPT" in station.allowed
            default = station.profiles[0]
            assert default["charging_profile_purpose"] == "TxDefaultProfile"
            assert default["stack_level"] == 0
            assert "valid_to" not in default
            assert station.powers_w[0] == 6_000.0
            assert served.board.soc[0] == 0.7
            loop = Loop(served)
            await loop.cycles(245.0)
            assert min(station.powers_w) >= 0.0, "bidirectional transfer is not negotiated yet"
            await tell_needs(station, "DC_BPT")
            assert served.board.may_discharge[0]
            assert served.board.discharge_limit_kw[0] == 9.0
            await station.transaction("Updated", 2, soc=70.0)
            await loop.cycles(245.0)
            await until(lambda: station.powers_w[-1] < 0.0, "a discharge")
            profile = of_lease(station)
            period = profile["charging_schedule"][0]["charging_schedule_period"][0]
            assert period["operation_mode"] == "CentralSetpoint"
            assert -9_000.0 <= period["setpoint"] < 0.0
            assert profile["invalid_after_offline_duration"] is True
            await station.transaction("Updated", 3, soc=40.0)
            await loop.cycles(150.0)
            await until(lambda: station.powers_w[-1] > 0.0, "a charging limit")
            of_lease(station)
            await station.transaction("Ended", 4)
            assert not served.board.connected[0]
            heard = len(station.profiles)
            await loop.cycles(245.0)
            assert len(station.profiles) == heard
            check_stored(served, 5)

    asyncio.run(scenario())


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
def test_boot_authorise_transaction_profile_composite_stop(
    version: Version, profile: SecurityProfile, station_pki: Pki
) -> None:
    async def scenario() -> None:
        rig = serving(provision(0, **CONSENT[version]), profile=profile, pki=station_pki)
        async with rig as served, foreign(served, version) as station:
            await tell_needs(station, TRANSFER[version])
            await until(lambda: served.board.may_discharge[0], "consent to discharge")
            for power_kw in (7.4, -4.0, 5.0):
                served.set_power(power_kw)
                await hears(station, 1000.0 * power_kw)
                of_lease(station)
            told = await asked(served, "GetCompositeSchedule", {"duration": 60, "evseId": 1})
            assert told["status"] == "Accepted"
            schedule = told["schedule"]
            assert (schedule["evseId"], schedule["duration"], schedule["chargingRateUnit"]) == (1, 60, "W")
            assert [item["limit"] for item in schedule["chargingSchedulePeriod"]] == [5_000.0]
            assert await asked(served, "RequestStopTransaction", {"transactionId": "foreign-1"}) == {
                "status": "Accepted"
            }
            assert station.stopped == ["foreign-1"]
            await station.transaction("Ended", 2, reason="RemoteStop")
            assert not served.board.connected[0]
            check_stored(served)

    asyncio.run(scenario())


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
def test_what_it_has_no_handler_for_is_refused_and_holds_nothing_up(version: Version) -> None:
    async def scenario() -> None:
        async with serving(provision(0)) as served, foreign(served, version) as station:
            outcome = await served.csms.operator.call("bay-1", "ClearCache", {}, ACTOR)
            assert (outcome.status, outcome.code) == ("error", "NotImplemented")
            served.set_power(3.0)
            await hears(station, 3_000.0)
            await station.transaction("Ended", 2)

    asyncio.run(scenario())


@pytest.mark.parametrize("profile", PROFILES)
def test_a_station_comes_in_by_its_own_security_profile_alone(profile: SecurityProfile, station_pki: Pki) -> None:
    async def scenario() -> None:
        async with serving(provision(0), provision(1), profile=profile, pki=station_pki) as served:
            for other in PROFILES:
                # On profile 3 a password proves nothing; on 2 the certificate of the very station takes no password's place.
                if other != profile:
                    with pytest.raises(InvalidStatus, match="401"):
                        await dialled(served.connect("bay-1", other), "2.1").__aenter__()
            with pytest.raises(InvalidStatus, match="401"):
                await dialled(served.connect("bay-2"), "2.1").__aenter__()
            assert served.csms.online == 0
            async with foreign(served, "2.1") as station:
                assert served.csms.online == 1
                await station.transaction("Ended", 2)

    asyncio.run(scenario())


def test_a_2_0_1_station_gives_by_a_negative_limit_with_the_operators_consent() -> None:
    async def scenario() -> None:
        consenting = provision(0, dialect="v201_negative_limit", discharge_opt_in=True)
        async with serving(consenting) as served, foreign(served, "2.0.1") as station:
            assert station.profiles[0]["charging_profile_purpose"] == "TxDefaultProfile"
            await tell_needs(station, "DC")
            loop = Loop(served)
            await station.transaction("Updated", 2, soc=70.0)
            await loop.cycles(245.0)
            await until(lambda: station.powers_w[-1] < 0.0, "a discharge")
            of_lease(station)
            served.set_power(3.0)
            await hears(station, 3_000.0)
            of_lease(station)
            await station.transaction("Ended", 3)
            check_stored(served, 4)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("version", "fields", "transfer", "takes_default"),
    [
        ("2.1", {"dialect": "refuse"}, "DC_BPT", True),
        ("2.1", {"dialect": "v21_setpoint"}, "DC_BPT", False),
        ("2.1", {"dialect": "v21_setpoint"}, "DC", True),
        ("2.1", {"dialect": "v201_negative_limit", "discharge_opt_in": True}, "DC_BPT", True),
        ("2.0.1", {"dialect": "refuse", "discharge_opt_in": True}, "DC", True),
        ("2.0.1", {"dialect": "v201_negative_limit"}, "DC", True),
        ("2.0.1", {"dialect": "v201_negative_limit", "discharge_opt_in": True}, "DC", False),
    ],
    ids=["refused", "no default underneath", "not negotiated", "wrong dialect", "refused", "no consent", "no default"],
)
def test_discharge_never_arrives_without_all_it_needs(
    version: Version, fields: dict[str, object], transfer: str, takes_default: bool
) -> None:
    async def scenario() -> None:
        async with serving(provision(0, **fields)) as served, foreign(served, version, takes_default) as station:
            assert "DC_BPT" not in station.allowed or (version == "2.1" and fields["dialect"] != "refuse")
            await tell_needs(station, transfer)
            for power_kw in (-5.0, 2.0, -8.0, 4.0):
                served.set_power(power_kw)
                if power_kw > 0.0:
                    await hears(station, 1000.0 * power_kw)
            assert min(station.powers_w) >= 0.0
            assert "discharge_denied" in served.codes
            await station.transaction("Ended", 2)
            check_stored(served, 3)

    asyncio.run(scenario())


def test_a_repeated_event_is_stored_once() -> None:
    async def scenario() -> None:
        async with serving(provision(0, dialect="v21_setpoint")) as served, foreign(served, "2.1") as station:
            for _ in range(3):
                await station.transaction("Updated", 1, soc=12.0)
            assert served.board.soc[0] == 0.7
            await station.transaction("Ended", 2)
            check_stored(served, 3)
            assert np.isnan(served.board.soc[0])

    asyncio.run(scenario())
