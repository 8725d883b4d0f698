"""AFRRSignal is checked against the curve that the station took last (Q07)."""

from typing import Any

import pytest

from gridtide.run.csms.registry import StationEntry
from tests.day.csms_kit import Kit
from tests.day.wire_site import START_S, on_wire


def profile(kit: Kit, number: int, *signals: int) -> dict[str, Any]:
    period: dict[str, Any] = {"startPeriod": 0, "limit": 5_000.0}
    if signals:
        curve = [{"signal": signal, "power": 10.0 * place} for place, signal in enumerate(signals)]
        mode = {"operationMode": "CentralFrequency", "setpoint": 5_000.0, "dischargeLimit": 0.0}
        period = {"startPeriod": 0, "v2xSignalWattCurve": curve, **mode}
    return {
        "id": number, "stackLevel": 3, "chargingProfilePurpose": "TxDefaultProfile",
        "chargingProfileKind": "Absolute", "chargingSchedule": [
            {"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": [period], "startSchedule": kit.stamp()}
        ],
    }  # fmt: skip


async def unsteered(kit: Kit, **replies: Any) -> None:
    """Only there profiles of others may be."""
    await kit.csms.registry.put_station(StationEntry(identity="later"), "ann", START_S)
    await kit.station("later", **replies)


async def put(kit: Kit, number: int, *signals: int) -> None:
    made = profile(kit, number, *signals)
    outcome = await kit.operate("SetChargingProfile", "later", evseId=1, chargingProfile=made)
    assert outcome.status == "answered", outcome


async def takes(kit: Kit, signal: int) -> bool:
    try:
        return bool(await kit.operate("AFRRSignal", "later", timestamp=kit.stamp(), signal=signal))
    except ValueError as error:
        if "the curve holds" not in str(error):
            raise
        return False


def test_the_range_is_that_of_the_newest_curve_also_after_a_restart() -> None:
    async def scenario() -> None:
        kit = Kit()
        await unsteered(kit)
        assert [await takes(kit, signal) for signal in (-101, -100, 100)] == [False, True, True]
        await put(kit, 7, -5, 0, 10)
        assert [await takes(kit, signal) for signal in (-6, -5, 10, 11)] == [False, True, True, False]
        await put(kit, 8)
        assert not await takes(kit, 11), "a profile without one says nothing of it"
        again = Kit(store=kit.store)
        await unsteered(again)
        assert [await takes(again, signal) for signal in (10, 11)] == [True, False]
        await put(kit, 9, -20, 20)
        assert [await takes(kit, signal) for signal in (-20, 21)] == [True, False]

    on_wire(scenario)


@pytest.mark.parametrize("status", ["Accepted", "Rejected"])
def test_only_what_the_station_took_counts(status: str) -> None:
    async def scenario() -> None:
        kit = Kit()
        await unsteered(kit, SetChargingProfile={"status": status})
        await put(kit, 7, -5, 10)
        assert await takes(kit, 50) == (status == "Rejected")

    on_wire(scenario)


@pytest.mark.parametrize(
    ("cleared", "known"),
    [({"chargingProfileId": 7}, False), ({"chargingProfileId": 6}, True), ({"chargingProfileCriteria": {}}, False)],
)
def test_a_cleared_or_replaced_curve_is_not_known_any_more(cleared: dict[str, Any], known: bool) -> None:
    async def scenario() -> None:
        kit = Kit()
        await unsteered(kit, ClearChargingProfile={"status": "Accepted"})
        await put(kit, 7, -5, 10)
        await kit.operate("ClearChargingProfile", "later", **cleared)
        assert await takes(kit, 50) != known
        await put(kit, 7, -5, 10)
        await put(kit, 7)
        assert await takes(kit, 50)

    on_wire(scenario)
