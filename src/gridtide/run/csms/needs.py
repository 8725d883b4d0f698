"""What drivers need, kept across a restart of the controller: one small state in the store per EVSE, the latest wins."""

import math
from collections.abc import Iterable

import msgspec
import structlog
from msgspec import Struct

from gridtide.model.fleet import EvseTable
from gridtide.run.clock import Clock
from gridtide.run.csms.evidence import EvidenceBoard
from gridtide.run.csms.station import Station
from gridtide.run.steady_clock import latest_s
from gridtide.run.store import Store

BOOTED = "booted/"
NEEDS = "needs/"
log = structlog.get_logger(__name__)


class RowNeeds(Struct, frozen=True, kw_only=True):
    """What is known of one vehicle's stay that its station will not tell again; None is unknown."""

    transaction_id: str
    token: str | None = None
    bidirectional: bool = False
    charge_only: bool = False
    """The driver's or the card's word: the battery is not to be used."""
    need_soc: float | None = None
    minimum_soc: float | None = None
    asked_kwh: float | None = None
    register_kwh: float | None = None
    """The station's import register at the beginning of the stay."""
    departs_at_s: float | None = None
    """UTC epoch seconds."""
    capacity_kwh: float | None = None
    charge_limit_kw: float | None = None
    discharge_limit_kw: float | None = None


class NeedsKeeper:
    """Writes a row's state whenever it changes and restores what still belongs to an open transaction."""

    def __init__(self, table: EvseTable, board: EvidenceBoard, store: Store, clock: Clock) -> None:
        self._table, self._board, self._store, self._clock = table, board, store, clock
        self._rows: dict[int, RowNeeds] = {}

    def note_booted(self, station: Station) -> None:
        """The station was accepted: it may reconnect without a BootNotification, also after our restart."""
        if not station.booted:
            station.booted = True
            self._store.put_state(BOOTED + station.provision.identity, b"1")

    def forget(self, station: Station) -> None:
        """The station is no longer registered."""
        self._store.put_state(BOOTED + station.provision.identity, b"")

    def keep(self, station: Station, row: int) -> None:
        """Write what is known of `row` now if that differs from what was written."""
        made = self._row(station, row)
        if made == self._rows.get(row):
            return
        if made is None:
            del self._rows[row]
        else:
            self._rows[row] = made
        self._store.put_state(NEEDS + self._table.ids[row], b"" if made is None else msgspec.json.encode(made))

    def restore(self, stations: Iterable[Station]) -> None:
        """Take back who was accepted, and the needs of rows whose transaction is still the same; a state nobody can read is
        left out."""
        for station in stations:
            if self._store.get_state(BOOTED + station.provision.identity):
                station.booted = True
            for row, transaction in station.transactions.items():
                item = self._read(row)
                if item is not None and item.transaction_id == transaction:
                    self._rows[row] = item
                    self._take(station, row, item)

    def _read(self, row: int) -> RowNeeds | None:
        data = self._store.get_state(NEEDS + self._table.ids[row])
        if not data:
            return None
        try:
            return msgspec.json.decode(data, type=RowNeeds)
        except msgspec.DecodeError as error:
            log.warning("needs_unreadable", evse=self._table.ids[row], error=str(error))
            return None

    def _row(self, station: Station, row: int) -> RowNeeds | None:
        transaction = station.transactions.get(row)
        if transaction is None:
            return None
        board, departs_s = self._board, float(self._board.departs_s[row])
        return RowNeeds(
            transaction_id=transaction,
            token=station.tokens.get(row),
            bidirectional=row in station.bidirectional,
            charge_only=row in station.charge_only,
            need_soc=_known(board.need_soc[row]),
            minimum_soc=_known(board.minimum_soc[row]),
            asked_kwh=_known(board.asked_kwh[row]),
            register_kwh=_known(board.register_kwh[row]),
            # Whole seconds: the clocks' drift is no news.
            departs_at_s=_known(round(departs_s - self._clock.monotonic() + latest_s(self._clock)))
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
        if item.charge_only:
            station.charge_only.add(row)
        for column, value in (
            (board.need_soc, item.need_soc),
            (board.minimum_soc, item.minimum_soc),
            (board.asked_kwh, item.asked_kwh),
            (board.register_kwh, item.register_kwh),
            (board.capacity_kwh, item.capacity_kwh),
        ):
            if value is not None:
                column[row] = value
        if item.departs_at_s is not None:
            board.departs_s[row] = item.departs_at_s - latest_s(self._clock) + self._clock.monotonic()
        if item.charge_limit_kw is not None:
            board.charge_limit_kw[row] = min(item.charge_limit_kw, float(table.charge_kw[row]))
        if item.discharge_limit_kw is not None:
            board.discharge_limit_kw[row] = min(item.discharge_limit_kw, float(table.discharge_kw[row]))


def _known(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None
