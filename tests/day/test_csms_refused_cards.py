"""A card that is refused stands in the list of the refused, until it may charge or its holder is erased; and missing events of
a station nobody steers are asked for."""

from gridtide.run.csms.registry import StationEntry, TokenEntry
from gridtide.run.csms.rivals import WINDOW_S
from tests.day.csms_kit import Kit
from tests.day.raw_station import RawStation
from tests.day.wire_site import START_S, on_wire

CARD = {"idToken": "04AB", "type": "ISO14443"}


def test_refused_cards_are_kept_for_the_operator() -> None:
    async def scenario() -> None:
        kit = Kit()
        registry = kit.csms.registry
        registry.accepts_unknown = False
        await registry.put_token(TokenEntry(id_token="mine"), "ann", START_S)
        await registry.put_station(StationEntry(identity="later"), "ann", START_S)
        bay = await kit.station()
        later = await RawStation(kit.csms, kit.clock, "later").boot()
        await bay.ask("Authorize", idToken=CARD)
        await bay.ask("Authorize", idToken={"idToken": "mine", "type": "ISO14443"})
        await bay.ask("Authorize", idToken={"idToken": "", "type": "NoAuthorization"})
        await later.tell("Started", 0, "tx-9", idToken=CARD)
        found = [(one.station, one.id_token, one.type, one.status, one.count) for one in registry.refused.all()]
        assert found == [("later", "04AB", "ISO14443", "Unknown", 1), ("bay-1", "04AB", "ISO14443", "Unknown", 1)]
        assert registry.refused.all()[0].last_s >= START_S
        kit.csms.erase_token("04ab")
        assert registry.refused.all() == ()
        await bay.ask("Authorize", idToken=CARD)
        assert registry.refused.all() == (), "who is erased is not written down again"

    on_wire(scenario)


def test_gaps_at_a_station_nobody_steers_are_asked_for_once() -> None:
    async def scenario() -> None:
        kit = Kit()
        await kit.csms.registry.put_station(StationEntry(identity="later"), "ann", START_S)
        raw = await RawStation(kit.csms, kit.clock, "later").boot()
        for kind, seq_no, transaction in (("Started", 0, "tx-1"), ("Updated", 1, "tx-1"), ("Started", 0, "tx-2")):
            await raw.tell(kind, seq_no, transaction)
        asked = [payload for action, payload in raw.heard if action == "GetTransactionStatus"]
        assert asked == []
        for kind, seq_no in (("Updated", 3), ("Updated", 5), ("Ended", 6)):
            await raw.tell(kind, seq_no, "tx-1")
        await kit.clock.sleep(1.0)
        asked = [payload for action, payload in raw.heard if action == "GetTransactionStatus"]
        assert asked == [{"transactionId": "tx-1"}]
        await kit.clock.sleep(WINDOW_S)
        assert kit.codes().count("transaction_incomplete") == 1

    on_wire(scenario)
