"""What drivers need, kept across a restart of the controller: one small snapshot in the store, the latest wins."""

import math
from collections.abc import Iterable

import msgspec
import structlog
from msgspec import Struct

from gridtide.model.fleet import EvseTable
from gridtide.run.clock import Clock
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.station import Station
from gridtide.run.store import Store

STATE = "needs"
log = structlog.get_logger(__name__)


class RowNeeds(Struct, frozen=True, kw_only=True):
    """What is known of one vehicle's stay that its station will not tell again; None is unknown."""

    station: str
    evse_id: int
    transaction_id: str
    token: str | None = None
    bidirectional: bool = False
    need_soc: float | None = None
    asked_kwh: float | None = None
    register_kwh: float | None = None
    """The station's import register at the beginning of the stay."""
    departs_at_s: float | None = None
    """UTC epoch seconds."""
    capacity_kwh: float | None = None
    charge_limit_kw: float | None = None
    discharge_limit_kw: float | None = None


class Kept(Struct, frozen=True):
    """The snapshot."""

    rows: tuple[RowNeeds, ...] = ()
    booted: tuple[str, ...] = ()
    """Stations accepted before: they may reconnect without a BootNotification."""


class NeedsKeeper:
    """Writes the snapshot whenever it changes and restores what still belongs to an open transaction."""

    def __init__(self, table: EvseTable, board: EvidenceBoard, store: Store, clock: Clock) -> None:
        self._table, self._board, self._store, self._clock = table, board, store, clock
        self._rows: dict[int, RowNeeds] = {}
        self._booted: set[str] = set()

    def note_booted(self, station: Station) -> None:
        """The station was accepted."""
        station.booted = True
        if station.provision.identity not in self._booted:
            self._booted.add(station.provision.identity)
            self._put()

    def keep(self, station: Station, row: int) -> None:
        """Write what is known of `row` now if that differs from what was written."""
        made = self._row(station, row)
        if made == self._rows.get(row):
            return
        if made is None:
            del self._rows[row]
        else:
            self._rows[row] = made
        self._put()

    def restore(self, stations: Iterable[Station]) -> None:
        """Take back the needs of rows whose transaction is still the same; a snapshot nobody can read is left out."""
        data = self._store.get_state(STATE)
        if data is None:
            return
        try:
            kept = msgspec.json.decode(data, type=Kept)
        except msgspec.DecodeError as error:
            log.warning("needs_unreadable", error=str(error))
            return
        by_name = {station.provision.identity: station for station in stations}
        for name in kept.booted:
            if name in by_name:
                by_name[name].booted = True
                self._booted.add(name)
        for item in kept.rows:
            station = by_name.get(item.station)
            row = station.provision.rows.get(item.evse_id) if station is not None else None
            if station is not None and row is not None and station.transactions.get(row) == item.transaction_id:
                self._rows[row] = item
                self._take(station, row, item)

    def _row(self, station: Station, row: int) -> RowNeeds | None:
        transaction = station.transactions.get(row)
        if transaction is None:
            return None
        board, departs_s = self._board, float(self._board.departs_s[row])
        return RowNeeds(
            station=station.provision.identity,
            evse_id=next(evse_id for evse_id, mine in station.provision.rows.items() if mine == row),
            transaction_id=transaction,
            token=station.tokens.get(row),
            bidirectional=row in station.bidirectional,
            need_soc=_known(board.need_soc[row]),
            asked_kwh=_known(board.asked_kwh[row]),
            register_kwh=_known(board.register_kwh[row]),
            # Whole seconds: the clocks' drift is no news.
            departs_at_s=_known(round(departs_s - self._clock.monotonic() + self._clock.wall()))
            if math.isfinite(departs_s)
            else None,
            capacity_kwh=_known(board.capacity_kwh[row]),
            charge_limit_kw=_known(board.charge_limit_kw[row]),
            discharge_limit_kw=_known(board.discharge_limit_kw[row]),
        )

    def _take(self, station: Station, row: int, item: RowNeeds) -> None:
        board, table = self._board, self._table
        if item.token is not None:
            station.tokens[row] = item.token
        if item.bidirectional:
            station.bidirectional.add(row)
        for column, value in (
            (board.need_soc, item.need_soc),
            (board.asked_kwh, item.asked_kwh),
            (board.register_kwh, item.register_kwh),
            (board.capacity_kwh, item.capacity_kwh),
        ):
            if value is not None:
                column[row] = value
        if item.departs_at_s is not None:
            board.departs_s[row] = item.departs_at_s - self._clock.wall() + self._clock.monotonic()
        if item.charge_limit_kw is not None:
            board.charge_limit_kw[row] = min(item.charge_limit_kw, float(table.charge_kw[row]))
        if item.discharge_limit_kw is not None:
            board.discharge_limit_kw[row] = min(item.discharge_limit_kw, float(table.discharge_kw[row]))

    def _put(self) -> None:
        rows = tuple(item for _, item in sorted(self._rows.items()))
        self._store.put_state(STATE, msgspec.json.encode(Kept(rows, tuple(sorted(self._booted)))))


def _known(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None
