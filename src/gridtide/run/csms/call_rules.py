"""What a person's raw message must not do to a station: steer it past the controller and its guard."""

from collections.abc import Iterator
from typing import Any, Final

from gridtide.run.csms.setpoints import LEASE_PROFILE_ID
from gridtide.run.csms.station import Station
from gridtide.wire.ocpp.dialects import LEASE_STACK_LEVEL, UNDERLAY_STACK_LEVEL

INSTEAD: Final = "set the vehicle by hand on the page, or `gridtide profile`"
DROOPS: Final = frozenset({"FreqDroop", "FreqWatt"})
"""DER controls that turn a frequency into power of either direction, without a lease."""


def steering(station: Station, action: str, request: Any) -> Iterator[str]:
    """Why this request would steer `station` in the controller's stead, each with a cure; nothing if it would not."""
    is_steered = bool(station.provision.rows)
    if action in ("SetChargingProfile", "RequestStartTransaction") and request.chargingProfile is not None:
        yield from _profile(request.chargingProfile, is_steered)
    elif action == "UpdateDynamicSchedule":
        if is_steered or request.chargingProfileId >= LEASE_PROFILE_ID:
            yield f"chargingProfileId is {request.chargingProfileId}: dynamic schedules are the controller's; {INSTEAD}"
    elif action == "UsePriorityCharging" and is_steered and request.activate:
        yield f"activate is true: a steered station's power is the controller's; {INSTEAD}"
    elif action == "SetVariables" and is_steered:
        yield from _variables(request)
    elif action == "DataTransfer":
        yield from _vendor(station, request)
    elif action == "SetDERControl" and station.may_ever_discharge() and str(request.controlType) in DROOPS:
        yield (
            f"controlType is {request.controlType}: it makes a vehicle discharge without lease and guard; run `gridtide "
            "profile STATION charge-only` first, then only charging follows it"
        )


def _profile(profile: Any, is_steered: bool) -> Iterator[str]:
    purpose = str(profile.chargingProfilePurpose)
    if purpose in ("ChargingStationMaxProfile", "ChargingStationExternalConstraints"):
        return
    if is_steered:
        yield (
            f"chargingProfilePurpose is {purpose}: this station is steered by the controller, which relies on its own profiles; "
            f"give ChargingStationMaxProfile, or {INSTEAD}"
        )
    elif profile.id >= LEASE_PROFILE_ID or profile.stackLevel in (UNDERLAY_STACK_LEVEL, LEASE_STACK_LEVEL):
        yield (
            f"chargingProfile id {profile.id}, stackLevel {profile.stackLevel}: ids from {LEASE_PROFILE_ID} and the stack levels "
            f"{UNDERLAY_STACK_LEVEL} and {LEASE_STACK_LEVEL} are the controller's; give others"
        )


def _variables(request: Any) -> Iterator[str]:
    for item in request.setVariableData:
        place = (item.component.name.casefold(), item.variable.name.casefold())
        if place == ("smartchargingctrlr", "enabled") and item.attributeValue.strip().casefold() != "true":
            yield f"SmartChargingCtrlr.Enabled is {item.attributeValue[:20]!r}: a steered station must follow profiles"


def _vendor(station: Station, request: Any) -> Iterator[str]:
    template = station.provision.template
    if template is not None and request.vendorId.casefold() == template.vendor_id.casefold():
        yield f"vendorId is {request.vendorId!r}: the controller steers this station by it; {INSTEAD}"
