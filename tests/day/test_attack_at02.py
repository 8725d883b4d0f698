"""AT02, take-over of a session under a second connection with the same identity: the matrix of rules, under random schedules."""

import asyncio
from typing import Any

import pytest

from gridtide.run.net import LinkClosed
from tests.day.csms_kit import Answering, Kit
from tests.day.raw_station import RawStation
from tests.day.wire_site import on_wire

SEEDS = range(1, 9)


async def giving(kit: Kit) -> Answering:
    """bay-1 in a transaction, allowed to discharge."""
    raw = await kit.station()
    await raw.tell("Started", 0, soc=70.0)
    await raw.needs("DC_BPT")
    await kit.clock.sleep(1.0)
    assert kit.board.may_discharge[0]
    return raw


def second(kit: Kit) -> Answering:
    """Another authenticated connection as bay-1, not booted."""
    raw = Answering(kit.csms, kit.clock, "bay-1", kit.version)
    raw.identity = "bay-1"
    return raw


async def close_code(raw: RawStation) -> int:
    """Why the link ended; the reader has seen it."""
    try:
        while True:
            await raw.link.receive()
    except LinkClosed as ended:
        return ended.code


@pytest.mark.parametrize("seed", SEEDS)
def test_at02_a_living_station_stays_and_the_second_is_refused(seed: int) -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await giving(kit)
        station = kit.csms.stations["bay-1"]
        live, generation, underneath = station.conversation, station.generation, set(station.underneath)
        rivals = [second(kit) for _ in range(3)]
        await kit.clock.sleep(10.0)
        for rival in rivals:
            assert rival.served.done()
            assert rival.heard == [], "it is asked and told nothing"
            assert await close_code(rival) == 4409
        assert (station.conversation, station.generation, station.underneath) == (live, generation, underneath)
        assert kit.board.may_discharge[0], "an attacker must not end a discharge either"
        assert kit.texts().count("DuplicateIdentity: a second connection as bay-1 was refused") == 3
        assert {code for code, source, _ in kit.events if source == "bay-1"} == {"security", "duplicate_identity"}
        assert kit.codes().count("duplicate_identity") == 1, "one alarm, not one for each"
        assert (await raw.tell("Updated", 1))[0] == 3

    on_wire(scenario, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_at02_silence_is_replaced_and_nothing_of_the_old_one_survives(seed: int) -> None:
    async def scenario() -> None:
        kit = Kit()
        old = await giving(kit)
        old.answers = False
        station = kit.csms.stations["bay-1"]
        generation = station.generation
        pending: asyncio.Future[Any] = asyncio.ensure_future(
            kit.csms.operator.call("bay-1", "ClearCache", {}, "ann", 60.0)
        )
        await kit.clock.sleep(0.5)
        heirs = [second(kit), second(kit)]
        await kit.clock.sleep(8.0)
        alive = [heir for heir in heirs if not heir.link.closed]
        assert len(alive) == 1, "one takes over, the other is refused by it"
        (heir,) = alive
        assert await close_code(old) == 4409
        assert station.generation == generation + 1
        assert (await pending).status == "failed", "what the old one owed is owed by nobody"
        heard = [action for action, _ in heir.heard]
        assert "ClearCache" not in heard
        assert not kit.board.may_discharge[0], "no discharge until it has spoken"
        assert old.served.done()
        assert station.conversation is not None, "the end of the old one did not remove the new one"
        await heir.boot()
        await kit.clock.sleep(1.0)
        assert not kit.board.may_discharge[0], "its transaction has not spoken"
        await heir.tell("Updated", 1)
        await kit.clock.sleep(1.0)
        assert kit.board.may_discharge[0]
        assert station.accepted is station.conversation
        assert [item.seq_no for item in kit.store.transaction_events("bay-1", "tx-1")] == [0, 1]

    on_wire(scenario, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_at02_the_end_of_the_old_connection_while_it_is_asked_leaves_the_new_one(seed: int) -> None:
    async def scenario() -> None:
        kit = Kit()
        old = await giving(kit)
        old.answers = False
        heir = second(kit)
        await kit.clock.sleep(0.1 * seed)
        old.link.drop()
        await kit.clock.sleep(4.0)
        assert not heir.link.closed
        await heir.boot()
        await kit.clock.sleep(1.0)
        assert kit.csms.online == 1
        assert kit.csms.stations["bay-1"].generation == 2
        assert not kit.board.may_discharge[0]
        assert (await heir.tell("Updated", 1))[0] == 3

    on_wire(scenario, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_at02_an_unknown_identity_touches_nobody(seed: int) -> None:
    async def scenario() -> None:
        kit = Kit()
        raw = await giving(kit)
        before = {name: (one.generation, one.conversation) for name, one in kit.csms.stations.items()}
        stranger = Answering(kit.csms, kit.clock, "bay-9", kit.version)
        await kit.clock.sleep(1.0)
        assert await close_code(stranger) == 4404
        assert {name: (one.generation, one.conversation) for name, one in kit.csms.stations.items()} == before
        assert kit.board.may_discharge[0]
        assert (await raw.tell("Updated", 1))[0] == 3

    on_wire(scenario, seed)
