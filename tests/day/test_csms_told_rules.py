"""What a station told of itself binds what people may ask of it."""

from typing import Any

import pytest

from tests.day.csms_kit import Kit, variable
from tests.day.wire_site import on_wire


def test_read_only_variables_and_profile_limits_are_the_stations_own() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        fixed = variable("Fixed", "1")
        fixed["variableAttribute"][0]["mutability"] = "ReadOnly"
        hushed = variable("Hushed", "")
        hushed["variableAttribute"][0]["mutability"] = "WriteOnly"
        limits = (("ProfileStackLevel", "3"), ("PeriodsPerSchedule", "1"))
        smart = [variable(name, value, "SmartChargingCtrlr") for name, value in limits]
        other = [dict(variable("Mixed", "1"), component={"name": "Bay", "evse": {"id": number}}) for number in (1, 2)]
        other[0]["variableAttribute"][0]["mutability"] = "ReadOnly"
        told = {"requestId": 1, "seqNo": 0, "generatedAt": kit.stamp()}
        await raw.ask("NotifyReport", **told, reportData=[fixed, hushed, variable("Free", "1"), *smart, *other])

        async def put(name: str) -> Any:
            item = {"component": {"name": "Bay"}, "variable": {"name": name}, "attributeValue": "2"}
            return await kit.operate("SetVariables", setVariableData=[item])

        async def profile(level: int, periods: int) -> Any:
            made = [{"startPeriod": 60 * place, "limit": 5.0} for place in range(periods)]
            return await kit.operate(
                "SetChargingProfile", evseId=1,
                chargingProfile={
                    "id": 77, "stackLevel": level, "chargingProfilePurpose": "ChargingStationExternalConstraints",
                    "chargingProfileKind": "Absolute", "chargingSchedule": [
                        {"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": made, "startSchedule": kit.stamp()}
                    ],
                },
            )  # fmt: skip

        with pytest.raises(ValueError, match="read-only"):
            await put("Fixed")
        for name in ("Free", "Mixed"):
            assert (await put(name)).status == "answered"
        hushed_one = {"component": {"name": "Bay"}, "variable": {"name": "Hushed"}}
        with pytest.raises(ValueError, match="only be written"):
            await kit.operate("GetVariables", getVariableData=[hushed_one])
        with pytest.raises(ValueError, match="stackLevel"):
            await profile(4, 1)
        with pytest.raises(ValueError, match="eriod"):
            await profile(1, 2)

    on_wire(scenario)
