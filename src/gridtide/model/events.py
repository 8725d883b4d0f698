"""The one catalogue of faults and events: code, severity, cause and cure, the same in logs, API, page and docs."""

from typing import Literal

from msgspec import Struct

Severity = Literal["info", "warning", "alarm"]


class EventKind(Struct, frozen=True):
    """One kind of event; `{}` fields in the texts are filled by the raiser."""

    code: str
    severity: Severity
    title: str
    cause: str
    cure: str
    latched: bool = False
    """Stays until a person clears it."""


CATALOGUE: tuple[EventKind, ...] = (
    EventKind(
        "meter_stale",
        "alarm",
        "Meter silent",
        "No good reading from the site meter for over 1 s.",
        "Check the meter's power, cable and Modbus address. Nothing is given back meanwhile.",
    ),
    EventKind(
        "meter_invalid",
        "warning",
        "Meter reading refused",
        "The value is not a number or beyond what the fuse can carry.",
        "Check scale, word order and unit id in the register map.",
    ),
    EventKind(
        "meter_frozen",
        "alarm",
        "Meter frozen",
        "The reading has not moved although the vehicles' power did.",
        "Restart the meter or its gateway; check that no cache sits in between.",
    ),
    EventKind(
        "meter_sign",
        "alarm",
        "Meter sign wrong",
        "Import falls when charging rises, or power flows out that nothing gives: a transformer is reversed, or `sign` is wrong.",
        "Correct the current transformer or `sign`, or tell `grid.generation_kw` where something generates; then acknowledge.",
        latched=True,
    ),
    EventKind(
        "meter_errors",
        "alarm",
        "Meter reads failing",
        "More than one read in ten fails.",
        "Check the bus termination, the gateway's load and the poll interval.",
    ),
    EventKind("meter_back", "info", "Meter is back", "Readings arrive again and vary.", "Nothing to do."),
    EventKind(
        "reverse_power",
        "alarm",
        "Power flowed back",
        "The site exported although it may not; discharge was stopped.",
        "Nothing to do unless it repeats: then raise the import margin.",
    ),
    EventKind(
        "estop",
        "alarm",
        "Emergency stop",
        "The emergency stop was pressed; every setpoint is zero.",
        "Remove the cause, then clear it here or with `gridtide estop clear`.",
        latched=True,
    ),
    EventKind(
        "estop_cleared", "info", "Emergency stop cleared", "A person cleared the emergency stop.", "Nothing to do."
    ),
    EventKind(
        "failed_shave",
        "warning",
        "A peak could not be held",
        "The vehicles could not give what the interval needed.",
        "See which vehicles were missing; raise the limit or the number of bidirectional bays.",
    ),
    EventKind(
        "new_peak",
        "warning",
        "New period peak",
        "An interval ended above the period's peak so far.",
        "The limit of this period is now this peak; nothing more to do.",
    ),
    EventKind(
        "max_capacity_reached",
        "warning",
        "Connection full",
        "Wishes were cut at the transformer's limit.",
        "Nothing to do; charging goes on as room returns.",
    ),
    EventKind(
        "grid_trip",
        "alarm",
        "Grid trip",
        "Voltage or frequency left the protection profile's bounds, or the grid was lost; nothing charges and nothing is given.",
        "Nothing to do: everything returns by itself once voltage and frequency were good for long enough.",
    ),
    EventKind(
        "grid_returned", "info", "Grid is back", "Voltage and frequency were good for long enough.", "Nothing to do."
    ),
    EventKind(
        "grid_alarm",
        "warning",
        "Frequency outside its window",
        "The grid's frequency is unusual: below the window nothing charges, above it nothing is given.",
        "Nothing to do unless it repeats: then ask the grid operator.",
    ),
    EventKind(
        "relay_trip",
        "alarm",
        "Wired protection tripped",
        "A relay or contactor that works without gridtide has tripped; every setpoint is zero.",
        "Find the cause, reset the relay, then clear the stop here or with `gridtide estop clear`.",
        latched=True,
    ),
    EventKind(
        "transformer_hot",
        "warning",
        "Transformer hot",
        "By its thermal model the transformer would pass its hot-spot limit; charging is reduced.",
        "Check its ventilation; nothing else unless it repeats.",
    ),
    EventKind(
        "transformer_overload",
        "warning",
        "Transformer over its rating",
        "The load was above 110 % of the rating, or above 100 % for a minute; charging is cut.",
        "Nothing to do unless it repeats: then the building alone needs more than the transformer has.",
    ),
    EventKind(
        "load_shed",
        "warning",
        "Load to be shed",
        "The building, a person or a wired input limits the import; nobody's wish goes past it.",
        "Nothing to do; it ends with its source.",
    ),
    EventKind("load_shed_ended", "info", "Load shedding ended", "Its source released it.", "Nothing to do."),
    EventKind(
        "latency_over_budget",
        "warning",
        "Setpoint late",
        "A setpoint followed its sample by more than 200 ms, or a station's answer followed the decision by more than 100 ms.",
        "The text says where the time went: in the controller, check the load of this machine; at a station, its network.",
    ),
    EventKind(
        "station_timeout",
        "warning",
        "Station stopped answering",
        "No message from the station in time.",
        "Often the network at that bay; its power is reserved meanwhile.",
    ),
    EventKind("station_back", "info", "Station is back", "The station answers again.", "Nothing to do."),
    EventKind(
        "discharge_denied",
        "warning",
        "Discharge refused",
        "The station or vehicle refused to give power.",
        "See `gridtide explain`; another vehicle takes over.",
    ),
    EventKind(
        "vehicle_not_following",
        "warning",
        "Vehicle does not follow",
        "Metered power differs from the setpoint.",
        "Check the vehicle's own charge limit; its share is replaced meanwhile.",
    ),
    EventKind(
        "slow_reports",
        "warning",
        "Station reports too slowly",
        "The station will not report its meter every second; it will not be used for shaving.",
        "Set its sampling interval (SampledDataCtrlr.TxUpdatedInterval) to 1 s.",
    ),
    EventKind(
        "over_temperature",
        "warning",
        "Charger warm",
        "The heat sink is above 75 °C; power is reduced.",
        "Check fans and filters.",
    ),
    EventKind(
        "driver_short",
        "warning",
        "A driver left short",
        "A vehicle left with less than it needed.",
        "See the departure time that was told; ask the driver for a realistic one.",
    ),
    EventKind("limit_changed", "info", "Limit changed", "A person changed the limit.", "Nothing to do."),
    EventKind("override", "info", "Manual override", "A person set a vehicle by hand.", "It ends by itself."),
    EventKind("restart", "info", "Started", "The controller started and restored its state.", "Nothing to do."),
    EventKind(
        "store_failed",
        "alarm",
        "Store cannot write",
        "The database refused a write.",
        "Check disk space and permissions; stations keep their transactions meanwhile.",
    ),
    EventKind(
        "store_damaged",
        "alarm",
        "Store was damaged",
        "The database was unreadable and was moved aside.",
        "See the text: what took its place, and what is missing. Look at the emergency stop before it is cleared.",
    ),
    EventKind(
        "store_log_cut",
        "warning",
        "Store's last entry left out",
        "The end of the database's log does not verify, as after a power cut.",
        "Check the last transaction of each station; if power did not fail, check the disk.",
    ),
    EventKind("store_back", "info", "Store writes again", "The database takes writes again.", "Nothing to do."),
    EventKind(
        "store_space",
        "alarm",
        "Disk nearly full",
        "The disk of the database has little free space.",
        "Make room, or move the database. At the end only transactions, audit, settings and events are written.",
    ),
    EventKind(
        "store_reserve",
        "alarm",
        "Disk full, reserve in use",
        "The 64 MB kept for transactions and audit are in use; measured values are no longer stored.",
        "Make room: the reserve comes back by itself.",
    ),
    EventKind(
        "backup_failed",
        "warning",
        "No backup",
        "A copy of the database could not be made.",
        "Check the folder of the backups and its free space; older copies are kept.",
    ),
    EventKind(
        "security",
        "warning",
        "Security event",
        "A station or login reported a security event.",
        "See the text; check credentials.",
    ),
    EventKind(
        "duplicate_identity",
        "alarm",
        "Two devices under one name",
        "Second connections under the name of a connected station were refused again and again.",
        "Give the station a new password (`gridtide stations rotate`) and look for a copy of its old one.",
    ),
    EventKind(
        "transaction_incomplete",
        "warning",
        "Transaction incomplete",
        "Events of a charging session are missing: the station lost them or never sent them.",
        "Compare with the station's own log; the energy between the gaps is not invented.",
    ),
    EventKind(
        "access_changed",
        "info",
        "Access changed",
        "Somebody was given or lost the right to read or steer this site.",
        "Nothing to do if you meant it; `gridtide users list` shows who may what.",
    ),
    EventKind(
        "station_event",
        "alarm",
        "Station tells of a fault",
        "A monitor of the station found danger, a hardware or system failure, or a critical state.",
        "See the text and the station's own log; people at the bay first where it says danger.",
    ),
    EventKind(
        "report_incomplete",
        "warning",
        "A report did not come to its end",
        "Parts of a report a person asked for are missing; what came is kept.",
        "Ask again with `gridtide ocpp call`; if it repeats, ask for less at a time.",
    ),
    EventKind(
        "firmware_failed",
        "warning",
        "Firmware update failed",
        "The station could not fetch, verify, install or publish a firmware.",
        "Check address, signature and signing certificate; the station runs its old firmware.",
    ),
    EventKind(
        "firmware_installed", "info", "Firmware installed", "The station runs its new firmware.", "Nothing to do."
    ),
    EventKind(
        "log_upload_failed",
        "warning",
        "Log upload failed",
        "The station could not send its log to the address given.",
        "Check the address, its permissions and that the station reaches it.",
    ),
    EventKind(
        "charging_limited",
        "info",
        "Limit from outside",
        "Somebody else, as the grid operator or a local system, limits a station.",
        "Nothing to do; the station keeps to the lower limit.",
    ),
    EventKind(
        "priority_charging", "info", "Priority charging", "A driver asked for priority, or it ended.", "Nothing to do."
    ),
    EventKind(
        "der_alarm",
        "warning",
        "Grid event at a station",
        "Voltage, frequency or power left the bounds of a grid control and the station reacted.",
        "Nothing to do unless it repeats: then see the control's settings with the grid operator.",
    ),
    EventKind(
        "certificate_signed", "info", "Certificate renewed", "A station took its new certificate.", "Nothing to do."
    ),
    EventKind(
        "certificate_refused",
        "warning",
        "Certificate not renewed",
        "A station's request was not signed, or it did not take the certificate; the old one stays.",
        "See the text: serial number and operator must be as registered. Then trigger the station again.",
    ),
    EventKind(
        "local_list_failed",
        "warning",
        "Local list not taken",
        "A station did not take its list of tokens; offline it goes on with the old one.",
        "Check how many entries the station can hold; push again.",
    ),
    EventKind(
        "notify_failed",
        "warning",
        "Notifications are not delivered",
        "The webhook's receiver does not answer, or refuses.",
        "Check `notify.url` and its receiver; what waits is sent when it answers again.",
    ),
    EventKind(
        "speed_reduced", "info", "Demo slowed down", "The machine could not keep the demo's speed.", "Nothing to do."
    ),
    EventKind(
        "shaving_started", "info", "Vehicles called in", "The interval was heading above the limit.", "Nothing to do."
    ),
    EventKind("shaving_ended", "info", "Vehicles released", "The interval fits its limit again.", "Nothing to do."),
    EventKind(
        "soc_implausible",
        "warning",
        "A vehicle's level cannot be believed",
        "The charge a vehicle tells jumped, stands still or left 0 to 100 %, against the energy it took and gave.",
        "Nothing to do: it gives nothing until it leaves. If it repeats at one bay, check that station's meter.",
    ),
    EventKind(
        "energy_mismatch",
        "warning",
        "Station's meter contradicts itself",
        "The station's energy register and its power differ by more than 5 %.",
        "Have the station's meter checked; sessions are settled by the register. Its vehicle gives nothing meanwhile.",
    ),
    EventKind(
        "contactor_welded",
        "alarm",
        "Contactor welded",
        "Power flows at a bay although its station told that nothing does: the contacts of its contactor have welded or pitted.",
        "Switch the bay off at its breaker and have the contactor replaced; then acknowledge.",
        latched=True,
    ),
    EventKind(
        "contactor_limit",
        "info",
        "Contactor spared",
        "A bay's contactor has switched as often as it may in a day.",
        "Nothing to do: it charges and gives no more today. If it repeats, raise the hold time or the limit.",
    ),
    EventKind(
        "loop_stalled",
        "alarm",
        "Control stood still",
        "The program's loop did nothing for a second or more; stations that gave power were cut off and must report anew.",
        "Look for what blocked it: a slow disk, too little memory or CPU. The log has the place.",
    ),
    EventKind(
        "clock_jumped",
        "warning",
        "Clock jumped",
        "The machine's clock was set, or the machine was paused.",
        "Check the machine's time service. The time is followed once it has lasted and nobody gives power.",
    ),
    EventKind(
        "operator_limit",
        "info",
        "Operator limit",
        "The grid operator's system set or lifted a limit.",
        "Nothing to do.",
    ),
    EventKind(
        "operator_limit_ended", "info", "Operator limit ended", "The limit's own duration is over.", "Nothing to do."
    ),
    EventKind(
        "operator_limit_lost",
        "alarm",
        "Operator silent",
        "No heartbeat of the grid operator's system in time; the failsafe limit holds.",
        "Check the operator's gateway and the way to it. A heartbeat with a new limit ends it.",
    ),
    EventKind("operator_limit_back", "info", "Operator is back", "Heartbeats arrive again.", "Nothing to do."),
    EventKind(
        "operator_limit_lifted",
        "alarm",
        "Failsafe limit lifted",
        "The operator was silent for the failsafe limit's whole time, and the site file says to lift it then.",
        "Check the operator's gateway: the site has no limit of the operator now.",
    ),
    EventKind(
        "plan_failed",
        "warning",
        "No new plan",
        "The planner could not make a plan; the last one ends with its hour, then the site's own limit holds.",
        "The log has the details. It is tried again each minute; please report it with the log.",
    ),
    EventKind(
        "plan_short",
        "warning",
        "Plan falls short",
        "The hours ahead cannot give everything that is asked: the plan does the best there is.",
        "Ask the driver to stay longer or take less, or give the site more room.",
    ),
    EventKind(
        "forecast_drift",
        "warning",
        "Load forecast given up",
        "For days the forecast was worse than the load of last week, which takes its place until it is better again.",
        "Nothing to do when the building's use has changed; else check the meter and what is behind it.",
    ),
)
BY_CODE: dict[str, EventKind] = {kind.code: kind for kind in CATALOGUE}
