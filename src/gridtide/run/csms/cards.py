"""The card of a transaction: what it forbids holds from the moment it is known, and one that may not charge is stopped."""

import math
from typing import Any

import msgspec

from gridtide.run.csms.desk import Desk, post_if_room
from gridtide.run.csms.needs import NeedsKeeper
from gridtide.run.csms.station import Station
from gridtide.run.csms.tokens import Tokens
from gridtide.run.store.ledger_sql import ERASED
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.structs import dec_hook

STOP_AGAIN_S = 30.0
"""A transaction that must not go on is asked to end so often, until it has."""
STOPS_KEPT = 64


class Cards:
    """Judges the cards of running transactions."""

    def __init__(self, desk: Desk, tokens: Tokens, needs: NeedsKeeper) -> None:
        self._desk, self._tokens, self._needs = desk, tokens, needs

    def judge_anew(self, station: Station) -> None:
        """Cards changed: what they forbid now holds for the vehicles that stand here. What they allow holds for the next stay."""
        for row, name in tuple(station.tokens.items()):
            entry = self._desk.registry.token(name)
            kind = entry.type if entry is not None else "ISO14443"
            judged = self._desk.registry.judge(name, kind, self._desk.clock.wall())
            if judged.status != "Accepted":
                self._end(station, row)
            elif entry is not None and not entry.may_discharge:
                station.charge_only.add(row)
            else:
                continue
            self._desk.judge(station, row)
            self._needs.keep(station, row)

    def presented(self, station: Station, transaction_id: str) -> Any:
        """The token of a transaction that began without us: its events are in the store."""
        kind = codec.payload_type(station.version, "TransactionEvent", "request")
        for event in self._desk.store.transaction_events(station.provision.identity, transaction_id):
            try:
                told: Any = msgspec.json.decode(event.payload_json, type=kind, dec_hook=dec_hook)
            except msgspec.MsgspecError:
                continue
            if told.idToken is not None:
                return told.idToken
        return None

    def take(self, station: Station, row: int, token: Any) -> None:
        """Until the vehicle tells its needs, its driver's defaults hold. A token that may not charge is stopped."""
        desk, board = self._desk, self._desk.board
        name = ERASED if desk.erased.hides(token.idToken) else token.idToken
        is_new, station.tokens[row] = station.tokens.get(row) != name, name
        judged = self._tokens.judge(token)
        if judged.status != "Accepted":
            self._end(station, row)
            return
        entry = judged.entry
        if entry is not None and not entry.may_discharge:
            station.charge_only.add(row)
        if not is_new:
            return  # the driver may have said otherwise since
        default = desk.driver_default(token.idToken, desk.clock.wall())
        if default is not None and default.minimum_soc > 0.0:
            board.minimum_soc[row] = default.minimum_soc
        if default is not None and math.isnan(board.need_soc[row]):
            board.asked_kwh[row] = default.energy_kwh
            board.departs_s[row] = desk.monotonic_of(default.departs_at_s)

    def _end(self, station: Station, row: int) -> None:
        """A vehicle whose card may not charge: it never gives, and its transaction is stopped until it has ended."""
        station.charge_only.add(row)
        transaction = station.transactions.get(row)
        if transaction is not None:
            self.ask_to_stop(station, transaction)

    def ask_to_stop(self, station: Station, transaction: str) -> None:
        """Ask a station to end a transaction that must not go on, and again until it has."""
        live, now_s = station.accepted, self._desk.clock.monotonic()
        if live is None or now_s < station.stop_again_s.get(transaction, -math.inf):
            return
        station.stop_again_s = {name: at_s for name, at_s in station.stop_again_s.items() if at_s > now_s}
        if len(station.stop_again_s) >= STOPS_KEPT:
            return
        station.stop_again_s[transaction] = now_s + STOP_AGAIN_S

        def again() -> None:
            if transaction in station.transactions.values():
                self.ask_to_stop(station, transaction)

        station.later.append((now_s + STOP_AGAIN_S, again))
        kind = codec.payload_type(station.version, "RequestStopTransaction", "request")
        post_if_room(live, "RequestStopTransaction", kind(transactionId=transaction), lambda _outcome: None)
