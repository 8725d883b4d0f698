"""The fault catalogue as code: how each fault is begun and mended in the simulated world, what is safe then, and how soon."""

import math
import random
import re
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from msgspec import Struct, structs

from gridtide.control.grid_profiles import Profile
from gridtide.run.net import LinkFaults
from gridtide.run.site import SiteService
from gridtide.run.verify import case
from gridtide.run.verify.fault import Begin, Fault, Luck, Safe
from gridtide.run.verify.faults_grid import GRID
from gridtide.run.verify.faults_trust import TRUST
from gridtide.run.verify.rig import Rig

__all__ = ["BY_ID", "CATALOGUE", "Fault", "Luck", "Planned", "read", "rests", "schedule", "site_of", "spelt"]


def _meter(fault_id: str, name: str, kind: str, t_f_s: float, *, safe: Safe = "nothing given", kw: float = 0.0,
           lasts_s: tuple[float, float] = (5.0, 60.0), delay_s: float = 0.0) -> Fault:  # fmt: skip
    def begin(rig: Rig, _row: int, luck: Luck) -> None:
        rig.break_meter(kind, kw * luck.choice((-1.0, 1.0)), delay_s)

    return Fault(
        id=fault_id, name=name, slot="meter", safe=safe, t_f_s=t_f_s, excuses=("I1", "I2"), lasts_s=lasts_s,
        begin=begin, mend=_repair_meter,
    )  # fmt: skip


def _repair_meter(rig: Rig, _row: int) -> None:
    rig.break_meter("none")
    if rig.site is not None and rig.site.state.meter.sign_fault:
        # A person has looked at the wiring and acknowledges.
        rig.soon(rig.acknowledge)


def _drop(rig: Rig, row: int, _luck: Luck) -> None:
    rig.unreachable[row] += 1
    _cut(rig, row)


def _cut(rig: Rig, row: int) -> None:
    for end in rig.links.get(row, ()):
        end.drop()


def _reach(rig: Rig, row: int) -> None:
    rig.unreachable[row] -= 1


def _drop_all(rig: Rig, _row: int, luck: Luck) -> None:
    for row in rig.stations:
        _drop(rig, row, luck)


def _reach_all(rig: Rig, _row: int) -> None:
    for row in rig.stations:
        _reach(rig, row)


def _swallow(rig: Rig, row: int, _luck: Luck) -> None:
    rig.blackhole(row, on=True)


def _unswallow(rig: Rig, row: int) -> None:
    rig.blackhole(row, on=False)
    # What a middlebox has forgotten does not come back: the link ends.
    _cut(rig, row)


def _worse(low: LinkFaults, high: LinkFaults) -> Begin:
    def begin(rig: Rig, row: int, luck: Luck) -> None:
        rig.worsen(row, LinkFaults(
            latency_s=luck.uniform(low.latency_s, high.latency_s), jitter_s=luck.uniform(low.jitter_s, high.jitter_s),
            loss=luck.uniform(low.loss, high.loss), duplicate=luck.uniform(low.duplicate, high.duplicate),
        ))  # fmt: skip

    return begin


def _better(rig: Rig, row: int) -> None:
    rig.worsen(row, None)


def _of_station(fault_id: str, name: str, safe: Safe, t_f_s: float, lever: str, value: float | bool) -> Fault:
    """A fault that the emulated station has a lever for."""

    def begin(rig: Rig, row: int, _luck: Luck) -> None:
        setattr(rig.stations[row].faults, lever, value)

    def mend(rig: Rig, row: int) -> None:
        setattr(rig.stations[row].faults, lever, type(value)())
        if lever == "silent":
            # A station that hung is started again; what it was asked meanwhile it never answers.
            _cut(rig, row)

    return Fault(
        id=fault_id, name=name, slot="station", by_row=True, detaches=True, safe=safe, t_f_s=t_f_s, begin=begin, mend=mend
    )  # fmt: skip


def _skew(rig: Rig, row: int, luck: Luck) -> None:
    rig.stations[row].faults.skew_s = luck.choice((-1.0, 1.0)) * luck.uniform(20.0, 7200.0)


def _unskew(rig: Rig, row: int) -> None:
    rig.stations[row].faults.skew_s = 0.0


def _step_clock(rig: Rig, _row: int, luck: Luck) -> None:
    rig.clock.step_s = luck.choice((-3600.0, 3600.0, -1.0, 1.0, 86_400.0, -1.7e9, 2.5e11))


def _unstep_clock(rig: Rig, _row: int) -> None:
    rig.clock.step_s = 0.0


def _kill(rig: Rig, _row: int, _luck: Luck) -> None:
    rig.kill_controller()


def _stop(rig: Rig, _row: int, _luck: Luck) -> None:
    rig.stop_controller()


def _restart(rig: Rig, _row: int) -> None:
    if rig.parts is None:
        rig.start_controller()


def _stall(rig: Rig, _row: int, _luck: Luck) -> None:
    rig.stall()


def _go_on(rig: Rig, _row: int) -> None:
    rig.go_on()


def _break_store(rig: Rig, _row: int, _luck: Luck) -> None:
    rig.store_broken = True


def _mend_store(rig: Rig, _row: int) -> None:
    rig.store_broken = False
    # As the store's watch does, which looks after a disk and has no place here.
    rig.soon(lambda site: site.unstored.retry())


def _pull(rig: Rig, row: int, _luck: Luck) -> None:
    rig.pull(row)


def _heat(rig: Rig, row: int, luck: Luck) -> None:
    rig.heat(row, luck.uniform(76.0, 95.0))


def _press(rig: Rig, _row: int, _luck: Luck) -> None:
    rig.estop_pressed = True
    rig.soon(lambda site: site.estop("verification"))


def _release(rig: Rig, _row: int) -> None:
    rig.estop_pressed = False
    rig.soon(lambda site: _clear(rig, site))


async def _clear(rig: Rig, site: SiteService) -> None:
    if not rig.estop_pressed:
        await site.clear_estop("verification")


def _tamper(rig: Rig, row: int, _luck: Luck) -> None:
    rig.stations[row].tamper()


def _untamper(rig: Rig, row: int) -> None:
    rig.stations[row].stage.tampered = False
    if rig.csms is not None:
        rig.csms.clear_faults()


def _surge(rig: Rig, _row: int, luck: Luck) -> None:
    # With the building alone above the connection, no controller could hold it.
    free_kw = rig.most_kw - float(rig.case.here.table.fallback_kw.sum())
    rig.surge_kw = luck.uniform(0.3, 0.9) * max(0.0, free_kw - rig.highest_building_kw(LONGEST_SURGE_S))
    rig.throw_load(rig.surge_kw)


def _unsurge(rig: Rig, _row: int) -> None:
    rig.throw_load(-rig.surge_kw)
    rig.surge_kw = 0.0


def _shed_load(rig: Rig, _row: int, luck: Luck) -> None:
    rig.surge_kw = -luck.uniform(0.1, 0.4) * rig.case.settings.limits.transformer_kw
    rig.throw_load(rig.surge_kw)


def _nothing(_rig: Rig, _row: int) -> None:
    """Nothing to mend."""


LONGEST_SURGE_S: Final = 60.0
_NO_DISCHARGE_S: Final = 2.0
"""What a lost meter allows."""
_LEASE_S: Final = 5.2
"""A discharge ends by itself: the lease, and the power stage."""
CATALOGUE: Final[tuple[Fault, ...]] = (
    _meter("FT01a", "meter silent", "silent", _NO_DISCHARGE_S),
    _meter("FT01b", "meter disconnected", "disconnect", _NO_DISCHARGE_S),
    _meter("FT02", "meter tells not-a-number", "nan", _NO_DISCHARGE_S),
    _meter("FT03", "meter frozen", "frozen", math.inf, safe="as always", lasts_s=(15.0, 60.0)),
    _meter("FT04", "one wrong sample", "spike", 1.0, safe="as always", kw=200.0, lasts_s=(0.4, 0.6)),
    _meter("FT05", "sign flipped", "sign_flip", 5.0),
    _meter("FT07a", "Modbus exception", "exception", _NO_DISCHARGE_S),
    _meter("FT07b", "garbled frames", "garbage", _NO_DISCHARGE_S),
    _meter("FT07c", "short frames", "short", _NO_DISCHARGE_S),
    _meter("FT07d", "answers of another unit", "wrong_unit", _NO_DISCHARGE_S),
    _meter("FT07e", "answers of another question", "wrong_transaction", _NO_DISCHARGE_S),
    _meter("FT07f", "meter slow", "slow", _NO_DISCHARGE_S, delay_s=1.5),
    Fault(id="FT08a", name="a station's link cut", slot="link", by_row=True, detaches=True,
          safe="row gives nothing", t_f_s=_LEASE_S,
          begin=_drop, mend=_reach),
    Fault(id="FT08b", name="all links cut at once", slot="links", detaches=True, safe="nothing given", t_f_s=_LEASE_S,
          excuses=("I1", "I2"), begin=_drop_all, mend=_reach_all),
    Fault(id="FT09", name="half-open link", slot="link", by_row=True, detaches=True,
          safe="row gives nothing", t_f_s=_LEASE_S,
          begin=_swallow, mend=_unswallow),
    Fault(id="FT09b", name="slow link", slot="noise", by_row=True, detaches=True,
          safe="as always", t_f_s=0.0,
          begin=_worse(LinkFaults(latency_s=0.3), LinkFaults(latency_s=3.0, jitter_s=2.0)), mend=_better),
    Fault(id="FT11", name="messages doubled", slot="noise", by_row=True, safe="as always", t_f_s=0.0,
          begin=_worse(LinkFaults(duplicate=0.3), LinkFaults(duplicate=1.0)), mend=_better),
    Fault(id="FT12", name="messages lost", slot="noise", by_row=True, detaches=True,
          safe="as always", t_f_s=0.0,
          begin=_worse(LinkFaults(loss=0.05), LinkFaults(loss=0.5)), mend=_better),
    Fault(id="FT13a", name="station's clock off", slot="skew", by_row=True, detaches=True,
          returns_s=20.0, safe="as always", t_f_s=0.0, begin=_skew,
          mend=_unskew),
    Fault(id="FT13b", name="controller's wall clock steps", slot="clock", safe="as always", t_f_s=0.0, begin=_step_clock,
          mend=_unstep_clock),
    Fault(id="FT15", name="store refuses writes", slot="store", safe="as always", t_f_s=0.0, begin=_break_store,
          mend=_mend_store),
    Fault(id="FT25", name="vehicle pulled", slot="pull", by_row=True, safe="row still", t_f_s=0.2, lasts_s=(1.0, 2.0),
          begin=_pull, mend=_nothing),
    Fault(id="FT27", name="heat sink hot", slot="heat", by_row=True, safe="as always", t_f_s=0.0, begin=_heat, mend=_nothing),
    Fault(id="FT29a", name="emergency stop", slot="estop", safe="all stopped", t_f_s=1.0, begin=_press, mend=_release),
    Fault(id="FT29b", name="tamper", slot="tamper", by_row=True, safe="row still", t_f_s=0.3, begin=_tamper, mend=_untamper),
    Fault(id="FT30a", name="load thrown on", slot="load", safe="as always", t_f_s=1.2, excuses=("I2",),
          lasts_s=(5.0, LONGEST_SURGE_S), begin=_surge, mend=_unsurge),
    Fault(id="FT30b", name="load thrown off", slot="load", safe="as always", t_f_s=1.2, excuses=("I1",), begin=_shed_load,
          mend=_unsurge),
    Fault(id="FT33a", name="controller killed", slot="controller", detaches=True, safe="nothing given", t_f_s=_LEASE_S,
          excuses=("I1", "I2"), lasts_s=(1.0, 30.0), begin=_kill, mend=_restart),
    Fault(id="FT33b", name="controller stopped", slot="controller", detaches=True, safe="nothing given", t_f_s=1.0,
          lasts_s=(5.0, 30.0), begin=_stop, mend=_restart),
    Fault(id="FT34", name="controller's loop stands still", slot="controller", detaches=True, safe="nothing given",
          t_f_s=_LEASE_S, excuses=("I1", "I2"), lasts_s=(1.0, 10.0), begin=_stall, mend=_go_on),
    _of_station("FT09c", "station says nothing", "row gives nothing", _LEASE_S, "silent", True),
    _of_station("FT08c", "station refuses discharge", "row gives nothing", _LEASE_S, "refuses_discharge", True),
    _of_station("FT09d", "station answers late", "as always", 0.0, "late_s", 4.0),
    _of_station("FT10", "station's link flaps", "as always", 0.0, "drops", True),
    _of_station("FT11b", "station reuses message ids", "as always", 0.0, "duplicates", True),
    _of_station("FT11c", "station sends broken frames", "as always", 0.0, "malformed", True),
    *GRID,
    *TRUST,
)  # fmt: skip
BY_ID: Final = {fault.id: fault for fault in CATALOGUE}


class Planned(Struct, frozen=True):
    """One fault of a schedule: when, how long, and at which row (-1: the site)."""

    id: str
    at_s: float
    lasts_s: float
    row: int = -1
    luck: int = 0


def schedule(seed: int, evses: int, start_s: float, end_s: float, most: int = 6) -> tuple[Planned, ...]:
    """A random schedule between two instants with at most `most` faults at once; the same seed is the same schedule.

    A site leaves its grid once at most, and early enough to be back: the wait afterwards shows little else.
    """
    luck, profile = random.Random(f"{seed}/faults"), case.profile(seed)
    wait_s = profile.enter_delay_s if profile is not None else 0.0
    has_left = False
    made: list[Planned] = []
    at_s = start_s
    per_s = luck.choice((1 / 60.0, 1 / 20.0, 1 / 8.0))
    while (at_s := at_s + luck.expovariate(per_s)) < end_s:
        fault = luck.choice(CATALOGUE)
        leaves = profile is not None and rests(fault, profile)
        if (fault.watched and profile is None) or (leaves and (has_left or at_s + fault.lasts_s[0] + wait_s > end_s)):
            continue
        planned = Planned(
            fault.id, round(at_s, 1), round(min(luck.uniform(*fault.lasts_s), end_s - at_s), 1),
            luck.randrange(evses) if fault.by_row else -1, luck.getrandbits(31),
        )  # fmt: skip
        if leaves:
            planned = structs.replace(planned, lasts_s=round(min(planned.lasts_s, end_s - wait_s - at_s), 1))
        now = [item for item in made if item.at_s + item.lasts_s + 1.0 > planned.at_s]
        if len(now) < most and all(_slot(item) != _slot(planned) for item in now):
            made.append(planned)
            has_left |= leaves
    return tuple(made)


def rests(fault: Fault, profile: Profile) -> bool:
    """Whether a site with this profile leaves the grid for the fault, and waits before it returns."""
    return fault.rests == "always" or (fault.rests == "when strict" and profile.strict)


def site_of(seed: int, duration_s: float, evses: int, planned: Iterable[Planned]) -> case.Case:
    """The site of a seed as it must be for these faults."""
    drawn = case.draw(seed, duration_s, evses)
    if any(BY_ID[item.id].watched for item in planned):
        return case.watched(drawn)
    return drawn


def _slot(planned: Planned) -> tuple[str, int]:
    return BY_ID[planned.id].slot, planned.row


def seconds(value_s: float) -> str:
    """Seconds as a command line takes them: every digit, no exponent."""
    return np.format_float_positional(value_s, trim="-")


def spelt(planned: Sequence[Planned]) -> str:
    """A schedule as one word for a command line: FT01a@120.5+30,FT08a@130+20:2~17 (instant, duration, row, luck)."""
    return ",".join(
        f"{item.id}@{seconds(item.at_s)}+{seconds(item.lasts_s)}"
        + (f":{item.row}" if item.row >= 0 else "")
        + f"~{item.luck}"
        for item in planned
    )


def read(text: str) -> tuple[Planned, ...]:
    """A schedule as `spelt` writes it; the luck may be left out. ValueError names what cannot be read."""
    made = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        found = _WORD.fullmatch(word)
        if found is None:
            raise ValueError(
                f"{word!r} is no fault: write ID@seconds+duration, and :row for a station's, as FT08a@130+20:2"
            )
        name, at_s, lasts_s, row, luck = found.groups()
        if name not in BY_ID:
            raise ValueError(f"{name!r} is no fault of the catalogue: one of {', '.join(BY_ID)}")
        if (row is not None) != BY_ID[name].by_row:
            raise ValueError(f"{word!r}: {name} {'needs a row, as :0' if BY_ID[name].by_row else 'has no row'}")
        made.append(Planned(name, float(at_s), float(lasts_s), int(row) if row else -1, int(luck or 0)))
    return tuple(made)


_WORD: Final = re.compile(r"(\w+)@(\d+(?:\.\d+)?)\+(\d+(?:\.\d+)?)(?::(\d+))?(?:~(\d+))?")
