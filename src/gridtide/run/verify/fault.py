"""What one row of the fault catalogue says: how it is begun and mended, what is safe then, and how soon."""

import random
from collections.abc import Callable
from typing import Literal, TypeAlias

from msgspec import Struct

from gridtide.run.verify.rig import Rig

Luck: TypeAlias = random.Random
Begin: TypeAlias = Callable[[Rig, int, Luck], None]
Mend: TypeAlias = Callable[[Rig, int], None]
Safe: TypeAlias = Literal[
    "nothing given",
    "nothing charged",
    "row gives nothing",
    "row still",
    "row excluded",
    "all still",
    "all stopped",
    "as always",
]
"""What must hold on ground truth from `t_f_s` after the onset until the fault is mended: no vehicle gives (S1), or none charges;
the row's does not; nothing flows at the row, or anywhere (S3); the row is counted out; or simply what always holds, all
invariants."""


class Fault(Struct, frozen=True, eq=False, kw_only=True):
    """One row of the catalogue, or one way in which it happens."""

    id: str
    """Row of the catalogue, with a letter where there are several ways."""
    name: str
    slot: str
    """Faults of one slot do not happen at once (and, by row, at the same station)."""
    by_change: bool = False
    """Seen only by the change it makes: a controller that did not hear the row before cannot know."""
    detaches: bool = False
    """The controller's word does not reach the row in time (or any row): what is safe there comes with the lease."""
    by_row: bool = False
    of_vehicle: bool = False
    """Of the vehicle at the row, or of what it is plugged into: it ends when that vehicle leaves."""
    watched: bool = False
    """Only on a site that watches its grid and its transformer."""
    rests: Literal["never", "when strict", "always"] = "never"
    """Whether nothing may flow for the profile's time after it was mended: always, or where the profile trips at its alarms."""
    returns_s: float = 5.0
    """And so long after it was mended."""
    safe: Safe
    t_f_s: float
    excuses: tuple[str, ...] = ()
    """Invariants that cannot hold between the onset and `t_f_s`."""
    lasts_s: tuple[float, float] = (5.0, 60.0)
    begin: Begin
    mend: Mend
