"""A site whose vehicles really give, faults and defects begun in it at known instants, and what there was to see at every tick."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import structlog
from msgspec import Struct, structs

from gridtide.control import site as control
from gridtide.control.peak import PeakSettings
from gridtide.model.fleet import Bools, Floats, SiteLimits
from gridtide.run.net import LinkFaults
from gridtide.run.simloop import run_sim
from gridtide.run.verify import case as cases
from gridtide.run.verify.campaign import _Run
from gridtide.run.verify.case import START_S, Case
from gridtide.run.verify.faults import BY_ID, Planned
from gridtide.run.verify.invariants import NOTHING_KW
from gridtide.run.verify.rig import Rig
from gridtide.twin import evse
from gridtide.twin import plant as twin
from gridtide.twin.arrivals import Arrival
from gridtide.twin.building import LoadSeries, textured
from gridtide.wire.ocpp.actions import Version

ROWS = 3
BUILDING_KW = 200.0
GIVING_S = 25.0
"""By then every vehicle of `giving_case` gives."""
Event = tuple[str, str, int]
"""Station, transaction, number."""


def stay(
    row: int, *, soc: float = 0.75, target: float = 0.5, leaves_s: float = 6 * 3600.0, may: bool = True
) -> Arrival:
    """A vehicle that came a while ago and leaves `leaves_s` from the start."""
    need_kwh = max(0.0, target - soc) * 77.0 / 0.94
    came_s, goes_s = START_S - 600.0, START_S + leaves_s
    return Arrival(f"stay-{row}", row, came_s, goes_s, goes_s, 77.0, soc, target, need_kwh, may)


def giving_case(
    rows: int = ROWS,
    *,
    limit_kw: float = 100.0,
    building_kw: float | Callable[[float], float] = BUILDING_KW,
    transformer_kw: float = 400.0,
    stays: Sequence[Arrival] | None = None,
    seed: int = 1,
) -> Case:
    """Vehicles with charge to spare below a building (kW, or of the second) far above the limit: all give all the time."""
    table = cases._table(rows)
    steps = np.array([building_kw(float(s)) if callable(building_kw) else building_kw for s in range(900)])
    load = LoadSeries(START_S, 1.0, steps) if callable(building_kw) else LoadSeries(START_S, 900.0, steps[:1])
    stays = [stay(row) for row in range(rows)] if stays is None else stays
    here = twin.world(table, [evse.MODELS["fast"]] * rows, textured(load, seed, bursts_per_h=0.0), list(stays))
    settings = control.Settings(
        table=table, limits=SiteLimits(transformer_kw=transformer_kw, static_building_kw=0.8 * transformer_kw),
        peak=PeakSettings(mode="threshold", limit_kw=limit_kw, buffer_kw=10.0),
    )  # fmt: skip
    versions: tuple[Version, ...] = tuple("2.0.1" if row % 3 == 1 else "2.1" for row in range(rows))
    return Case(seed, here, settings, versions, LinkFaults(latency_s=0.02, jitter_s=0.02))


class Tick(Struct, frozen=True, eq=False):
    """Ground truth of one tick, and what the controller wanted then."""

    at_s: float
    power_kw: Floats
    setpoint_kw: Floats | None
    building_kw: float
    state: str
    excluded: Bools
    """Rows that the controller counts out for a welded contactor."""


class Shown(_Run):
    """A run that keeps every tick, and which transaction events a station was told are kept."""

    def __init__(
        self, case: Case, planned: Sequence[Planned], duration_s: float, act: Callable[[Rig], None] = lambda _rig: None
    ) -> None:
        super().__init__(case, planned, duration_s)
        self.ticks: list[Tick] = []
        self._act = act
        self.rig: Rig | None = None

    def _rig(self) -> Rig:
        """As the campaign's, but it stays to be looked at."""
        self.rig = super()._rig()
        return self.rig

    def _tick(self, rig: Rig) -> None:
        self._act(rig)
        super()._tick(rig)
        decision = None if rig.site is None else rig.site.decision
        sample = rig.emulated.sample
        self.ticks.append(Tick(
            round(rig.at_s, 3), rig.power_kw.copy(), None if decision is None else decision.setpoint_kw.copy(),
            0.0 if sample is None else sample.building_kw, "none" if decision is None else decision.state,
            np.zeros(rig.power_kw.size, dtype=np.bool_) if rig.site is None else rig.site.state.trust.open.welded.copy(),
        ))  # fmt: skip

    # --- what there was to see --------------------------------------------------------------------------------------
    @property
    def broken(self) -> set[str]:
        """Names of the invariants that did not hold."""
        return {item.invariant for item in self.invariants.violations}

    def between(self, from_s: float, to_s: float) -> list[Tick]:
        """Ticks from one instant to another, both included."""
        return [tick for tick in self.ticks if from_s - 1e-6 <= tick.at_s <= to_s + 1e-6]

    def at(self, at_s: float) -> Tick:
        """The tick at an instant."""
        return self.between(at_s, at_s + 0.05)[0]

    def to_safe_s(self, planned: Planned) -> float:
        """From the onset to the last tick outside the fault's safe state, at any row; 0 if it never left it."""
        ticks = self.between(planned.at_s, planned.at_s + planned.lasts_s)
        unsafe = [tick.at_s for tick in ticks if not _is_safe(BY_ID[planned.id].safe, tick, planned.row)]
        return max(unsafe, default=planned.at_s) - planned.at_s

    @property
    def acknowledged(self) -> list[tuple[float, Event]]:
        """Every transaction event that a station was told is kept, and when; in the order of time."""
        assert self.rig is not None
        told = [item for outbox in self.rig.outboxes.values() for item in outbox.acknowledged]
        return sorted((at_s, (event.station, event.transaction, event.number)) for at_s, event in told)

    def stored(self) -> list[Event]:
        """Every transaction event the store holds."""
        assert self.rig is not None
        rows = self.rig.store._connection.execute("SELECT station_id, transaction_id, seq_no FROM transactions")
        return [(str(a), str(b), int(c)) for a, b, c in rows.fetchall()]

    def told(self) -> set[str]:
        """Codes of all stored events."""
        assert self.rig is not None
        return {event.code for event in self.rig.store.events(10_000)}


def _is_safe(safe: str, tick: Tick, row: int) -> bool:
    power = tick.power_kw
    match safe:
        case "nothing charged":
            return not bool((power > NOTHING_KW).any())
        case "row excluded":
            return bool(tick.excluded[row])
        case "nothing given":
            return not bool((power < -NOTHING_KW).any())
        case "row gives nothing":
            return not power[row] < -NOTHING_KW
        case "row still":
            return not abs(power[row]) > NOTHING_KW
        case "all still" | "all stopped":
            return not bool((np.abs(power) > NOTHING_KW).any())
        case _:
            return True


def show(
    case: Case, planned: Sequence[Planned] = (), duration_s: float = 60.0, *, seed: int = 1,
    act: Callable[[Rig], None] = lambda _rig: None,
) -> Shown:  # fmt: skip
    """Run it; an exception of the product is noted as the campaign does: violation `crash`."""
    structlog.configure(processors=[_mute])
    run = Shown(case, planned, duration_s, act)
    try:
        run_sim(run.go(), seed=seed)
    except Exception as error:
        from gridtide.run.verify.invariants import Violation

        run.invariants.violations.append(Violation(-1.0, "crash", f"{type(error).__name__}: {error}"))
    finally:
        structlog.reset_defaults()
    return run


def chatty(rig: Rig, until_s: float = math.inf) -> None:
    """Every station tells a transaction event each second, as one whose readings are events does."""
    if rig.at_s < until_s and abs(rig.at_s - round(rig.at_s)) < 0.01:
        for station in rig.stations.values():
            station.blocks.transactions.tell("Updated", "MeterValuePeriodic")


def with_noise(case: Case, noise: LinkFaults) -> Case:
    """The same site with other links."""
    return structs.replace(case, noise=noise)


def _mute(_log: object, _name: str, _words: object) -> "dict[str, object]":
    raise structlog.DropEvent
