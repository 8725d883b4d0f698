"""A conversation answers in order, waits for nobody, and leaves a peer that does not read."""

import asyncio
from itertools import count

import msgspec
import pytest
import structlog

from gridtide.run import conversation as talk
from gridtide.run.clock import LoopClock
from gridtide.run.conversation import Answer, Conversation, Later
from gridtide.run.net import MemoryLink, memory_link
from gridtide.run.simloop import run_sim
from gridtide.wire.ocpp.errors import RemoteProtocolError
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.generated import v21
from gridtide.wire.ocpp.session import Session

BIG = "x" * 1_000


def clock() -> LoopClock:
    return LoopClock(asyncio.get_running_loop().time, 1_700_000_000.0)


def ask(number: int) -> bytes:
    return b'[2,"m%d","DataTransfer",{"vendorId":"v"}]' % number


class Csms:
    """A CSMS end that answers DataTransfer at length, or as told."""

    def __init__(self, queue_limit: int = 1024) -> None:
        numbers = count(1)
        self.station: MemoryLink
        self.station, link = memory_link(clock(), queue_limit=queue_limit)
        session = Session("csms", "2.1", lambda: f"c{next(numbers)}", boot_state="accepted")
        self.calls: list[CallReceived] = []
        self.laters: list[Later] | None = None
        self.conversation = Conversation(session, link, clock(), self.on_call)
        self.running = asyncio.ensure_future(self.conversation.run())

    def on_call(self, call: CallReceived) -> Answer:
        self.calls.append(call)
        if self.laters is None:
            return v21.DataTransferResponse(status="Accepted", data=BIG)
        self.laters.append(Later())
        return self.laters[-1]

    async def heard(self) -> list[list[object]]:
        """What has arrived at the station's end."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return [msgspec.json.decode(parcel.data) for parcel in self.station._inbox]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _quiet() -> object:
    structlog.configure(processors=[lambda _log, _name, _words: (_ for _ in ()).throw(structlog.DropEvent)])
    yield
    structlog.reset_defaults()


def test_the_payload_travels_with_the_call_as_received() -> None:
    async def main() -> bytes:
        csms = Csms()
        await csms.station.send(b'[2,"m1","DataTransfer",{ "vendorId" : "v" }]')
        await settle()
        return csms.calls[0].raw

    assert run_sim(main()) == b'{ "vendorId" : "v" }'


def test_answers_that_come_later_come_whenever_they_are_given() -> None:
    async def main() -> list[list[object]]:
        csms = Csms()
        csms.laters = []
        for number in range(4):
            await csms.station.send(ask(number))
        await settle()
        assert await csms.heard() == []
        csms.laters[2].give(v21.DataTransferResponse(status="Rejected"))
        csms.laters[0].give(RemoteProtocolError("PropertyConstraintViolation", "too much"))
        csms.laters[3].give(ValueError("ours"))
        await csms.station.close()
        await settle()
        # The connection is over: nobody is told, and nothing breaks.
        csms.laters[1].give(v21.DataTransferResponse(status="Accepted"))
        return await csms.heard()

    got = run_sim(main())
    assert got == []


def test_later_answers_and_refusals_reach_the_station_in_the_order_given() -> None:
    async def main() -> list[list[object]]:
        csms = Csms()
        csms.laters = []
        for number in range(3):
            await csms.station.send(ask(number))
        await settle()
        csms.laters[2].give(v21.DataTransferResponse(status="Rejected"))
        csms.laters[0].give(RemoteProtocolError("PropertyConstraintViolation", "too much"))
        csms.laters[1].give(ValueError("ours"))
        return await csms.heard()

    assert run_sim(main()) == [
        [3, "m2", {"status": "Rejected"}],
        [4, "m0", "PropertyConstraintViolation", "too much", {}],
        [4, "m1", "InternalError", "internal error", {}],
    ]


def test_an_answer_given_before_anybody_waits_is_not_lost() -> None:
    later, heard = Later(), list[object]()
    later.give(v21.DataTransferResponse(status="Accepted"))
    later.then(heard.append)
    assert heard == [v21.DataTransferResponse(status="Accepted")]


def test_a_slow_reader_gets_everything_in_order() -> None:
    async def main() -> list[str]:
        csms, got = Csms(queue_limit=4), []
        for number in range(40):
            await csms.station.send(ask(number))
        for _ in range(40):
            await asyncio.sleep(0.1)
            got.append(msgspec.json.decode(await csms.station.receive())[1])
        assert not csms.conversation._backlog
        assert csms.conversation._backlog_bytes == 0
        return got

    assert run_sim(main()) == [f"m{number}" for number in range(40)]


def test_of_several_messages_at_once_only_what_finds_no_room_waits() -> None:
    async def main() -> list[str]:
        csms = Csms(queue_limit=1)
        csms.laters, got = [], []
        await csms.station.send(ask(0))
        await settle()
        # The answer and a call of ours leave together; there is room for one.
        csms.conversation.session.answer("m0", v21.DataTransferResponse(status="Accepted"), 0.0)
        csms.conversation.post("ClearCache", v21.ClearCacheRequest(), lambda _outcome: None)
        for _ in range(2):
            got.append(msgspec.json.decode(await csms.station.receive())[1])
            await settle()
        assert not csms.station._inbox
        return got

    assert run_sim(main()) == ["m0", "c1"]


def test_a_peer_that_does_not_read_is_left_after_a_bound() -> None:
    async def main() -> tuple[int, int]:
        csms, sent, most = Csms(queue_limit=4), 0, 0
        while not csms.station.closed and sent < 1_000:
            await csms.station.send(ask(sent))
            await asyncio.sleep(0.001)
            sent, most = sent + 1, max(most, csms.conversation._backlog_bytes)
        assert csms.station.closed, "never left"
        assert (await csms.running).code == 1006
        return sent, most

    sent, most = run_sim(main())
    assert 200 < sent < 300
    assert most <= talk.BACKLOG_BYTES + 2_000


def test_a_peer_that_reads_nothing_for_long_is_left_however_little_waits() -> None:
    async def main() -> float:
        csms = Csms(queue_limit=1)
        for number in range(3):
            await csms.station.send(ask(number))
        while not csms.running.done():
            await asyncio.sleep(0.25)
            csms.conversation.tick()
        return asyncio.get_running_loop().time()

    assert talk.BACKLOG_S < run_sim(main()) <= talk.BACKLOG_S + 1.0


def test_an_idle_conversation_says_so_and_one_with_a_call_under_way_does_not() -> None:
    async def main() -> None:
        csms = Csms()
        assert csms.conversation.is_idle
        csms.conversation.post("ClearCache", v21.ClearCacheRequest(), lambda _outcome: None)
        assert not csms.conversation.is_idle
        await csms.station.send(b'[3,"c1",{"status":"Accepted"}]')
        await settle()
        assert csms.conversation.is_idle

    run_sim(main())
