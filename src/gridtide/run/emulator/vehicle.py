"""What a vehicle tells its station at plug-in, and how the station passes it on."""

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from gridtide.run.emulator.core import Fields
from gridtide.wire.ocpp.actions import Version


class Car(Struct, frozen=True, kw_only=True):
    """What a vehicle tells its station at plug-in."""

    token: str
    capacity_kwh: float
    soc: float
    target_soc: float
    departs_s: float
    """UTC epoch seconds."""
    bidirectional: bool
    charge_kw: float
    discharge_kw: float
    tells: bool = True
    """False: the vehicle tells nothing (no ISO 15118); the driver's defaults must do."""


def token_fields(token: str, kind: str = "ISO14443") -> Fields:
    """An IdTokenType's fields."""
    return {"idToken": token, "type": kind}


def needs_fields(car: Car, soc: float | None, version: Version) -> Fields:
    """NotifyEVChargingNeeds of a DC vehicle; `soc` (0..1) as last measured."""
    charge = car.soc if soc is None else soc
    missing_wh = max(0.0, car.target_soc - charge) * car.capacity_kwh * 1000.0
    dc: dict[str, Any] = {
        "evMaxCurrent": 32, "evMaxVoltage": 500, "evMaxPower": round(car.charge_kw * 1000.0),
        "evEnergyCapacity": round(car.capacity_kwh * 1000.0), "energyAmount": round(missing_wh),
        "stateOfCharge": round(charge * 100.0),
    }  # fmt: skip
    needs: dict[str, Any] = {
        "requestedEnergyTransfer": "DC", "dcChargingParameters": dc,
        "departureTime": datetime.fromtimestamp(car.departs_s, UTC),
    }  # fmt: skip
    if version == "2.1":
        needs["requestedEnergyTransfer"] = "DC_BPT" if car.bidirectional else "DC"
        needs["v2xChargingParameters"] = {
            "maxChargePower": car.charge_kw * 1000.0, "maxDischargePower": car.discharge_kw * 1000.0,
            "targetSoC": round(car.target_soc * 100.0),
        }  # fmt: skip
    return {"evseId": 1, "chargingNeeds": needs}
