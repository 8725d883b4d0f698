"""Discharge dialects: how a signed setpoint in kW goes out to one station.

A discharge is a lease: a schedule of `duration` = lease with `validTo` at its end, on 2.1 also invalid as soon as the
station is offline. Underneath lies a TxDefaultProfile without expiry that never discharges; no lease goes out before it
was accepted. Watts, wire signs and profile shapes stay in `dialects_shapes` and, for a vendor's own message, in
`dialects_vendor`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.dialects_shapes import (
    LEASE_STACK_LEVEL,
    UNDERLAY_STACK_LEVEL,
    Setpoint,
    WireCall,
    dynamic_calls,
    v21_call,
    v21_underlay,
    v201_call,
    v201_underlay,
)
from gridtide.wire.ocpp.dialects_vendor import DataTransferTemplate, filled
from gridtide.wire.ocpp.errors import LocalProtocolError
from gridtide.wire.ocpp.generated import v21, v201

__all__ = [
    "HYBRID_OVERRIDES",
    "LEASE_STACK_LEVEL",
    "UNDERLAY_STACK_LEVEL",
    "Denial",
    "Dialect",
    "Setpoint",
    "StationDialect",
    "Translation",
    "WireCall",
    "fits",
    "request_overrides",
    "translate",
    "underlay_call",
]

Dialect: TypeAlias = Literal[
    "refuse", "v21_setpoint", "v21_dynamic", "v201_negative_limit", "v201_hybrid", "data_transfer"
]
Denial: TypeAlias = Literal[
    "discharge denied by dialect",
    "discharge not authorised",
    "dialect does not fit the OCPP version",
    "no transaction",
    "station clock is off",
    "dialect has no template",
]

HYBRID_OVERRIDES: Final[Mapping[str, Version]] = {"NotifyEVChargingNeeds": "2.1", "SetChargingProfile": "2.1"}
"""Requests that a `v201_hybrid` station speaks in the shape of another version; their answers keep the connection's."""
_VERSIONS_OF: Final[dict[Dialect, frozenset[Version]]] = {
    "refuse": frozenset(),
    "v21_setpoint": frozenset({"2.1"}),
    "v21_dynamic": frozenset({"2.1"}),
    "v201_negative_limit": frozenset({"2.0.1"}),
    "v201_hybrid": frozenset({"2.0.1"}),
    "data_transfer": frozenset({"2.0.1", "2.1"}),
}


def fits(dialect: Dialect, version: Version) -> bool:
    """Whether `dialect` can discharge over a connection of `version`; `refuse` never can."""
    return version in _VERSIONS_OF[dialect]


def request_overrides(dialect: Dialect, version: Version) -> Mapping[str, Version]:
    """Action -> version whose request type replaces the connection's own, for a session with this station."""
    return HYBRID_OVERRIDES if dialect == "v201_hybrid" and version == "2.0.1" else {}


class StationDialect(msgspec.Struct, frozen=True, kw_only=True):
    """What is agreed with one station."""

    version: Version
    dialect: Dialect = "refuse"
    is_discharge_authorised: bool = False
    """BPT in allowedEnergyTransfer (2.1), or the operator's recorded opt-in (2.0.1)."""
    is_underlay_accepted: bool = False
    """The TxDefaultProfile underneath was answered with Accepted on this connection."""
    underlay_profile_id: int = 1
    underlay_kw: float = 0.0
    """Charging limit that holds when no lease does; >= 0."""
    skew_s: float = 0.0
    """Station clock minus ours, from message timestamps."""
    template: DataTransferTemplate | None = None
    """`data_transfer`: the vendor's message."""


class Translation(msgspec.Struct, frozen=True, kw_only=True):
    """The calls that carry a setpoint, in order; `denial` says why a discharge was turned into none."""

    calls: tuple[WireCall, ...]
    denial: Denial | None = None


def translate(setpoint: Setpoint, station: StationDialect) -> Translation:
    """The calls that bring `setpoint` to a station.

    A discharge that is denied yields no calls and the reason; one without an accepted underlay yields the underlay
    alone (send the setpoint again when it is accepted). Zero and charging go out in every dialect. Raises
    LocalProtocolError on a non-finite power, a lease below 1 s or a naive instant.
    """
    _check(setpoint)
    if setpoint.power_kw < 0.0:
        denial = _denial(setpoint, station)
        if denial is not None:
            return Translation(calls=(), denial=denial)
        if not station.is_underlay_accepted:
            return Translation(calls=(underlay_call(station, setpoint.evse_id),))
    if _may_go_dynamic(setpoint, station):
        return Translation(calls=dynamic_calls(setpoint))
    if station.dialect == "data_transfer" and station.template is not None:
        return Translation(calls=_vendor_calls(setpoint, station, station.template))
    return Translation(calls=(_profile_call(setpoint, station),))


def underlay_call(station: StationDialect, evse_id: int) -> WireCall:
    """SetChargingProfile with the TxDefaultProfile underneath every lease: limit >= 0, no expiry, lowest level.

    Relative, hence independent of any clock. Raises LocalProtocolError on a negative or non-finite limit.
    """
    if not (math.isfinite(station.underlay_kw) and station.underlay_kw >= 0.0):
        raise LocalProtocolError(f"underlay_kw is {station.underlay_kw}: give a charging limit of 0 kW or more")
    shape = v21_underlay if _takes_21_profiles(station) else v201_underlay
    return shape(evse_id, station.underlay_profile_id, station.underlay_kw)


def _check(setpoint: Setpoint) -> None:
    numbers = (setpoint.power_kw, setpoint.charge_bound_kw or 0.0, setpoint.discharge_bound_kw or 0.0)
    if not all(math.isfinite(number) for number in numbers):
        raise LocalProtocolError(f"setpoint {numbers} kW is not finite")
    if setpoint.lease_s < 1:
        raise LocalProtocolError(f"lease_s is {setpoint.lease_s}: a lease lasts at least 1 s")
    if setpoint.now.tzinfo is None:
        raise LocalProtocolError("now has no time zone")


def _denial(setpoint: Setpoint, station: StationDialect) -> Denial | None:
    if station.dialect == "refuse":
        return "discharge denied by dialect"
    if not fits(station.dialect, station.version):
        return "dialect does not fit the OCPP version"
    if station.dialect == "data_transfer" and station.template is None:
        return "dialect has no template"
    if not station.is_discharge_authorised:
        return "discharge not authorised"
    if setpoint.transaction_id is None:
        return "no transaction"
    if not abs(station.skew_s) <= setpoint.lease_s / 2.0:
        return "station clock is off"
    return None


def _may_go_dynamic(setpoint: Setpoint, station: StationDialect) -> bool:
    """A Dynamic profile is two-sided, so it needs all that a discharge needs, also while it charges."""
    is_dynamic = station.dialect == "v21_dynamic" and station.is_underlay_accepted
    return is_dynamic and _denial(setpoint, station) is None


def _takes_21_profiles(station: StationDialect) -> bool:
    overridden = request_overrides(station.dialect, station.version)
    return overridden.get("SetChargingProfile", station.version) == "2.1"


def _profile_call(setpoint: Setpoint, station: StationDialect) -> WireCall:
    return v21_call(setpoint) if _takes_21_profiles(station) else v201_call(setpoint)


def _vendor_calls(setpoint: Setpoint, station: StationDialect, template: DataTransferTemplate) -> tuple[WireCall, ...]:
    """The vendor's message; with zero and charging also a limit, for it alone reaches a station that forgot the vendor's.

    The vendor's message goes first and always: zero ends a discharge also when discharging is not authorised any more.
    """
    kind = v21.DataTransferRequest if station.version == "2.1" else v201.DataTransferRequest
    data = filled(
        template,
        power_kw=setpoint.power_kw,
        lease_s=setpoint.lease_s,
        evse_id=setpoint.evse_id,
        transaction_id=setpoint.transaction_id,
    )
    message = WireCall("DataTransfer", kind(vendorId=template.vendor_id, messageId=template.message_id, data=data))
    return (message,) if setpoint.power_kw < 0.0 else (message, _profile_call(setpoint, station))
