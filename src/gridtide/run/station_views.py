"""Stations as people see them, built from the CSMS, the evidence and the store. Reads only."""

import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from gridtide.run.credentials import CredentialError, Credentials
from gridtide.run.csms.sessions import events_of
from gridtide.run.csms.station import Station
from gridtide.run.csms.views import (
    EventRow,
    EvseRow,
    Link,
    SentRow,
    StationDetail,
    StationRow,
    TransactionDetail,
    TransactionRow,
)
from gridtide.run.csms.why_not import driver_first, why_not
from gridtide.run.site import SiteService
from gridtide.run.store import Store
from gridtide.run.store.rows import TransactionHead

CALM = ("Available", "Unknown")
"""Connector statuses that say less than any other."""
EVENTS_LOOKED_AT = 200


class StationViews:
    """Builds the rows of `csms.views`."""

    def __init__(self, site: SiteService, credentials: Credentials) -> None:
        self._site, self._credentials = site, credentials

    def all(self) -> tuple[StationRow, ...]:
        """Every station, by identity."""
        errors = self._errors()
        found = sorted(self._site.csms.stations.values(), key=lambda station: _natural(station.provision.identity))
        return tuple(self._row(station, errors) for station in found)

    def one(self, identity: str) -> StationDetail:
        """One station in full; raises KeyError."""
        station = self.find(identity)
        entry = self._site.csms.registry.stations.get(identity)
        about = msgspec.json.decode(station.about)
        return StationDetail(
            station=self._row(station, self._errors()), about=about if isinstance(about, dict) else {},
            registered=None if entry is None else msgspec.to_builtins(entry), clock_skew_s=round(station.skew_s, 3),
            password=self._password(identity), sent=self.sent(station),
        )  # fmt: skip

    def find(self, identity: str) -> Station:
        """The station; raises KeyError."""
        station = self._site.csms.stations.get(identity)
        if station is None:
            raise KeyError(f"there is no station {identity!r}: see gridtide stations list")
        return station

    def sent(self, station: Station) -> tuple[SentRow, ...]:
        """The setpoints last sent to a station's EVSEs."""
        now_s = self._site.clock.monotonic()
        rows = sorted((evse, row) for evse, row in station.provision.rows.items() if row in station.sent)
        return tuple(
            SentRow(
                evse=evse, power_kw=station.sent[row].power_kw, age_s=round(now_s - station.sent[row].at_s, 3),
                outcome=station.outcomes[row].value if row in station.outcomes else "",
                underneath=row in station.underneath,
            )
            for evse, row in rows
        )  # fmt: skip

    # --- parts ------------------------------------------------------------------------------------------------------
    def _row(self, station: Station, errors: dict[str, str]) -> StationRow:
        identity, registry = station.provision.identity, self._site.csms.registry
        entry = registry.stations.get(identity)
        numbers = {evse.id for evse in entry.evses} if entry is not None else set()
        evses = tuple(self._evse(station, evse) for evse in sorted(numbers | set(station.provision.rows)))
        names = (identity, *(evse.name for evse in evses if evse.name is not None))
        return StationRow(
            identity=identity, name=entry.name if entry is not None else "", link=_link(station),
            version=station.version if station.conversation is not None else None, since_s=self._since(station),
            security_profile=entry.security_profile if entry is not None else None,
            enabled=entry is None or entry.enabled,
            dialect=entry.dialect if entry is not None else station.provision.dialect, mode=registry.mode(identity),
            from_file=entry is None or entry.from_file, evses=evses,
            last_error=next((errors[name] for name in names if name in errors), None),
            round_trip_ms=None if station.round_trip_s is None else round(station.round_trip_s * 1e3, 1),
        )  # fmt: skip

    def _evse(self, station: Station, evse: int) -> EvseRow:
        site, row = self._site, station.provision.rows.get(evse)
        settings = site.settings
        reasons = why_not(
            station, row, site.csms.registry, site.board, settings.table, settings.need, settings.guard.lease_s
        )
        reasons = (*self._of_site(row), *reasons)
        is_here = row is not None and row in station.transactions
        return EvseRow(
            evse=evse, name=None if row is None else settings.table.ids[row], status=_status(station, evse),
            transaction_id=None if row is None else station.transactions.get(row),
            power_kw=_known(site.board.power_kw[row]) if is_here and row is not None else None,
            soc=_known(site.board.soc[row]) if is_here and row is not None else None,
            may_discharge=not reasons, why_not=reasons,
        )  # fmt: skip

    def _of_site(self, row: int | None) -> Iterator[str]:
        """What keeps every vehicle, or this one for its driver's sake, from giving now."""
        site = self._site
        if site.state.guard.estop:
            yield "The emergency stop is pressed."
        elif site.decision is None or site.decision.state != "ok":
            yield "The site meter cannot be trusted now."
        if row is not None and site.snapshot is not None:
            settings = site.settings
            told = driver_first(row, site.snapshot.fleet, settings.table, settings.need, settings.cycle_s)
            if told:
                yield told

    def _since(self, station: Station) -> float | None:
        if station.connected_s is None or station.conversation is None:
            return None
        return self._site.clock.wall() - (self._site.clock.monotonic() - station.connected_s)

    def _errors(self) -> dict[str, str]:
        """The newest warning or alarm of each source."""
        found: dict[str, str] = {}
        for event in self._site.store.events(EVENTS_LOOKED_AT):
            if event.severity != "info":
                found.setdefault(event.source, f"{event.title}. {event.text}")
        return found

    def _password(self, identity: str) -> str:
        if not self._credentials.known(identity):
            return "none"
        try:
            stage = self._credentials.rotation(identity)
        except CredentialError:
            return "none"
        return "set" if stage == "none" else stage


def transaction_row(head: TransactionHead) -> TransactionRow:
    """A stored transaction in short."""
    return TransactionRow(
        station=head.station_id, transaction_id=head.transaction_id, evse=head.evse_id, started_s=head.started_s,
        last_s=head.last_s, ended=head.ended, events=head.events,
        missing_events=max(0, head.last_seq_no + 1 - head.events),
    )  # fmt: skip


def transaction_rows(
    store: Store, start_s: float, end_s: float, station: str | None, limit: int
) -> tuple[TransactionRow, ...]:
    """Transactions that began in [start_s, end_s), newest first. It may take long: not for the loop."""
    return tuple(transaction_row(head) for head in store.transactions(start_s, end_s, station, limit))


def transaction_detail(store: Store, station: str, transaction_id: str) -> TransactionDetail:
    """One transaction with its events (`sessions.events_of`); raises KeyError. It may take long: not for the loop."""
    head = store.transaction_head(station, transaction_id)
    if head is None:
        raise KeyError(f"there is no transaction {transaction_id[:64]!r} of station {station[:64]!r}")
    rows = tuple(
        EventRow(
            seq_no=event.seq_no, kind=event.event_type, at_s=event.at_s,
            payload=msgspec.json.decode(event.payload_json),
        )
        for event in events_of(store, head)
    )  # fmt: skip
    return TransactionDetail(transaction=transaction_row(head), events=rows)


def _link(station: Station) -> Link:
    if station.conversation is None:
        return "offline"
    return "online" if station.accepted is not None else "connecting"


def _status(station: Station, evse: int) -> str:
    told = [status for (number, _), status in sorted(station.statuses.items()) if number == evse]
    return next((status for status in told if status not in CALM), told[0] if told else "Unknown")


def _natural(text: str) -> list[tuple[int, str]]:
    """Sorts bay-2 before bay-10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"([0-9]+)", text)]


def _known(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
