"""PullDynamicScheduleUpdate (K, 2.1): a station asks for the setpoint of a dynamic profile; it gets the controller's own."""

from typing import Any, Final

from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.setpoints import CHARGE_LEASE_S, LEASE_PROFILE_ID
from gridtide.run.csms.station import Station
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.structs import WireStruct

ACTION: Final = "PullDynamicScheduleUpdate"


class DynamicSchedules:
    """Answers PullDynamicScheduleUpdate; changes nothing: the profile that is updated ends by itself."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.actions: dict[str, Act] = {ACTION: self._pulled}

    def _pulled(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        power_kw = self._setpoint_kw(station, message.chargingProfileId - LEASE_PROFILE_ID)
        if power_kw is None:
            return reply(station, ACTION, status="Rejected")
        # Watts on the wire, to the milliwatt and without a negative zero, as in the profile itself.
        return reply(
            station, ACTION, status="Accepted", scheduleUpdate={"setpoint": round(power_kw * 1_000.0, 3) + 0.0}
        )

    def _setpoint_kw(self, station: Station, evse_id: int) -> float | None:
        """What was sent last to an EVSE as a dynamic profile, while its lease runs; None where there is no such."""
        row = station.provision.rows.get(evse_id)
        if row is None or station.provision.dialect != "v21_dynamic" or row not in station.underneath:
            return None
        last = station.sent.get(row)
        if last is None or row not in station.transactions or not self._desk.board.may_discharge[row]:
            return None
        lease_s = self._desk.lease_s if last.power_kw < 0.0 else CHARGE_LEASE_S
        return last.power_kw if self._desk.clock.monotonic() - last.at_s < lease_s else None
