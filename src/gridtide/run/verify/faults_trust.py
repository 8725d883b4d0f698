"""What vehicles and stations tell that is not so, and a contactor that does not open (FT26, FT28)."""

from collections.abc import Callable
from typing import Final

from gridtide.run.emulator.core import Faults
from gridtide.run.verify.fault import Fault, Luck, Safe
from gridtide.run.verify.rig import Rig


def _tells(fault_id: str, name: str, lever: str, value: Callable[[Rig, int, Luck], float], *, safe: Safe, t_f_s: float,
           lasts_s: tuple[float, float] = (5.0, 60.0), by_change: bool = False) -> Fault:  # fmt: skip
    """A wrong number from the station; the driver notices, and plugs in anew once it is mended."""

    def begin(rig: Rig, row: int, luck: Luck) -> None:
        setattr(rig.stations[row].faults, lever, value(rig, row, luck))

    def mend(rig: Rig, row: int) -> None:
        setattr(rig.stations[row].faults, lever, getattr(Faults(), lever))
        rig.plug_again(row)

    return Fault(
        id=fault_id, name=name, slot="told", by_row=True, of_vehicle=True, safe=safe, t_f_s=t_f_s, lasts_s=lasts_s,
        by_change=by_change, begin=begin, mend=mend,
    )  # fmt: skip


def _is(low: float, high: float) -> Callable[[Rig, int, Luck], float]:
    return lambda _rig, _row, luck: luck.uniform(low, high)


def _as_now(rig: Rig, row: int, _luck: Luck) -> float:
    return float(rig.emulated.plant.batteries.soc[row])


def _jump(rig: Rig, row: int, luck: Luck) -> float:
    """By more than may be a mistake of counting, and not beyond full or empty."""
    soc = _as_now(rig, row, luck)
    up = luck.random() < 0.5 if 0.2 < soc < 0.8 else soc < 0.5
    return luck.uniform(0.12, 0.18) * (1.0 if up else -1.0)


def _weld(rig: Rig, row: int, _luck: Luck) -> None:
    rig.stations[row].faults.weld = True
    rig.end_transaction(row)


def _unweld(rig: Rig, row: int) -> None:
    rig.stations[row].faults.weld = False
    bay = rig.case.here.table.ids[row]
    rig.soon(lambda site: site.clear_weld(bay, "verification"))
    rig.plug_again(row)


WELD_S: Final = 2.1
"""A second (as the tests show where stations report twice a second), and one more report: here they report once a second, and the
proof takes one that is 0.4 s younger than the end of the transaction."""
TRUST: Final[tuple[Fault, ...]] = (
    _tells("FT26a", "charge told jumps", "soc_offset", _jump, safe="row gives nothing", t_f_s=10.0, by_change=True),
    _tells("FT26b", "charge told stuck", "soc_stuck", _as_now, safe="as always", t_f_s=0.0, lasts_s=(25.0, 900.0)),
    _tells("FT26c", "charge told above full", "soc_stuck", _is(1.01, 2.0), safe="row gives nothing", t_f_s=10.0),
    _tells("FT26d", "charge told below empty", "soc_stuck", _is(-1.0, -0.01), safe="row gives nothing", t_f_s=10.0),
    _tells("FT26e", "station's register counts wrong", "energy_register_scale", _is(2.0, 1000.0), safe="as always",
           t_f_s=0.0, lasts_s=(25.0, 300.0)),
    _tells("FT26f", "station's power told wrong", "power_scale", _is(0.2, 0.7), safe="as always", t_f_s=0.0,
           lasts_s=(25.0, 300.0)),
    Fault(id="FT28", name="contactor welded", slot="told", by_row=True, of_vehicle=True, safe="row excluded", t_f_s=WELD_S,
          begin=_weld, mend=_unweld),
)  # fmt: skip
