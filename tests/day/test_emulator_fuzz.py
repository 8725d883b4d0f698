"""Whatever valid request a CSMS sends, in any order and with any numbers: the station answers, lives, and keeps its bounds."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridtide.run.emulator.firmware import Firmware
from gridtide.run.emulator.trust import parse_chain
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import FROM_BOTH, FROM_STATION, TABLES, Version
from gridtide.wire.ocpp.errors import RemoteProtocolError
from tests.day.raw_csms import RawCsms, with_csms
from tests.wire.ocpp_samples import places, sample, with_value

NUMBERS = [-(2**62), -1, 0, 1, 2, 5, 1000, 2**62, 1e300, -1e300, 0.5, -5.0]
TEXTS = [
    "",
    "0",
    "1",
    "card-1",
    "gridtide",
    "EVSE",
    "AuthCtrlr",
    "TemperatureSensor",
    "Temperature",
    "9" * 400,
    "²",
    "nan",
]
TEXTS += ["2026-03-02T10:00:00Z", "2099-12-31T23:59:59Z", "2000-01-01T00:00:00Z", "-----BEGIN CERTIFICATE-----\nAA=="]


def requests(version: Version) -> list[str]:
    return sorted(name for name in TABLES[version] if name not in FROM_STATION or name in FROM_BOTH)


def at(payload: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        payload = payload[step]
    return payload


@st.composite
def request(draw: st.DrawFn, version: Version) -> tuple[str, Any]:
    """A request that the schema allows, with some of its numbers and texts at the edge."""
    action = draw(st.sampled_from(requests(version)))
    payload = sample((version, action, "request"), draw(st.sampled_from(["minimal", "maximal"])))
    paths = [path for path in places(payload) if path]
    for _ in range(draw(st.integers(0, 6)) if paths else 0):
        path = draw(st.sampled_from(paths))
        try:
            old = at(payload, path)
        except (KeyError, IndexError, TypeError):
            continue
        if isinstance(old, bool) or not isinstance(old, int | float | str):
            continue
        changed = with_value(payload, path, draw(st.sampled_from(TEXTS if isinstance(old, str) else NUMBERS)))
        if decoded(version, action, changed) is not None:
            payload = changed
    return action, payload


def decoded(version: Version, action: str, payload: Any) -> Any:
    try:
        return codec.decode(version, action, "request", msgspec.json.encode(payload))
    except RemoteProtocolError:
        return None


async def survives(here: RawCsms, asked: list[tuple[str, Any]], own: bool) -> None:
    """Ask everything; `own`: the ids are those of the running transaction."""
    name = await here.charging()
    for action, payload in asked:
        if own and "transactionId" in payload:
            payload = payload | {"transactionId": name}
        typed = decoded(here.version, action, payload)
        if typed is None:
            continue
        try:
            fields = here.station.blocks.answer(action, typed)
        except RemoteProtocolError:
            continue
        kind = codec.payload_type(here.version, action, "response")
        codec.encode(here.version, action, "response", msgspec.convert(fields, kind))
        await here.after(1.0)
        kw = here.station.power_wish_kw()
        assert math.isfinite(kw)
        here.meter(max(min(kw, 11.0), -11.0))
    await here.after(40.0)
    assert await here.ask("GetLocalListVersion") is not None


@pytest.mark.parametrize("version", ["2.1", "2.0.1"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_no_valid_request_harms_a_station(version: Version, data: st.DataObject) -> None:
    asked = data.draw(st.lists(request(version), min_size=4, max_size=12))
    own = data.draw(st.booleans())
    with_csms(lambda here: survives(here, asked, own), version)


@pytest.mark.parametrize("version", ["2.1", "2.0.1"])
def test_every_sample_of_every_request_is_answered(version: Version) -> None:
    every = [
        (action, sample((version, action, "request"), extent))
        for action in requests(version) for extent in ("minimal", "maximal")
    ]  # fmt: skip

    async def scenario(here: RawCsms) -> None:
        await survives(here, [item for item in every if item[0] != "Reset"], own=False)
        heard = {name for name, _ in here.heard}
        assert "NotifyReport" in heard

    with_csms(scenario, version)


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode("latin-1")))
def test_no_text_breaks_the_reading_of_certificates(text: str) -> None:
    for told in (text, f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"):
        found = parse_chain(told)
        assert found is None or len(found) >= 1


@given(st.text(max_size=200))
def test_no_address_breaks_the_fetching_of_an_image(text: str) -> None:
    bare = object.__new__(Firmware)
    bare.images = {}
    for location in (text, f"data:{text}", f"data:;base64,{text}"):
        found = bare.fetch(location)
        assert found is None or isinstance(found, bytes)
