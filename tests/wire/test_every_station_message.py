"""Every message a station can send, as small and as large as its schema allows: answered validly, never by a failure of ours."""

from __future__ import annotations

import asyncio
import json

import pytest

from gridtide.wire.ocpp.actions import FROM_BOTH, FROM_STATION, TABLES, Version
from tests.day.raw_station import RawStation
from tests.day.wire_site import on_wire
from tests.wire.negative_cases import VERSIONS, Ward, lighter
from tests.wire.ocpp_samples import Extent, sample, validator

SAID = [
    (version, action)
    for version in VERSIONS
    for action in sorted(FROM_STATION | FROM_BOTH)
    if action in TABLES[version]
]


@pytest.mark.parametrize("extent", ["minimal", "maximal"])
@pytest.mark.parametrize(("version", "action"), SAID)
def test_answered_as_the_standard_says(version: Version, action: str, extent: Extent) -> None:
    async def scenario() -> None:
        ward = Ward(version)
        station = await RawStation(ward.csms, ward.clock, "bay-1", version).boot()
        await station.tell("Started", 0, soc=70.0)
        payload = lighter(sample((version, action, "request"), extent))
        is_send = TABLES[version][action][1] is None
        waiting: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
        station._open["said"] = waiting
        await station.link.send(json.dumps([6 if is_send else 2, "said", action, payload]).encode())
        if not is_send:
            async with asyncio.timeout(30.0):
                answer = await waiting
            if answer[0] == 3:
                validator((version, action, "response")).validate(answer[2])
            else:
                # Refused for what it holds; that the action is not known or that we failed is no answer.
                assert answer[2] in ("OccurrenceConstraintViolation", "PropertyConstraintViolation", "SecurityError"), (
                    answer
                )
        assert (await station.call("Heartbeat", {}))[0] == 3
        ward.ticks.cancel()
        station.link.drop()

    on_wire(scenario)
