"""The parsers that face bytes of others: their seeds, and how one input is fed so that only their own errors are allowed."""

from __future__ import annotations

import asyncio
import itertools
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gridtide.app.config import parse_site
from gridtide.app.problems import ConfigError
from gridtide.market.tariff import TariffError, demand_prices, prices
from gridtide.market.tariff_formats import parse_tariff
from gridtide.run.credentials import basic_password
from gridtide.run.store import MemoryStore, StoreRangeError, TransactionEvent
from gridtide.wire.modbus.frames import Frame, FrameError, first_answer, split_frames
from gridtide.wire.modbus.presets import PRESETS
from gridtide.wire.modbus.reading import MeterReadError
from gridtide.wire.modbus.registers import RegisterMapError, decode, encode, plan_reads
from gridtide.wire.modbus.server import EmulatedMeter
from gridtide.wire.modbus.table import map_from_table
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import TABLES, Role, Version, choose_subprotocol, identity_of
from gridtide.wire.ocpp.dialects_vendor import DataTransferTemplate, filled, template_problems
from gridtide.wire.ocpp.errors import ERROR_CODES, RemoteProtocolError
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.frames import parse_frame
from gridtide.wire.ocpp.session import Session
from tests.wire.ocpp_samples import Message, all_messages, sample

Feed = Callable[[bytes], None]
"""Takes one input; raises whatever the parser must not raise."""

OFFICE = Path(__file__).parents[1] / "examples" / "office.toml"
SITE = b"""[site]
name = "Site"
timezone = "Europe/Berlin"
[grid]
transformer_kw = 100
[peak]
limit_kw = 60
[[stations]]
id = "bay"
count = 2
charge_kw = 11
"""
TARIFF = b"""name = "T"
timezone = "Europe/Berlin"
currency = "EUR"
effective = 2026-01-01
[demand]
interval_min = 15
[[season]]
name = "all"
from = "01-01"
[[season.period]]
name = "day"
days = "all"
price_per_kwh = 0.2
"""
DAYS = b"[" + b",".join([b"[" + b"0," * 16 + b"1,1,1,1,1,0,0,0]"] * 12) + b"]"
URDB = (
    b"""{"items":[{"label":"539f6a","utility":"Town","name":"TOU","startdate":1727740800,"timezone":"America/Denver",
"energyratestructure":[[{"rate":0.1,"adj":0.01,"max":500,"unit":"kWh"},{"rate":0.2,"unit":"kWh"}],[{"rate":0.3,"sell":0.05}]],
"energyweekdayschedule":%s,"demandratestructure":[[{"rate":12.5,"max":100},{"rate":9}]],"demandwindow":15,"demandratchetpercentage":[0,0,0,0,0,0.5,0.5,0,0,0,0,0],
"flatdemandstructure":[[{"rate":8,"unit":"kW"}]],"flatdemandmonths":[0,0,0,0,0,0,0,0,0,0,0,0],"lookbackpercent":0.8,
"lookbackmonths":[true,true,true,true,true,true,true,true,true,true,true,true],"lookbackrange":11,"dgrules":"Net Metering",
"coincidentratestructure":[[{"rate":3}]],"fixedchargefirstmeter":50,"fixedchargeunits":"$/month","mincharge":10,
"minchargeunits":"$/day","demandreactivepowercharge":1.5}],"holidays":["12-25","2026-04-06"]}"""
    % DAYS
)
OWN_TARIFF = b"""name = "T"
timezone = "Europe/Berlin"
currency = "EUR"
holidays = ["12-25", "2026-04-06"]
metering = "net_metering"
tax_fraction = 0.19
[demand]
interval_min = 15
ratchet_fraction = 0.8
[[rate]]
name = "peak"
tiers = [{ price_per_kwh = 0.3, up_to = 5000, unit = "kwh_per_kw", sell_per_kwh = 0.05 }, { price_per_kwh = 0.25 }]
[[season]]
from = "05-01"
to = "04-30"
demand_price_per_kw = 12.0
[[season.price]]
days = "Mon-Fri"
steps = [["00:00", 0.10], ["16:00", "peak"]]
[[season.price]]
steps = 0.2
[[demand_charge]]
name = "evening"
days = "Mon-Fri"
hours = ["16:00", "21:00"]
tiers = [{ price_per_kw = 5.0, up_to_kw = 200 }, { price_per_kw = 9.0 }]
[regime]
below_per_kw = 34.29
below_per_kwh = 0.068
above_per_kw = 148.82
above_per_kwh = 0.0222
"""
ACN_TARIFF = b"""{"name":"n","interval_s":900,"schedule":[{"id":"a","effective_start":"6-1","effective_end":"5-31","dow_mask":"ALL",
"times":[0,8.5],"tariffs":[0.1,0.2],"demand_charge":4}]}"""
ACN = b'{"name":"SCE","effective":"2019-03-01","schedule":[{"name":"Summer","months":[6,9],"days":"WEEKDAY",\
"tou":{"0":0.1,"12":"0.3"},"demand_charge":15.5}]}'
FRAMES: tuple[bytes, ...] = (
    b'[2,"id-1","Heartbeat",{}]',
    b'[2,"id-2","BootNotification",{"reason":"PowerUp","chargingStation":{"model":"m","vendorName":"v"}}]',
    b'[3,"own-0",{"status":"Accepted"}]',
    b'[4,"own-0","GenericError","why",{}]',
    b'[5,"id-1","GenericError","why",{"a":[1,2]}]',
    b'[6,"id-6","NotifyPeriodicEventStream",{"id":1,"pending":0,"basetime":"2026-01-01T00:00:00Z","data":[]}]',
    b'[2,"id-3","TransactionEvent",{"eventType":"Started","timestamp":"2026-01-01T00:00:00Z","triggerReason":"Authorized",'
    b'"seqNo":0,"transactionInfo":{"transactionId":"t"},"meterValue":[{"timestamp":"2026-01-01T00:00:00Z",'
    b'"sampledValue":[{"value":1.5,"measurand":"SoC","unitOfMeasure":{"unit":"Percent"}}]}]}]',
    b'[2,"id-4","DataTransfer",{"vendorId":"v","data":{"x":[1,null]}}]',
    b'[2,"id-5","SetChargingProfile",{"evseId":1,"chargingProfile":{"id":1,"stackLevel":0,"chargingProfilePurpose":'
    b'"TxDefaultProfile","chargingProfileKind":"Relative","chargingSchedule":[{"id":1,"chargingRateUnit":"W",'
    b'"chargingSchedulePeriod":[{"startPeriod":0,"limit":5.0}]}]}}]',
)


def _require(holds: object) -> None:
    """Raise AssertionError, which no parser may raise, unless something holds."""
    if not holds:
        raise AssertionError("the parser's error says nothing")


def frame() -> tuple[list[bytes], Feed]:
    """The outer OCPP frame."""

    def feed(data: bytes) -> None:
        try:
            parse_frame(data)
        except RemoteProtocolError as defect:
            _require(defect.code in ERROR_CODES)

    return list(FRAMES), feed


def payload() -> tuple[list[bytes], Feed]:
    """The payloads of all 309 types: a seed names its type on the first line; what is accepted is encoded again."""
    by_name: dict[bytes, Message] = {":".join(message).encode(): message for message in all_messages()}
    seeds = [
        name + b"\n" + json.dumps(sample(message, extent), ensure_ascii=False).encode()
        for name, message in by_name.items()
        for extent in ("minimal", "maximal")
        if len(json.dumps(sample(message, extent))) < 20_000
    ]
    turn = itertools.cycle(by_name.values())

    def feed(data: bytes) -> None:
        name, _, body = data.partition(b"\n")
        message = by_name.get(name) or next(turn)
        try:
            value = codec.decode(*message, body)
        except RemoteProtocolError as defect:
            _require(defect.code in ERROR_CODES)
            return
        codec.encode(*message, value)

    return seeds, feed


def _session(role: Role, version: Version) -> Feed:
    """A session that lives for 500 inputs, with a call of ours open; what it sends must be frames."""
    state: dict[str, Any] = {"left": 0}
    action = "TriggerMessage" if role == "csms" else "Heartbeat"
    body = {"requestedMessage": "Heartbeat"} if role == "csms" else {}
    own = msgspec.convert(body, TABLES[version][action][0])

    def fresh() -> None:
        numbers = itertools.count()
        state["session"] = Session(role, version, lambda: f"own-{next(numbers)}", boot_state="accepted")
        state["left"], state["now_s"] = 500, 0.0

    def feed(data: bytes) -> None:
        if not state["left"]:
            fresh()
        session: Session = state["session"]
        state["left"] -= 1
        state["now_s"] += 0.25
        if session.waiting_calls < 2:
            session.call(action, own, state["now_s"])
        for event in session.receive(data, state["now_s"]):
            if isinstance(event, CallReceived) and state["left"] % 2:
                session.refuse(event.id, "InternalError", "fuzz")
        session.tick(state["now_s"])
        for sent in session.bytes_to_send():
            parse_frame(sent)

    return feed


def csms_session() -> tuple[list[bytes], Feed]:
    """`Session.receive` of a CSMS, OCPP 2.1."""
    return list(FRAMES), _session("csms", "2.1")


def station_session() -> tuple[list[bytes], Feed]:
    """`Session.receive` of a station, OCPP 2.0.1."""
    return list(FRAMES), _session("station", "2.0.1")


def modbus() -> tuple[list[bytes], Feed]:
    """Modbus TCP frames as a client and as a server, and the registers of a preset."""
    device = next(iter(PRESETS.values()))(1)
    server, live = EmulatedMeter(device), {"power_kw": 12.5}
    request = Frame(1, 1, b"\x03\x00\x00\x00\x02")
    seeds = [request.encode(), Frame(1, 1, b"\x03\x04\x00\x00\x30\x39").encode(), Frame(1, 1, b"\x83\x02").encode()]
    seeds += [Frame(7, 1, b"\x10\x00\x00\x00\x02\x04\x00\x01\x00\x02").encode()]
    blocks = plan_reads(device)

    def feed(data: bytes) -> None:
        answer = first_answer(request, data)
        assert answer is None or isinstance(answer, Frame | MeterReadError)
        words = [int.from_bytes(data[i : i + 2], "big") for i in range(0, min(len(data), 250), 2)]
        decode(device, {block: (words * block.count)[: block.count] for block in blocks if words})
        try:
            frames, _ = split_frames(data)
        except FrameError:
            return
        for asked in frames:
            server.reply(asked, live)
        encode(device, live)

    return seeds, feed


def modbus_table() -> tuple[list[bytes], Feed]:
    """A meter's register map as an operator writes it."""
    seed = b"""name = "m"
unit_id = 1
[[register]]
name = "power_kw"
address = 0
kind = "int32"
unit = "W"
scale = 0.1
"""

    def feed(data: bytes) -> None:
        try:
            table = tomllib.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return
        try:
            map_from_table(table)
        except RegisterMapError as error:
            _require(error.problems)

    return [seed], feed


def tariff() -> tuple[list[bytes], Feed]:
    """Tariffs in our own and in the ACN layout; what is accepted has a price at every hour of a week."""
    return [TARIFF, ACN, OWN_TARIFF, ACN_TARIFF], _tariff_feed()


def urdb() -> tuple[list[bytes], Feed]:
    """Rates of the URDB, as its API gives them."""
    return [URDB], _tariff_feed()


def _tariff_feed() -> Feed:
    hours_s = 1.75e9 + 3600.0 * np.arange(168.0)

    def feed(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        try:
            raw = json.loads(text) if text[:1] == "{" else tomllib.loads(text)
        except (ValueError, RecursionError):
            return
        try:
            found = parse_tariff(raw)
        except TariffError as error:
            _require(error.problems)
            return
        _require(np.isfinite(prices(found, hours_s)).all() and np.isfinite(demand_prices(found, hours_s)).all())

    return feed


def site_config() -> tuple[list[bytes], Feed]:
    """A site's configuration; the long example now and then."""

    def feed(data: bytes) -> None:
        try:
            parse_site(data.decode("utf-8", "replace"), "x.toml")
        except ConfigError as error:
            _require(error.problems)

    return [*[SITE] * 15, OFFICE.read_bytes()], feed


def door() -> tuple[list[bytes], Feed]:
    """What comes before the upgrade: path, Basic header, offered subprotocols."""
    seeds = [b"/ocpp/bay-1", b"/ocpp/a%2Fb?x=1", b"Basic YmF5LTE6cGFzc3dvcmQ=", b"ocpp2.0.1, ocpp2.1", b"Basic Og=="]

    def feed(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        identity = identity_of(text)
        assert identity is None or 1 <= len(identity) <= 48
        assert basic_password(text, "bay-1") is None or text.lower().startswith("basic ")
        choose_subprotocol(text.split(","))

    return seeds, feed


def template() -> tuple[list[bytes], Feed]:
    """The data of a vendor's DataTransfer template; what has no problems can be filled in."""
    seed = b'{"p":"$power_w","t":"$lease_s","x":["evse-${evse_id}",1.5,"$transaction_id"],"$$":{"cost":"5 $$"}}'

    def feed(data: bytes) -> None:
        made = DataTransferTemplate(vendor_id="v", data=data.decode("utf-8", "replace"))
        if template_problems(made):
            return
        found = filled(made, power_kw=-7.0, lease_s=5, evse_id=1, transaction_id='"}')
        msgspec.json.encode(found)

    return [seed], feed


def store() -> tuple[list[bytes], Feed]:
    """Rows that a station filled: what the store takes, every list can read again."""
    seed = {"station_id": "s", "transaction_id": "t", "seq_no": 0, "at_s": 1.8e9, "evse_id": 1, "payload_json": "{}"}
    seeds = [json.dumps(seed | {"event_type": kind}).encode() for kind in ("Started", "Updated", "Ended")]
    runner, state = asyncio.Runner(), {"left": 0}
    kept: list[MemoryStore] = []

    def feed(data: bytes) -> None:
        if not state["left"]:
            kept[:], state["left"] = [MemoryStore()], 200
        state["left"] -= 1
        try:
            row = msgspec.json.decode(data, type=dict[str, Any])
            event = msgspec.convert(
                row | {"payload_json": str(row.get("payload_json")).encode("utf-8", "replace")}, _Row
            )
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return
        try:
            runner.run(kept[0].add_transaction_event(TransactionEvent(**msgspec.structs.asdict(event))))
        except StoreRangeError:
            return
        kept[0].open_transactions()
        kept[0].transaction_events(event.station_id, event.transaction_id)

    return seeds, feed


class _Row(msgspec.Struct):
    """A transaction event with nothing checked but the JSON types."""

    station_id: str
    transaction_id: str
    seq_no: int
    event_type: Any
    at_s: float
    evse_id: int | None
    payload_json: bytes


PARSERS: dict[str, Callable[[], tuple[list[bytes], Feed]]] = {
    "csms-session": csms_session,
    "door": door,
    "frame": frame,
    "modbus": modbus,
    "modbus-table": modbus_table,
    "payload": payload,
    "site-config": site_config,
    "station-session": station_session,
    "store": store,
    "tariff": tariff,
    "template": template,
    "urdb": urdb,
}
