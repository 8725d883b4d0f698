"""What vehicles need and can do: NotifyEVChargingNeeds made evidence (K15-K17, Q01)."""

from typing import Any

from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.needs import NeedsKeeper
from gridtide.run.csms.station import Station
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.structs import WireStruct


class Vehicles:
    """Answers NotifyEVChargingNeeds."""

    def __init__(self, desk: Desk, needs: NeedsKeeper) -> None:
        self._desk, self._needs = desk, needs
        self.actions: dict[str, Act] = {"NotifyEVChargingNeeds": self._notified}

    def _notified(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        row = station.provision.rows.get(message.evseId)
        if row is None:
            return reply(station, "NotifyEVChargingNeeds", status="Rejected")
        if row in station.transactions:
            self.take(station, row, message.chargingNeeds)
        else:
            # Told before the transaction begins: it is the next one's.
            station.early_needs[row] = message.chargingNeeds
        return reply(station, "NotifyEVChargingNeeds", status="Accepted")

    def take(self, station: Station, row: int, needs: Any) -> None:
        """What a vehicle told of itself becomes evidence."""
        desk, board, table = self._desk, self._desk.board, self._desk.table
        dc = needs.dcChargingParameters
        if dc is not None and dc.evEnergyCapacity:
            board.capacity_kwh[row] = dc.evEnergyCapacity / 1000.0
            if dc.evMaxPower:
                board.charge_limit_kw[row] = min(dc.evMaxPower / 1000.0, float(table.charge_kw[row]))
        if needs.departureTime is not None:
            board.departs_s[row] = desk.monotonic_of(needs.departureTime.timestamp())
        v2x = getattr(needs, "v2xChargingParameters", None)
        target = v2x.targetSoC if v2x is not None else None
        if target is not None:
            board.need_soc[row] = target / 100.0
        elif dc is not None and dc.energyAmount is not None and dc.stateOfCharge is not None and dc.evEnergyCapacity:
            gained = dc.energyAmount / dc.evEnergyCapacity
            board.need_soc[row] = min(1.0, dc.stateOfCharge / 100.0 + gained)
        if v2x is not None and v2x.maxDischargePower is not None:
            board.discharge_limit_kw[row] = min(abs(v2x.maxDischargePower) / 1000.0, float(table.discharge_kw[row]))
        gives = str(needs.requestedEnergyTransfer).endswith("BPT")
        (station.bidirectional.add if gives else station.bidirectional.discard)(row)
        desk.judge(station, row)
        self._needs.keep(station, row)
