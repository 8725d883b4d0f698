"""Real charging sessions become arrivals: which bay, which car, how full, what the driver needs."""

import heapq
import math

import numpy as np
from msgspec import Struct

CAPACITIES_KWH = (40.0, 60.0, 77.0, 100.0)
KNEE_SOC = 0.8
LOWEST_SOC = 0.10


class SessionRecord(Struct, frozen=True):
    """One recorded session."""

    session_id: str
    arrived_s: float
    departs_s: float
    delivered_kwh: float
    """AC energy the session took."""
    station_id: str = ""
    told_departs_s: float | None = None
    """What the driver said; None if nothing."""


class Arrival(Struct, frozen=True):
    """One vehicle at one bay of the twin."""

    session_id: str
    row: int
    arrived_s: float
    departs_s: float
    told_departs_s: float
    """What the controller is told."""
    capacity_kwh: float
    soc: float
    target_soc: float
    need_kwh: float
    """AC energy: min(delivered energy of the session, what full power over the stay gives)."""
    may_discharge: bool


def assign(
    sessions: list[SessionRecord],
    charge_kw: list[float],
    efficiency: list[float],
    bidirectional: list[bool],
    seed: int,
    setup_s: float = 30.0,
) -> tuple[list[Arrival], list[SessionRecord]]:
    """Place sessions on free bays in order of arrival; returns the arrivals and the sessions that found every bay taken.

    Batteries are not recorded in session data: capacity and the charge a driver is content with are drawn (seeded), and the charge
    at arrival follows, so that the recorded energy just fits. `setup_s` is the time a real charger needs before power flows.
    """
    rng = np.random.default_rng(seed)
    free = list(range(len(charge_kw)))
    heapq.heapify(free)
    busy: list[tuple[float, int]] = []
    placed: list[Arrival] = []
    turned_away: list[SessionRecord] = []
    for record in sorted(sessions, key=lambda item: (item.arrived_s, item.session_id)):
        content = float(rng.uniform(0.65, 0.85))
        size = int(rng.integers(len(CAPACITIES_KWH)))
        while busy and busy[0][0] <= record.arrived_s:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if not free:
            turned_away.append(record)
            continue
        row = heapq.heappop(free)
        heapq.heappush(busy, (record.departs_s, row))
        placed.append(
            _arrival(record, row, charge_kw[row], efficiency[row], bidirectional[row], content, size, setup_s)
        )
    return placed, turned_away


def _arrival(
    record: SessionRecord,
    row: int,
    charge_kw: float,
    efficiency: float,
    bidirectional: bool,
    content_soc: float,
    size: int,
    setup_s: float,
) -> Arrival:
    stay_h = max(record.departs_s - record.arrived_s - setup_s, 0.0) / 3600.0
    need_kwh = min(record.delivered_kwh, charge_kw * stay_h)
    stored = need_kwh * efficiency
    wide_enough = [c for c in CAPACITIES_KWH[size:] if stored / c <= content_soc - LOWEST_SOC]
    capacity = wide_enough[0] if wide_enough else max(CAPACITIES_KWH[-1], stored / (KNEE_SOC - LOWEST_SOC))
    # Drivers ask for whole percents, as OCPP's targetSoC does; the charge at arrival follows from it.
    target = min(math.ceil(max(content_soc, LOWEST_SOC + stored / capacity) * 100.0 - 1e-9) / 100.0, KNEE_SOC)
    told = record.departs_s if record.told_departs_s is None else record.told_departs_s
    return Arrival(
        record.session_id, row, record.arrived_s, record.departs_s, told, capacity,
        target - stored / capacity, target, need_kwh, bidirectional,
    )  # fmt: skip
