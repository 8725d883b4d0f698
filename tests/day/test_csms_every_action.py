"""Every message a station may send is answered as the standard says, and leaves what it should."""

from typing import Any, get_args

import pytest

from gridtide.wire.ocpp.actions import FROM_BOTH, FROM_STATION, TABLES, Version
from gridtide.wire.ocpp.errors import ErrorCode
from tests.day.csms_kit import Answering, Kit
from tests.day.wire_site import on_wire
from tests.wire.ocpp_samples import sample, validator

EFFECTS: dict[str, str] = {
    "Authorize": "",
    "BatterySwap": "journal battery_swap",
    "BootNotification": "",
    "ClearedChargingLimit": "no record charging_limit",
    "ClosePeriodicEventStream": "no record stream",
    "DataTransfer": "",
    "FirmwareStatusNotification": "journal firmware",
    "Get15118EVCertificate": "",
    "GetCertificateChainStatus": "",
    "GetCertificateStatus": "",
    "Heartbeat": "",
    "LogStatusNotification": "journal log",
    "MeterValues": "",
    "NotifyChargingLimit": "record charging_limit",
    "NotifyCustomerInformation": "record customer_information",
    "NotifyDERAlarm": "journal der_alarm",
    "NotifyDERStartStop": "journal der_alarm",
    "NotifyDisplayMessages": "record report",
    "NotifyEVChargingNeeds": "",
    "NotifyEVChargingSchedule": "record ev_schedule",
    "NotifyEvent": "journal event",
    "NotifyMonitoringReport": "record report",
    "NotifyPriorityCharging": "journal priority",
    "NotifyReport": "record report",
    "NotifySettlement": "journal settlement",
    "NotifyWebPaymentStarted": "journal web_payment",
    "OpenPeriodicEventStream": "record stream",
    "PublishFirmwareStatusNotification": "journal firmware",
    "PullDynamicScheduleUpdate": "",
    "ReportChargingProfiles": "record charging_profile",
    "ReportDERControl": "record report",
    "ReservationStatusUpdate": "journal reservation",
    "SecurityEventNotification": "journal security",
    "SignCertificate": "journal certificate",
    "StatusNotification": "",
    "TransactionEvent": "",
    "VatNumberValidation": "journal vat",
}
"""What a minimal message of each action leaves in the store; empty: nothing of a kind."""
REFUSED = {
    # The schema admits an empty transactionId; a transaction without a name is none.
    "TransactionEvent": "PropertyConstraintViolation",
}
"""Actions whose minimal message is refused with this code, in spite of the schema."""
ANSWERED: list[tuple[Version, str]] = [
    (version, action)
    for version, table in TABLES.items()
    for action in sorted(FROM_STATION | FROM_BOTH)
    if action in table and table[action][1] is not None
]
CODES = frozenset(get_args(ErrorCode))


def test_the_table_names_every_action() -> None:
    assert set(EFFECTS) == {action for _, action in ANSWERED}
    assert len(ANSWERED) == 37 + 25


@pytest.mark.parametrize(("version", "action"), ANSWERED)
def test_a_minimal_message_is_answered_and_leaves_what_it_should(version: Version, action: str) -> None:
    async def scenario() -> None:
        kit = Kit(version)
        raw = await kit.station()
        before = kinds(kit)
        payload = sample((version, action, "request"), "minimal")
        frame = await raw.call(action, payload | ({"evseId": 1} if "evseId" in payload else {}))
        check_answer(version, action, frame)
        if action in REFUSED:
            assert (frame[0], frame[2]) == (4, REFUSED[action])
        else:
            assert frame[0] == 3, frame
        left = kinds(kit) - before
        effect = EFFECTS[action]
        if effect.startswith("no "):
            assert effect.removeprefix("no ") not in left
        elif effect:
            assert effect in left
        else:
            assert left == set()

    on_wire(scenario)


@pytest.mark.parametrize(("version", "action"), ANSWERED)
def test_a_maximal_message_is_answered_and_never_breaks_the_server(version: Version, action: str) -> None:
    async def scenario() -> None:
        kit = Kit(version)
        raw = await kit.station()
        payload = sample((version, action, "request"), "maximal")
        frame = await raw.call(action, payload)
        check_answer(version, action, frame)
        assert frame[0] == 3 or frame[2] != "InternalError", frame
        assert (await raw.ask("Heartbeat"))["currentTime"]

    on_wire(scenario)


def defective(payload: Any, defect: str) -> tuple[Any, frozenset[str]] | None:
    """The payload with a defect and the codes that may tell it; None where the message has no place for it."""
    required = next(iter(payload), None)
    if defect == "unknown field":
        return {**payload, "inventedByNobody": 1}, frozenset({"FormatViolation"})
    if defect == "not an object":
        return [payload], frozenset({"TypeConstraintViolation", "FormatViolation"})
    if required is None:
        return None
    if defect == "missing":
        left = {name: value for name, value in payload.items() if name != required}
        return left, frozenset({"OccurrenceConstraintViolation"})
    wrong: Any = None if defect == "null" else "text" if isinstance(payload[required], dict) else {"deep": []}
    return {**payload, required: wrong}, frozenset({"TypeConstraintViolation", "OccurrenceConstraintViolation"})


DEFECTIVE = [
    (version, action, defect, made)
    for version, action in ANSWERED
    for defect in ("missing", "wrong type", "null", "unknown field", "not an object")
    if (made := defective(sample((version, action, "request"), "minimal"), defect)) is not None
]


@pytest.mark.parametrize(
    ("version", "action", "made"),
    [(version, action, made) for version, action, _, made in DEFECTIVE],
    ids=[f"{version}-{action}-{defect}" for version, action, defect, _ in DEFECTIVE],
)
def test_a_defect_is_refused_by_its_code_and_leaves_nothing(
    version: Version, action: str, made: tuple[Any, frozenset[str]]
) -> None:
    async def scenario() -> None:
        kit = Kit(version)
        raw = await kit.station()
        before, (payload, codes) = kinds(kit), made
        frame = await raw.call(action, payload)
        assert frame[0] == 4
        assert frame[2] in codes
        assert kinds(kit) == before
        assert kit.store.open_transactions() == ()
        assert kit.events == []

    on_wire(scenario)


@pytest.mark.parametrize(("version", "action"), [one for one in ANSWERED if one[1] != "BootNotification"])
def test_before_its_boot_a_station_is_refused_and_leaves_nothing(version: Version, action: str) -> None:
    async def scenario() -> None:
        kit = Kit(version)
        raw = Answering(kit.csms, kit.clock, "bay-1", version)
        frame = await raw.call(action, sample((version, action, "request"), "minimal"))
        assert (frame[0], frame[2]) == (4, "SecurityError")
        assert kinds(kit) == set()

    on_wire(scenario)


CSMS_ONLY = [
    (version, action) for version, table in TABLES.items() for action in sorted(set(table) - FROM_STATION - FROM_BOTH)
]


@pytest.mark.parametrize(("version", "action"), CSMS_ONLY)
def test_what_only_a_csms_may_send_is_refused(version: Version, action: str) -> None:
    async def scenario() -> None:
        kit = Kit(version)
        raw = await kit.station()
        before = kinds(kit)
        frame = await raw.call(action, sample((version, action, "request"), "minimal"))
        assert frame[0] == 4
        assert frame[2] in ("NotSupported", "NotImplemented", "SecurityError")
        assert kinds(kit) == before

    on_wire(scenario)


def test_values_of_a_stream_need_no_answer() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        kit.stream(**sample(("2.1", "NotifyPeriodicEventStream", "request"), "minimal"))
        assert (await raw.ask("Heartbeat"))["currentTime"]

    on_wire(scenario)


def test_an_action_of_nobody_is_not_implemented() -> None:
    async def scenario() -> None:
        raw = await Kit().station()
        frame = await raw.call("InventedByNobody", {})
        assert (frame[0], frame[2]) == (4, "NotImplemented")

    on_wire(scenario)


def kinds(kit: Kit) -> set[str]:
    """Kinds of records and journals a station has."""
    rows = kit.store._read(  # type: ignore[attr-defined]
        lambda c: [
            *(f"record {kind}" for (kind,) in c.execute("SELECT DISTINCT kind FROM records")),
            *(f"journal {kind}" for (kind,) in c.execute("SELECT DISTINCT kind FROM journal")),
        ]
    )
    return set(rows)


def check_answer(version: Version, action: str, frame: list[Any]) -> None:
    """A result the published schema admits, or an error with a code of the standard."""
    if frame[0] == 4:
        assert frame[2] in CODES
        return
    errors = [error.message for error in validator((version, action, "response")).iter_errors(frame[2])]
    assert frame[0] == 3
    assert errors == []
