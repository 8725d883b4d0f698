"""Sessions out of transaction events: energy by registers, what is missing, what came late, how it is exported."""

import asyncio
import csv
import io
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.run.csms import sessions as session_module
from gridtide.run.csms.sessions import Session, as_csv, cdr, cdrs, events_of, export, session_of, sessions
from gridtide.run.store import MemoryStore, TransactionEvent
from gridtide.run.store.rows import TransactionHead

T0 = 1_772_445_600.0
KINDS = {0: "Started"}


def meter(at_s: float, taken: float | None = None, given: float | None = None, **extra: Any) -> dict[str, Any]:
    samples: list[dict[str, Any]] = [extra] if extra else []
    for measurand, value in (("Energy.Active.Import.Register", taken), ("Energy.Active.Export.Register", given)):
        if value is not None:
            samples.append({"value": value, "measurand": measurand, "unitOfMeasure": {"unit": "kWh"}})
    return {"timestamp": datetime.fromtimestamp(at_s, UTC).isoformat(), "sampledValue": samples}


def event(seq: int, *meters: dict[str, Any], kind: str | None = None, at_s: float | None = None, **more: Any) -> Any:
    payload = {"eventType": kind, "meterValue": list(meters), "transactionInfo": {"transactionId": "t1"}, **more}
    return TransactionEvent(
        station_id="cs1", transaction_id="t1", seq_no=seq, event_type=kind or KINDS.get(seq, "Updated"),  # type: ignore[arg-type]
        at_s=T0 + 60.0 * seq if at_s is None else at_s, evse_id=1, payload_json=msgspec.json.encode(payload),
    )  # fmt: skip


def whole() -> list[TransactionEvent]:
    return [
        event(0, meter(T0, 100.0, 5.0), idToken={"idToken": "AA", "type": "ISO14443"}, evse={"id": 1, "connectorId": 2}),
        event(1, meter(T0 + 60, 104.0, 5.0)),
        event(2, meter(T0 + 120, 104.0, 7.5)),
        event(
            3, meter(T0 + 180, 106.0, 7.5), kind="Ended",
            transactionInfo={"transactionId": "t1", "stoppedReason": "EVDisconnected"},
        ),
    ]  # fmt: skip


def test_energy_both_ways_by_the_registers() -> None:
    found = session_of(whole())
    assert (found.energy_in_kwh, found.energy_out_kwh) == (6.0, 2.5)
    assert (found.started_s, found.ended_s, found.duration_s) == (T0, T0 + 180, 180.0)
    assert (found.id_token, found.token_type, found.evse, found.connector) == ("AA", "ISO14443", 1, 2)
    assert (found.stopped_reason, found.missing_events, found.offline_events, found.notes) == (
        "EVDisconnected", 0, 0, (),
    )  # fmt: skip


def test_order_of_arrival_does_not_matter() -> None:
    assert session_of(whole()[::-1]) == session_of(whole())


def test_a_gap_is_told_and_energy_counts_what_was_told() -> None:
    events = [item for item in whole() if item.seq_no != 1]
    found = session_of(events)
    assert found.missing_events == 1
    assert found.energy_in_kwh == 6.0
    assert "1 events are missing." in found.notes


def test_beginning_that_was_not_told() -> None:
    found = session_of(whole()[1:])
    assert found.started_s == T0 + 60
    assert found.energy_in_kwh == 2.0
    assert "Its beginning was not told." in found.notes


@pytest.mark.parametrize("meters", [[], [meter(T0, 10.0)], [meter(T0, value=3.0, measurand="Power.Active.Import")]])
def test_without_registers_energy_is_unknown_and_not_zero(meters: list[dict[str, Any]]) -> None:
    found = session_of([event(0, *meters), event(1, kind="Ended")])
    assert found.energy_in_kwh is None
    assert any("unknown" in note for note in found.notes)
    assert cdr(found)["total_energy"] is None


def test_a_running_session_has_no_end_and_no_record() -> None:
    found = session_of(whole()[:-1])
    assert found.ended_s is None
    assert found.duration_s == 120.0
    assert "Not ended." in found.notes
    assert cdrs([found]) == []
    with pytest.raises(ValueError, match="has not ended"):
        cdr(found)


def test_offline_events_count_with_their_own_instants() -> None:
    events = whole()
    events[1] = event(1, meter(T0 + 60, 104.0, 5.0), offline=True)
    found = session_of(events)
    assert (found.offline_events, found.energy_in_kwh) == (1, 6.0)


@pytest.mark.parametrize(
    ("readings", "kwh"),
    [
        ([100.0, 105.0, 0.5, 3.0], 7.5),  # the meter was changed: each part counts
        ([100.0, 105.0, 0.0, 106.0], 6.0),  # one wrong reading adds nothing
        ([10.0, 12.0, 11.0, 13.0], 3.0),  # two in the wrong order
    ],
)
def test_a_register_that_falls_never_adds_energy(readings: list[float], kwh: float) -> None:
    events = [event(k, meter(T0 + 60 * k, value)) for k, value in enumerate(readings)]
    found = session_of(events)
    assert found.energy_in_kwh == kwh
    assert any("fell" in note for note in found.notes)


def test_begin_and_end_in_the_last_event_alone() -> None:
    found = session_of([event(0), event(1, meter(T0 + 60, 12.0), meter(T0, 10.0), kind="Ended")])
    assert found.energy_in_kwh == 2.0


def test_readings_that_make_no_sense_are_as_if_not_told() -> None:
    odd = {"timestamp": "yesterday", "sampledValue": [{"value": 7}]}
    found = session_of([event(0, meter(T0, 1.0), odd), event(1, meter(T0 + 60, 4.0), kind="Ended")])
    assert found.energy_in_kwh == 3.0


@given(
    steps=st.lists(st.floats(0.0, 50.0), min_size=1, max_size=20),
    drop=st.sets(st.integers(1, 18)),
    begin=st.floats(0.0, 1e6),
)
def test_energy_is_never_more_than_what_flowed(steps: list[float], drop: set[int], begin: float) -> None:
    register, events = begin, []
    for k, step in enumerate(steps):
        if k not in drop:
            events.append(event(k, meter(T0 + 60 * k, register)))
        register += step
    events.append(event(len(steps), meter(T0 + 60 * len(steps), register), kind="Ended"))
    found = session_of(events)
    assert found.energy_in_kwh is not None
    assert found.energy_in_kwh == pytest.approx(sum(steps), abs=2e-3)
    assert found.missing_events == len({k for k in drop if k < len(steps)})


odd_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
parts = st.sampled_from(["meterValue", "idToken", "evse", "transactionInfo", "offline", "triggerReason"])
odd_meter = st.fixed_dictionaries(
    {
        "timestamp": st.sampled_from(
            ["2026-03-02T10:00:00Z", "2026-03-02T10:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", ""]
        ),
        "sampledValue": st.lists(
            st.fixed_dictionaries(
                {"value": st.floats() | st.text(max_size=3)},
                optional={"measurand": st.text(max_size=5), "unitOfMeasure": odd_json},
            ),
            max_size=2,
        ),
    }
)


@settings(max_examples=200, deadline=None)
@given(
    payloads=st.lists(
        st.dictionaries(parts, odd_json | st.lists(odd_meter, max_size=3), max_size=4) | odd_json,
        min_size=1,
        max_size=4,
    )
)
def test_no_stored_payload_breaks_a_session_or_its_exports(payloads: list[Any]) -> None:
    events = [
        msgspec.structs.replace(event(k), payload_json=msgspec.json.encode(payload))
        for k, payload in enumerate(payloads)
    ]
    found = session_of(events)
    assert found.energy_in_kwh is None or math.isfinite(found.energy_in_kwh)
    rows = list(csv.reader(io.StringIO(as_csv([found]))))
    assert len(rows) == 2
    assert len(rows[0]) == len(rows[1])
    msgspec.json.encode(cdrs([msgspec.structs.replace(found, ended_s=T0)]))


def test_record_has_ocpi_names() -> None:
    record = cdr(session_of(whole()))
    assert record["cdr_token"] == {"uid": "AA", "type": "RFID", "contract_id": "AA"}
    assert record["cdr_location"] == {"id": "cs1", "evse_uid": "cs1/1", "connector_id": "2"}
    assert (record["start_date_time"], record["end_date_time"]) == ("2026-03-02T10:00:00Z", "2026-03-02T10:03:00Z")
    assert (record["total_energy"], record["energy_out_kwh"], record["total_time"]) == (6.0, 2.5, 0.05)
    assert {part["type"]: part["volume"] for part in record["charging_periods"][0]["dimensions"]} == {
        "ENERGY": 6.0, "TIME": 0.05,
    }  # fmt: skip


def test_remote_start_is_a_command() -> None:
    events = whole()
    events[0] = event(0, meter(T0, 100.0), triggerReason="RemoteStart")
    assert cdr(session_of(events))["auth_method"] == "COMMAND"


def test_csv_has_a_line_each_and_runs_no_formula() -> None:
    evil = msgspec.structs.replace(session_of(whole()), id_token='=1+"a,b"')
    rows = list(csv.DictReader(io.StringIO(as_csv([evil, session_of(whole()[:-1])]))))
    assert len(rows) == 2
    assert rows[0]["id_token"] == '\'=1+"a,b"'
    assert rows[0]["started"] == "2026-03-02T10:00:00Z"
    assert rows[0]["energy_out_kwh"] == "2.5"
    assert rows[1]["ended"] == ""


def test_sessions_of_a_store_by_their_beginning() -> None:
    async def scenario() -> list[Session]:
        store = MemoryStore()
        for item in whole():
            await store.add_transaction_event(item)
        later = msgspec.structs.replace(whole()[0], transaction_id="t2", at_s=T0 + 1_000.0)
        await store.add_transaction_event(later)
        assert [one.transaction_id for one in sessions(store, T0, T0 + 2_000.0)] == ["t1", "t2"]
        assert sessions(store, T0, T0 + 2_000.0, "other") == []
        return sessions(store, T0 + 1.0, T0 + 2_000.0)

    assert [one.transaction_id for one in asyncio.run(scenario())] == ["t2"]


def test_no_events_are_no_session() -> None:
    with pytest.raises(ValueError, match="events is empty"):
        session_of([])


# --- long transactions ------------------------------------------------------------------------------------------------
def filled(store: MemoryStore, count: int) -> TransactionHead:
    async def fill() -> None:
        for seq in range(count):
            kind = "Ended" if seq == count - 1 else None
            await store.add_transaction_event(event(seq, meter(T0 + seq, 10.0 + seq), kind=kind, at_s=T0 + seq))

    asyncio.run(fill())
    (head,) = store.transactions(T0, T0 + 1.0)
    return head


@pytest.mark.parametrize("count", [1, 4, 5, 9, 10, 11, 12, 23])
def test_events_are_read_in_short_pages_and_only_the_ends_of_a_very_long_transaction(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "PAGE", 3)
    monkeypatch.setattr(session_module, "MOST_EVENTS", 10)
    store, read = MemoryStore(), list[int]()
    head, whole_read = filled(store, count), store._read

    def counted(call: Any) -> Any:
        found = whole_read(call)
        read.append(len(found) if isinstance(found, list) else 1)
        return found

    monkeypatch.setattr(store, "_read", counted)
    seen = [one.seq_no for one in events_of(store, head)]
    assert seen == (list(range(count)) if count <= 10 else [*range(5), *range(count - 5, count)])
    assert max(read) <= 3
    (found,) = sessions(store, T0, T0 + 1.0)
    assert (found.events, found.missing_events, found.ended_s) == (count, 0, T0 + count - 1)
    assert found.energy_in_kwh == (None if count == 1 else count - 1.0)
    assert any("only the first and the last" in note for note in found.notes) == (count > 10)
    assert not any("events are missing" in note for note in found.notes)


def test_an_export_is_what_the_sessions_are() -> None:
    store = MemoryStore()
    filled(store, 3)
    found = sessions(store, T0, T0 + 1.0)
    assert msgspec.json.decode(export(store, T0, T0 + 1.0, None, "json"), type=list[Session]) == found
    assert export(store, T0, T0 + 1.0, "cs1", "csv").decode() == as_csv(found)
    assert msgspec.json.decode(export(store, T0, T0 + 1.0, None, "cdr")) == cdrs(found)
    assert msgspec.json.decode(export(store, T0, T0 + 1.0, "other", "json")) == []
