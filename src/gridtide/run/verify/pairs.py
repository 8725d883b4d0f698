"""Every two faults of the catalogue that can happen together, on small runs that begin with vehicles giving."""

import itertools
import logging
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import numpy as np
import structlog
from msgspec import Struct

from gridtide.run.simloop import run_sim
from gridtide.run.verify import campaign, case
from gridtide.run.verify.faults import CATALOGUE, Fault, Planned
from gridtide.run.verify.invariants import NOTHING_KW
from gridtide.run.verify.rig import Rig

ONSET_S: Final = 20.0
"""Booted, recognised and planned for: vehicles give after 5 s already, here their power has settled."""
GAP_S: Final = 3.0
"""The second fault begins within this time of the first, while the first is there."""
LONGEST_S: Final = 25.0
DURATION_S: Final = ONSET_S + GAP_S + LONGEST_S + campaign.HEALED_S + 7.0
"""Simulated seconds of a run; the last ones judge that everything works again (L1)."""
SEARCHED: Final = 100
"""Seeds looked at for one site whose vehicles give; about every third does."""


class Site(Struct, frozen=True):
    """A seed whose vehicles give when the faults begin, and at which rows."""

    seed: int
    giving: tuple[int, ...]


class Run(Struct, frozen=True):
    """Two faults on one site."""

    pair: tuple[str, str]
    seed: int
    planned: tuple[Planned, ...]


def can_meet(one: Fault, other: Fault) -> bool:
    """Whether both can be there at once: faults of one slot only at two stations."""
    return one.slot != other.slot or (one.by_row and other.by_row)


def all_pairs() -> tuple[tuple[tuple[Fault, Fault], ...], tuple[tuple[Fault, Fault], ...]]:
    """The pairs that can be, and those that cannot, in the order of the catalogue."""
    pairs = tuple(itertools.combinations(CATALOGUE, 2))
    return tuple(pair for pair in pairs if can_meet(*pair)), tuple(pair for pair in pairs if not can_meet(*pair))


def giving_sites(first: int, count: int, evses: int) -> tuple[Site, ...]:
    """The first `count` seeds from `first` on whose vehicles give at `ONSET_S` while nothing is wrong.

    ValueError: there are too few.
    """
    found: list[Site] = []
    for seed in range(first, first + SEARCHED * count):
        giving = _giving(seed, evses)
        if giving:
            found.append(Site(seed, giving))
        if len(found) == count:
            return tuple(found)
    raise ValueError(
        f"of the seeds {first} to {first + SEARCHED * count - 1} only {len(found)} have a vehicle that gives"
    )


def _giving(seed: int, evses: int) -> tuple[int, ...]:
    """Rows that give at the onset when no fault comes."""
    rows: tuple[int, ...] = ()

    async def go() -> str:
        rig = Rig(case.draw(seed, DURATION_S, evses), lambda _rig: None)
        try:
            rig.start()
            await rig.pass_time(ONSET_S)
            nonlocal rows
            rows = tuple(np.flatnonzero(rig.power_kw < -NOTHING_KW).tolist())
        finally:
            await rig.close()
        return rig.trace.hexdigest()

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    run_sim(go(), seed=seed)
    return rows


def plan(pair: tuple[Fault, Fault], site: Site, evses: int, turn: int) -> Run:
    """How the two meet on this site: at one station in even turns and at two in odd ones, in a random order and distance."""
    luck = random.Random(f"{site.seed}/{turn}/{pair[0].id}/{pair[1].id}")
    first, second = pair if luck.random() < 0.5 else pair[::-1]
    lasts_s = [
        round(luck.uniform(low, max(low, min(high, LONGEST_S))), 1) for low, high in (first.lasts_s, second.lasts_s)
    ]
    gap_s = luck.choice((0.0, luck.uniform(0.0, min(GAP_S, 0.8 * lasts_s[0]))))
    row = luck.choice(site.giving)
    others = [other for other in site.giving if other != row] or [other for other in range(evses) if other != row]
    apart = first.slot == second.slot or (turn % 2 == 1 and bool(others))
    rows = (row, luck.choice(others) if apart else row)
    planned = tuple(
        Planned(fault.id, round(ONSET_S + later_s, 1), lasting_s, at_row if fault.by_row else -1, luck.getrandbits(31))
        for fault, later_s, lasting_s, at_row in zip((first, second), (0.0, gap_s), lasts_s, rows, strict=True)
    )
    return Run((pair[0].id, pair[1].id), site.seed, planned)


def runs(pairs: Sequence[tuple[Fault, Fault]], sites: Sequence[Site], evses: int) -> tuple[Run, ...]:
    """Every pair on every site."""
    return tuple(plan(pair, site, evses, turn) for pair in pairs for turn, site in enumerate(sites))


def play(todo: Sequence[Run], evses: int, processes: int) -> Iterator[tuple[Run, campaign.Outcome]]:
    """Runs with their outcomes, in order, on several processes."""
    if processes <= 1:
        yield from ((run, _one(run, evses)) for run in todo)
        return
    with ProcessPoolExecutor(processes) as pool:
        done = pool.map(_one, todo, itertools.repeat(evses), chunksize=4)
        yield from zip(todo, done, strict=True)


def _one(run: Run, evses: int) -> campaign.Outcome:
    return campaign.run_case(run.seed, DURATION_S, evses, run.planned)
