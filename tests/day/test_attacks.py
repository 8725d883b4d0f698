"""Executable attacks of the classes AT06 to AT11 and AT15 on the CSMS: authenticated, hostile stations over raw frames."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from gridtide.run.csms import parts, streams
from gridtide.run.store import MemoryStore, ledger_sql
from gridtide.wire.ocpp.actions import Version
from tests.day.csms_kit import Answering, Kit, variable
from tests.day.raw_station import event
from tests.day.test_csms_every_action import ANSWERED, check_answer
from tests.day.wire_site import CYCLE_S, START_S, WireSite, on_wire, stay, world
from tests.wire.ocpp_samples import Extent, places, sample, with_value

ACCEPTED = {"status": "Accepted"}


# --- AT06: another station's transaction ------------------------------------------------------------------------------
def foreign(kit: Kit, action: str) -> dict[str, Any]:
    """A message that names the transaction of bay-1."""
    happened = {
        "eventId": 1, "timestamp": kit.stamp(), "trigger": "Alerting", "actualValue": "1", "transactionId": "tx-1",
        "component": {"name": "Bay"}, "variable": {"name": "Heat"}, "eventNotificationType": "CustomMonitor",
    }  # fmt: skip
    settled = {"pspRef": "p", "status": "Settled", "settlementAmount": 1.0, "settlementTime": kit.stamp()}
    return {
        "Updated": event(kit.clock, "Updated", 1, soc=10.0),
        "Ended": event(kit.clock, "Ended", 2),
        "NotifyPriorityCharging": {"transactionId": "tx-1", "activated": True},
        "NotifyEvent": {"generatedAt": kit.stamp(), "seqNo": 0, "eventData": [happened]},
        "NotifySettlement": {**settled, "transactionId": "tx-1"},
    }[action]


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("action", ["Updated", "Ended", "NotifyPriorityCharging", "NotifyEvent", "NotifySettlement"])
def test_at06_another_stations_transaction_is_refused_without_effect(action: str, ended: bool) -> None:
    async def scenario() -> None:
        kit = Kit()
        owner, thief = await kit.station("bay-1"), await kit.station("bay-2")
        await owner.tell("Started", 0, soc=70.0)
        if ended:
            await owner.tell("Ended", 1)
        name = "TransactionEvent" if action in ("Updated", "Ended") else action
        frame = await thief.call(name, foreign(kit, action))
        assert (frame[0], frame[2]) == (4, "SecurityError")
        assert kit.board.connected[0] == (not ended)
        assert not kit.board.connected[1]
        assert kit.store.transaction_events("bay-2", "tx-1") == []
        assert kit.store.journal("bay-2") == ()
        assert kit.texts().count("named a transaction of bay-1") == 1
        assert (await owner.tell("Updated", 5))[0] == 3, "its owner goes on"

    on_wire(scenario)


# --- AT07: duplicates -------------------------------------------------------------------------------------------------
async def reconnected(kit: Kit, raw: Answering) -> Answering:
    """The same station over a new link, message ids from the start again."""
    raw.link.drop()
    await kit.clock.sleep(1.0)
    return await kit.station(raw.identity)


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
@pytest.mark.parametrize("again", ["same id", "other id", "reconnected"])
def test_at07_a_repeated_transaction_event_has_one_effect(version: Version, again: str) -> None:
    async def scenario() -> None:
        kit = Kit(version)
        raw = await kit.station()
        await raw.tell("Started", 0, soc=70.0)
        told = event(kit.clock, "Updated", 1, soc=55.0)
        first = await raw.call("TransactionEvent", told, "m-1")
        await raw.tell("Updated", 2, soc=50.0)
        if again == "reconnected":
            raw = await reconnected(kit, raw)
        second = await raw.call("TransactionEvent", told, "m-2" if again == "other id" else "m-1")
        assert second[2] == first[2]
        assert kit.board.soc[0] == 0.5
        assert [one.seq_no for one in kit.store.transaction_events("bay-1", "tx-1")] == [0, 1, 2]

    on_wire(scenario)


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
@pytest.mark.parametrize("again", ["same id", "other id", "reconnected", "restarted"])
def test_at07_a_repeated_part_of_a_report_has_one_effect(version: Version, again: str) -> None:
    async def scenario() -> None:
        kit = Kit(version)
        raw = await kit.station(GetBaseReport=ACCEPTED)
        await kit.operate("GetBaseReport", requestId=7, reportBase="FullInventory")
        stamp = {"requestId": 7, "generatedAt": kit.stamp()}
        told = {**stamp, "seqNo": 0, "tbc": True, "reportData": [variable("A", "old")]}
        first = await raw.call("NotifyReport", told, "m-1")
        newer = {**stamp, "seqNo": 1, "tbc": True, "reportData": [variable("A", "new")]}
        assert (await raw.call("NotifyReport", newer))[0] == 3
        if again == "reconnected":
            raw = await reconnected(kit, raw)
        elif again == "restarted":
            raw.link.drop()
            kit = Kit(version, store=kit.store)
            raw = await kit.station()
        second = await raw.call("NotifyReport", told, "m-2" if again == "other id" else "m-1")
        assert second[2] == first[2] == {}
        assert kit.records("variable")["Bay||||A|"]["attributes"][0]["value"] == "new"
        (progress,) = kit.reports.reports("bay-1")
        assert progress.seen == ((0, 1),)

    on_wire(scenario)


def test_at07_an_id_used_for_another_message_has_no_effect() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        assert (await raw.call("NotifyWebPaymentStarted", {"evseId": 1, "timeout": 1}, "m"))[0] == 3
        frame = await raw.call("NotifyWebPaymentStarted", {"evseId": 1, "timeout": 2}, "m")
        assert (frame[0], frame[2]) == (4, "OccurrenceConstraintViolation")
        assert len(kit.journal("web_payment")) == 1

    on_wire(scenario)


# --- AT08: poison data ------------------------------------------------------------------------------------------------
POISON = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "", "\x00", "a\x00b", "|", "%7C", "../../etc/passwd", "'; DROP TABLE records; --", "\u202e\u200d", "\U0010ffff",
            "{}", "[]", "null", "NaN", "1e999", "-0", "x" * 3_000, "=cmd()", "<script>", "\r\n[4,\"x\"]",
        ]
    ),
)  # fmt: skip
INSTANTS = st.sampled_from(
    [
        "222222017-01-01T00:00:00Z", "2000-01-01T00:00:00Z", "2099-12-31T23:59:59Z", "1999-12-31T23:59:59Z",
        "2100-01-01T00:00:00+14:00", "2000-01-01T00:00:00+14:00", "2099-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z",
        "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-01T00:00:00", "now",
    ]
)  # fmt: skip
NUMBERS = st.sampled_from([0, -1, 2**31, 2**53, 2**63 - 1, -(2**63), 2**63, 10**30, 1e308, -1e308, 5e-324, 0.1])


@st.composite
def poisoned(draw: st.DrawFn) -> tuple[Version, str, Any]:
    """A message of a station with some of its values replaced."""
    version, action = draw(st.sampled_from(ANSWERED))
    extent: Extent = draw(st.sampled_from(("minimal", "maximal")))
    payload = sample((version, action, "request"), extent)
    spots = [path for path in places(payload) if path]
    for path in draw(st.lists(st.sampled_from(spots), max_size=4)) if spots else []:
        try:
            value = at(payload, path)
        except (KeyError, IndexError, TypeError):
            continue
        if isinstance(value, str):
            new: Any = draw(INSTANTS if value[:2] == "20" else POISON)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            new = draw(NUMBERS)
        else:
            continue
        payload = with_value(payload, path, new)
    return version, action, payload


def at(payload: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        payload = payload[step]
    return payload


async def read_all(kit: Kit) -> None:
    """Every list and report of the store and of the blocks, as faces read them."""
    rows = kit.store._read(  # type: ignore[attr-defined]
        lambda c: list(c.execute("SELECT DISTINCT station_id, kind FROM records"))
    )
    for identity, kind in rows:
        assert isinstance(kit.records(kind, identity), dict)
    for entry in kit.store.journal(limit=10_000):
        json.loads(entry.value_json)
    for name in ("bay-1", "bay-2"):
        kit.reports.device_model(name)
        kit.reports.reports(name)
        kit.reports.reservations(name)
        kit.reports.local_list_calls(kit.csms.stations[name])
    kit.store.transactions(0.0, 4e9)
    kit.store.open_transactions()
    kit.store.events(1_000)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(poisoned(), min_size=1, max_size=12))
def test_at08_poison_data_is_refused_or_kept_and_read_again(messages: list[tuple[Version, str, Any]]) -> None:
    store = MemoryStore()

    async def scenario(version: Version) -> None:
        kit = Kit(version, store=store)
        raw = await kit.station()
        for wanted, action, payload in messages:
            if wanted == version:
                frame = await raw.call(action, payload)
                check_answer(version, action, frame)
                assert frame[0] == 3 or frame[2] != "InternalError", (action, payload)
        await read_all(kit)
        again = Kit(version, store=store)
        await again.station("bay-2")
        await read_all(again)
        assert (await raw.ask("Heartbeat"))["currentTime"]

    for version in ("2.0.1", "2.1"):
        on_wire(lambda version=version: scenario(version))  # type: ignore[misc]


# --- AT09: the error path ---------------------------------------------------------------------------------------------
BAD: list[Any] = [None, "", "x" * 6_000, "é" * 256, -1, 2**70, 1.5, True, [], {}, [None] * 50, {"a": {"b": {}}}]


@pytest.mark.parametrize("action", ["SecurityEventNotification", "SignCertificate", "NotifyReport", "TransactionEvent"])
@pytest.mark.parametrize("value", BAD, ids=lambda value: repr(value)[:12])
def test_at09_whatever_is_wrong_the_error_is_short_and_the_server_lives(action: str, value: Any) -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        whole = sample(("2.1", action, "request"), "maximal")
        for name in whole:
            frame = await raw.call(action, {**whole, name: value})
            if frame[0] == 4:
                assert frame[2] != "InternalError"
                assert len(frame[3]) <= 255
                assert "x" * 300 not in str(frame)
        frame = await raw.call(action, value)
        assert frame[0] == 4
        assert (await raw.ask("Heartbeat"))["currentTime"]

    on_wire(scenario)


@pytest.mark.parametrize("kind", [3, 4, 5])
@pytest.mark.parametrize("text", ["x" * 80_000, "\x00", '"]', "é" * 300])
def test_at09_errors_that_a_station_tells_hurt_nobody(kind: int, text: str) -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        raw.answers = False
        asked = asyncio.ensure_future(kit.operate("GetLocalListVersion"))
        await asyncio.sleep(0.2)
        frame = [3, "c-1", {"versionNumber": text}] if kind == 3 else [kind, "c-1", text, text, {"deep": [text]}]
        for number in range(1, 40):
            frame[1] = f"c-{number}"
            await raw.link.send(json.dumps(frame).encode())
        await asyncio.sleep(0.2)
        assert (await raw.ask("Heartbeat"))["currentTime"]
        asked.cancel()
        assert kit.records("local_list_version") == {}

    on_wire(scenario)


# --- AT10: nothing grows without bound --------------------------------------------------------------------------------
def told_report(kit: Kit, request_id: int, seq_no: int, *names: str, tbc: bool) -> dict[str, Any]:
    items = [variable(name, "1") for name in names]
    stamp = {"requestId": request_id, "seqNo": seq_no, "generatedAt": kit.stamp(), "tbc": tbc}
    return {**stamp, "reportData": items} if items else stamp


def test_at10_a_flood_of_reports_nobody_asked_for_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_sql, "RECORD_ROWS", 60)

    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station(GetBaseReport=ACCEPTED)
        station = kit.csms.stations["bay-1"]
        refused = 0
        for number in range(200):
            frame = await raw.call("NotifyReport", told_report(kit, number, 0, f"junk-{number}", tbc=True))
            refused += frame[0] == 4
        assert refused == 200 - 60
        assert len(kit.records("variable")) == 60
        assert len(kit.records("report")) <= parts.KEPT
        assert len(kit.reports._book._books.get("bay-1", {})) <= parts.KEPT
        assert len(station.later) < 10
        await kit.clock.sleep(1.0)
        await kit.operate("GetBaseReport", requestId=1_000, reportBase="FullInventory")
        names = [f"real-{number}" for number in range(50)]
        assert (await raw.call("NotifyReport", told_report(kit, 1_000, 0, *names, tbc=False)))[0] == 3
        assert len(kit.records("variable")) == 50, "what was asked for goes before junk"

    on_wire(scenario)


def test_at10_a_report_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_PARTS", 20)

    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station(GetBaseReport=ACCEPTED)
        await kit.operate("GetBaseReport", requestId=7, reportBase="FullInventory")
        for number in range(30):
            frame = await raw.call("NotifyReport", told_report(kit, 7, number, f"v-{number}", tbc=True))
            assert frame[0] == (3 if number < 20 else 4)
        frame = await raw.call("NotifyReport", told_report(kit, 7, 2**62, tbc=True))
        assert (frame[0], frame[2]) == (4, "OccurrenceConstraintViolation")
        assert len(kit.records("variable")) == 20
        await kit.clock.sleep(parts.GIVE_UP_S + 1.0)
        assert kit.reports.reports("bay-1")[0].state == "incomplete"

    on_wire(scenario)


def test_at10_journals_streams_limits_and_states_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_sql, "JOURNAL_ROWS", 20)
    monkeypatch.setattr("gridtide.run.csms.limits.MAX_LIMITS", 5)
    monkeypatch.setattr("gridtide.run.csms.der.MAX_STATES", 5)

    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        for number in range(40):
            told = {"type": f"Event-{number}", "timestamp": kit.stamp()}
            await raw.ask("SecurityEventNotification", **told)
            await raw.ask("NotifyChargingLimit", chargingLimit={"chargingLimitSource": f"EMS-{number}"})
            await raw.ask("NotifyDERStartStop", controlId=f"c-{number}", started=True, timestamp=kit.stamp())
            stream = {"id": number, "variableMonitoringId": 1, "params": {}}
            answer = await raw.ask("OpenPeriodicEventStream", constantStreamData=stream)
            assert answer["status"] == ("Accepted" if number < streams.MAX_STREAMS else "Rejected")
        assert [entry["event"]["type"] for entry in kit.journal("security")] == [
            f"Event-{n}" for n in range(39, 19, -1)
        ]
        assert len(kit.journal("der_alarm")) == 20
        assert len(kit.records("charging_limit")) == 5
        assert len(kit.records("der_state")) == 5
        assert len(kit.records("stream")) == streams.MAX_STREAMS

    on_wire(scenario)


def test_at10_values_of_a_stream_cannot_push_the_sites_own_out() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        await raw.ask("OpenPeriodicEventStream", constantStreamData={"id": 1, "variableMonitoringId": 1, "params": {}})
        kept = 0
        for _ in range(20):
            data = [{"t": number / 100.0, "v": "1"} for number in range(100)]
            kit.stream(id=1, pending=0, basetime=kit.stamp(), data=data)
            now_s = kit.clock.wall()
            kept = len(kit.store.telemetry("stream/bay-1/1", now_s - 60.0, now_s + 60.0))
        assert kept <= streams.BURST
        assert kit.reports._streams.dropped == 2_000 - streams.BURST

    on_wire(scenario)


@pytest.mark.parametrize("action", ["NotifyEvent", "NotifyMonitoringReport"])
def test_at10_a_flood_of_monitors_and_events_is_bounded(action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_sql, "RECORD_ROWS", 60)
    monkeypatch.setattr(ledger_sql, "JOURNAL_ROWS", 20)

    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        place = {"component": {"name": "Bay"}, "variable": {"name": "Heat"}}
        for number in range(30):
            watch = {"transaction": False, "value": 1.0, "type": "Delta", "severity": 0}
            watches = [{**watch, "id": 10 * number + n, "eventNotificationType": "CustomMonitor"} for n in range(10)]
            happened = {
                "trigger": "Delta",
                "actualValue": "x" * 1_000,
                "eventNotificationType": "CustomMonitor",
                "severity": 0,
            }
            stamp = {"seqNo": 0, "generatedAt": kit.stamp()}
            if action == "NotifyEvent":
                items = [{**place, **happened, "eventId": n, "timestamp": kit.stamp()} for n in range(101)]
                frame = await raw.call(action, {**stamp, "eventData": items})
                assert (frame[0], frame[2]) == (4, "OccurrenceConstraintViolation"), "101 in one message"
                assert await raw.ask(action, **stamp, eventData=items[:30]) == {}
            else:
                await raw.call(
                    action, {**stamp, "requestId": number, "monitor": [{**place, "variableMonitoring": watches}]}
                )
        assert len(kit.records("monitor")) <= 60
        assert len(kit.journal("event")) <= 20
        assert max((len(json.dumps(entry)) for entry in kit.journal("event")), default=0) < 30_000
        assert kit.codes().count("station_event") + kit.codes().count("security") <= 30, "the worst of each message"

    on_wire(scenario)


def test_at10_an_item_too_large_to_keep_is_refused() -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await kit.station()
        large = {"vendorId": "v", "filler": ["x" * 1_000] * 100}
        frame = await raw.call("NotifyWebPaymentStarted", {"evseId": 1, "timeout": 1, "customData": large})
        assert (frame[0], frame[2]) == (4, "OccurrenceConstraintViolation")
        assert kit.journal("web_payment") == []

    on_wire(scenario)


# --- AT11: the connection ends at any moment --------------------------------------------------------------------------
class Hesitant(MemoryStore):
    """A store whose commits take some rounds of the loop, before and after."""

    async def _write(self, write: Any) -> Any:
        for _ in range(2):
            await asyncio.sleep(0)
        result = await super()._write(write)
        for _ in range(2):
            await asyncio.sleep(0)
        return result


Look = Callable[[Kit], tuple[bool, bool]]
"""Whether the record is there, and whether its effect is."""


def transaction(kit: Kit) -> tuple[bool, bool]:
    return bool(kit.store.transaction_events("bay-1", "tx-1")), bool(kit.board.connected[0])


def report_part(kit: Kit) -> tuple[bool, bool]:
    complete = any(one.state == "complete" for one in kit.reports.reports("bay-1"))
    return bool(kit.records("variable")), complete


def security(kit: Kit) -> tuple[bool, bool]:
    return bool(kit.journal("security")), bool(kit.board.fault[0]) and "security" in kit.codes()


def stream(kit: Kit) -> tuple[bool, bool]:
    opened: set[int] = kit.reports._streams._open.get("bay-1", set())
    return bool(kit.records("stream")), 1 in opened


def firmware(kit: Kit) -> tuple[bool, bool]:
    return bool(kit.records("firmware")), "Firmware update" in kit.texts()


MOMENTS: dict[str, tuple[str, Callable[[Kit], dict[str, Any]], Look]] = {
    "transaction": ("TransactionEvent", lambda kit: event(kit.clock, "Started", 0, soc=70.0), transaction),
    "report": ("NotifyReport", lambda kit: told_report(kit, 7, 0, "A", "B", tbc=False), report_part),
    "tamper": (
        "SecurityEventNotification",
        lambda kit: {"type": "TamperDetectionActivated", "timestamp": kit.stamp()},
        security,
    ),
    "stream": (
        "OpenPeriodicEventStream",
        lambda _kit: {"constantStreamData": {"id": 1, "variableMonitoringId": 1, "params": {}}},
        stream,
    ),
    "firmware": ("FirmwareStatusNotification", lambda _kit: {"status": "DownloadFailed"}, firmware),
}


@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.parametrize("rounds", range(0, 30, 1))
def test_at11_a_record_and_its_effect_are_never_parted(name: str, rounds: int) -> None:
    async def scenario() -> None:
        kit = Kit(store=Hesitant())
        raw = await kit.station()
        action, make, look = MOMENTS[name]
        told = make(kit)
        sending = asyncio.ensure_future(raw.call(action, told, "m-1"))
        for _ in range(rounds):
            await asyncio.sleep(0)
        raw.link.drop()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await kit.clock.sleep(1.0)
        recorded, effective = look(kit)
        assert recorded == effective
        again = await kit.station()
        frame = await again.call(action, told, "m-1")
        assert frame[0] == 3
        assert look(kit) == (True, True)
        if name == "transaction":
            assert len(kit.store.transaction_events("bay-1", "tx-1")) == 1

    on_wire(scenario)


# --- AT15: every session aborts at once (Brokenwire) ------------------------------------------------------------------
BAYS, TARGET_KW, FALLBACK_KW = 6, 200.0, 4.0
BUSY, CALM = 225.0, 150.0
CALM_S = 1_800.0
"""From then on the building leaves room below the target."""
LOSS_S = CALM_S - 40.0
SLACK_KW = 1.0
"""The meter shows the mean of half a second, the building's texture moves within it."""


async def shaving_site() -> WireSite:
    """Six vehicles hold a busy building at the target; at `LOSS_S` all of them leave, at `LOSS_S` + 15 s hungry ones come."""
    givers = [stay(row, -600.0, LOSS_S, 0.7, 0.5) for row in range(BAYS)]
    givers = [structs.replace(item, told_departs_s=START_S + 4 * 3_600.0) for item in givers]
    hungry = [stay(row, LOSS_S + 15.0, 4 * 3_600.0, 0.4, 0.8) for row in range(BAYS)]
    blocks_kw = (BUSY, BUSY, *(CALM,) * 6)
    wire = WireSite(world(BAYS, arrivals=[*givers, *hungry], blocks_kw=blocks_kw), start_s=START_S + CALM_S - 120.0)
    wire.start()
    await wire.after(CYCLE_S / 2.0)
    await wire.until_giving(20.0, within_s=60.0)
    return wire


async def pass_until(wire: WireSite, at_s: float, check: Callable[[float, float], None]) -> None:
    """Let time pass to `at_s` from `START_S`; every half second: power at the connection and of the building alone."""
    while wire.clock.wall() - START_S < at_s:
        await wire.after(CYCLE_S)
        sample = wire.emulated.sample
        assert sample is not None
        check(sample.grid_kw, sample.building_kw)


def test_at15_all_sessions_abort_at_once_and_come_back_at_once() -> None:
    def nobody_charges(grid_kw: float, building_kw: float) -> None:
        assert grid_kw <= building_kw + SLACK_KW, "target and lost discharge, no more"

    def nothing_beyond_the_limit(grid_kw: float, _building_kw: float) -> None:
        powers.append(float(wire.power_kw.sum()))
        assert grid_kw <= TARGET_KW + 10.0 * SLACK_KW, "no stampede"

    powers: list[float] = []
    wire: WireSite

    async def scenario() -> None:
        nonlocal wire
        wire = await shaving_site()
        await pass_until(wire, LOSS_S + CYCLE_S, lambda _grid, _building: None)
        assert wire.power_kw.sum() == 0.0, "all are gone"
        await pass_until(wire, LOSS_S + 15.0 - CYCLE_S, nobody_charges)
        await pass_until(wire, LOSS_S + 15.0 + 2 * CYCLE_S, lambda _grid, _building: None)
        assert wire.board.connected.all(), "all are back"
        await pass_until(wire, CALM_S - CYCLE_S, nobody_charges)
        await pass_until(wire, CALM_S + 2 * CYCLE_S, lambda _grid, _building: None)
        await pass_until(wire, CALM_S + 30.0, nothing_beyond_the_limit)
        assert max(powers) > 20.0, "they charge when there is room"
        await wire.stop()

    on_wire(scenario)


@pytest.mark.parametrize("how", ["fault", "tamper"])
def test_at15_all_chargers_fail_at_once(how: str) -> None:
    async def scenario() -> None:
        wire = await shaving_site()
        before_kw = float(-wire.power_kw.sum())
        assert before_kw >= 20.0
        for station in wire.stations.values():
            station.break_down() if how == "fault" else station.tamper()
        await wire.after(CYCLE_S)
        assert np.abs(wire.power_kw).sum() == 0.0

        def only_the_building(grid_kw: float, building_kw: float) -> None:
            assert grid_kw <= building_kw + SLACK_KW

        await pass_until(wire, wire.clock.wall() - START_S + 10.0, only_the_building)
        if how == "fault":
            for station in wire.stations.values():
                station.break_down(active=False)
        await pass_until(wire, wire.clock.wall() - START_S + 10.0, only_the_building)
        assert (wire.decision.setpoint_kw <= 0.0).all()
        await wire.stop()

    on_wire(scenario)


def test_at15_all_links_end_at_once() -> None:
    async def scenario() -> None:
        wire = await shaving_site()
        for link in list(wire.links.values()):
            link.drop()

        def no_more_than_the_fallback(grid_kw: float, building_kw: float) -> None:
            assert grid_kw <= building_kw + BAYS * FALLBACK_KW + SLACK_KW

        await pass_until(wire, wire.clock.wall() - START_S + 5.0, no_more_than_the_fallback)
        assert wire.csms.online == BAYS

        def held_again(grid_kw: float, _building_kw: float) -> None:
            assert TARGET_KW - 15.0 <= grid_kw <= TARGET_KW + 5.0

        await pass_until(wire, LOSS_S - 1.0, held_again)
        await wire.stop()

    on_wire(scenario)
