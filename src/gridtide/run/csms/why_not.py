"""Why a vehicle may not be discharged at an EVSE, in words, each with what to do about it.

The rules themselves are the intake's and the guard's; this only tells them, the most lasting reason first.
"""

import math
from collections.abc import Iterator

from gridtide.control.needs import NeedSettings, assess
from gridtide.model.fleet import EvseTable, FleetSample
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.registry import Registry
from gridtide.run.csms.station import Station


def why_not(
    station: Station,
    row: int | None,
    registry: Registry,
    board: EvidenceBoard,
    table: EvseTable,
    needs: NeedSettings,
    lease_s: float,
) -> tuple[str, ...]:
    """Everything that keeps the EVSE of fleet row `row` (None: not steered yet) from discharging; empty if nothing does."""
    reasons = list(_of_station(station, registry))
    if row is None:
        return (*reasons, "It is not part of the steered fleet: write it into the site file and restart.")
    if table.discharge_kw[row] <= 0.0:
        reasons.append("This EVSE is registered as charge-only: its rated discharge power is 0 kW.")
    if board.fault[row]:
        tampered = row in station.tampered
        reasons.append(
            "Somebody tampered with it: look at it, then `gridtide clear-faults`."
            if tampered
            else "It reports a fault."
        )
    if row not in station.transactions:
        return (*reasons, "No vehicle is in a transaction here.")
    return (*reasons, *_of_vehicle(station, row, board, needs, lease_s))


def driver_first(row: int, fleet: FleetSample, table: EvseTable, needs: NeedSettings, cycle_s: float) -> str:
    """Why the driver of `row` stands above a discharge now, in words; empty if nothing does."""
    if not fleet.connected[row]:
        return ""
    need = assess(table, fleet, needs, cycle_s)
    if need.must[row]:
        return "Its driver comes first: it must charge now."
    if need.spare_s[row] <= needs.give_reserve_s:
        return "It is kept for its driver: too little time is left to charge again what it would give."
    return ""


def _of_station(station: Station, registry: Registry) -> Iterator[str]:
    name = station.provision.identity
    entry = registry.stations.get(name)
    if entry is not None and not entry.enabled:
        yield "The station is disabled: enable it."
    if registry.mode(name) == "charge-only":
        yield f"An operator set it to charge only: `gridtide profile {name} bidirectional` allows discharge again."
    elif station.provision.dialect == "refuse":
        yield "Its discharge dialect is `refuse`, the default: register one that the station is known to understand."
    elif station.conversation is not None and not station.fits():
        yield f"Its dialect {station.provision.dialect} does not go with OCPP {station.version}, which it speaks."
    if station.conversation is None:
        yield "It is offline."
    elif station.accepted is None:
        yield "It is connected and has not been accepted: waiting for its BootNotification."


def _of_vehicle(station: Station, row: int, board: EvidenceBoard, needs: NeedSettings, lease_s: float) -> Iterator[str]:
    if row in station.charge_only:
        yield "Its driver does not want the battery used."
    opted_in = station.version == "2.0.1" and station.provision.discharge_opt_in
    if row not in station.bidirectional and not opted_in:
        yield (
            "The vehicle has not agreed to bidirectional transfer."
            if station.version == "2.1"
            else "OCPP 2.0.1 cannot negotiate discharge, and the operator's consent is not recorded (discharge_opt_in)."
        )
    if row in station.refused:
        yield "The station rejected a discharge; it is asked again with the next transaction or boot."
    if station.accepted is not None and row not in station.underneath:
        yield "The non-discharging profile underneath is not confirmed by the station."
    if station.accepted is not None and row not in station.synced:
        yield "Its transaction has not spoken since the station connected."
    if abs(station.skew_s) > int(lease_s) / 2.0:
        yield f"The station's clock is off by {station.skew_s:.0f} s, so a lease could not be trusted to end."
    yield from _of_charge(row, board, needs)


def _of_charge(row: int, board: EvidenceBoard, needs: NeedSettings) -> Iterator[str]:
    soc, minimum = float(board.soc[row]), float(board.minimum_soc[row])
    if not (0.0 <= soc <= 1.0) or not board.capacity_kwh[row] > 0.0:
        yield "Its charge or battery size is unknown; a vehicle of unknown charge is never discharged."
        return
    lowest = max(needs.floor_soc, needs.window_low_soc, minimum if math.isfinite(minimum) else 0.0)
    if soc <= lowest:
        yield f"At {soc:.0%} it is not above the {lowest:.0%} that it is never used below."
