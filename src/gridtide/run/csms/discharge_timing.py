"""The arithmetic of a test discharge: from what was decided, sent and metered to figures and a verdict. Pure.

Two times are kept apart: the control path (decision to frame on the socket; ours, 100 ms allowed) and the station's own (frame
to the first report at the wanted power), which no controller can shorten and which its report interval blurs.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

BUDGET_S = 0.1
"""Control path: decision to frame on the socket (DS7)."""
REACHED = 0.9
"""Share of the allowed power that counts as reached."""
STARTED_KW = 0.1
"""Less counts as nothing."""


class Sample(Struct, frozen=True):
    """One report of the station's meter: monotonic instant, power (+ charging, - discharging)."""

    at_s: float
    power_kw: float


class Measured(Struct, frozen=True, kw_only=True):
    """What a test saw. Instants are monotonic; None did not happen."""

    rate_kw: float
    """Wanted discharge, magnitude."""
    asked_s: float
    """When the override was given."""
    decided_s: float | None = None
    """The cycle that first decided a discharge."""
    sent_s: float | None = None
    """The first frame with it was on the socket."""
    allowed_kw: float = 0.0
    """Largest discharge that the guard let through, magnitude."""
    bound: str = ""
    """What bound it, in words."""
    ended_s: float
    samples: tuple[Sample, ...] = ()
    """Reports of the station from the charging before the test to its end."""
    aborted: str = ""
    """Why the test ended early."""
    note: str = ""
    """What was unlike the test that was meant."""


class Figures(Struct, frozen=True, kw_only=True):
    """What a test measured. None: it did not come so far."""

    verdict: str
    """`pass` or `fail`."""
    problems: tuple[str, ...]
    control_path_ms: float | None
    control_budget_ms: float
    station_first_s: float | None
    """Frame on the socket to the first report of any discharge."""
    station_reached_s: float | None
    """Frame on the socket to the first report at 90 % of the allowed power."""
    report_interval_s: float | None
    """Longest pause between two reports; the station's times are no finer than that."""
    before_kw: float | None
    """Last report before the transition."""
    rate_kw: float
    allowed_kw: float
    mean_kw: float | None
    """Mean power from `station_reached_s` on, - is discharging."""
    held_share: float | None
    """Share of the reports since then that stayed at 90 % of the allowed power."""
    note: str = ""
    """What was unlike the test that was meant."""


def judge(measured: Measured) -> Figures:
    """Figures and verdict of one test."""
    sent_s, least_kw = measured.sent_s, -REACHED * measured.allowed_kw
    after = [one for one in measured.samples if sent_s is not None and one.at_s >= sent_s]
    first = next((one for one in after if one.power_kw < -STARTED_KW), None)
    reached = next((one for one in after if one.power_kw <= least_kw + 1e-9 and one.power_kw < -STARTED_KW), None)
    held = [one for one in after if reached is not None and one.at_s >= reached.at_s]
    path_s = None if measured.decided_s is None or sent_s is None else max(0.0, sent_s - measured.decided_s)
    before = [one for one in measured.samples if sent_s is None or one.at_s < sent_s]
    share = sum(one.power_kw <= least_kw + 1e-9 for one in held) / len(held) if held else None
    problems = tuple(_problems(measured, path_s, reached, share))
    return Figures(
        verdict="fail" if problems else "pass", problems=problems,
        control_path_ms=None if path_s is None else round(path_s * 1000.0, 2), control_budget_ms=BUDGET_S * 1000.0,
        station_first_s=_since(first, sent_s), station_reached_s=_since(reached, sent_s),
        report_interval_s=_interval(measured.samples), before_kw=before[-1].power_kw if before else None,
        rate_kw=measured.rate_kw, allowed_kw=round(measured.allowed_kw, 3),
        mean_kw=round(sum(one.power_kw for one in held) / len(held), 3) if held else None,
        held_share=None if share is None else round(share, 3), note=measured.note,
    )  # fmt: skip


def sentence(figures: Figures) -> str:
    """The outcome in the words of a person who has to decide whether the station may serve."""
    if figures.verdict != "pass":
        return "Failed: " + " ".join(figures.problems)
    return (
        f"Passed: the discharge of {figures.allowed_kw:.1f} kW was on its way {figures.control_path_ms:.1f} ms after it was "
        f"decided ({figures.control_budget_ms:.0f} ms are allowed); the station itself took "
        f"{figures.station_reached_s:.1f} s, seen by a meter that reports every {figures.report_interval_s or 0.0:.1f} s."
        + (f" {figures.note}" if figures.note else "")
    )


def _problems(measured: Measured, path_s: float | None, reached: Sample | None, share: float | None) -> list[str]:
    if measured.aborted:
        return [measured.aborted]
    if measured.decided_s is None:
        return [f"The guard let no discharge through: {measured.bound or 'no reason was told'}"]
    if path_s is None:
        return ["Nothing was sent to the station."]
    found = []
    if path_s > BUDGET_S:
        found.append(f"The control path took {path_s * 1000.0:.0f} ms; {BUDGET_S * 1000.0:.0f} ms are allowed.")
    if measured.allowed_kw < REACHED * measured.rate_kw:
        found.append(
            f"The guard let only {measured.allowed_kw:.1f} of {measured.rate_kw:.1f} kW through: {measured.bound}"
        )
    if reached is None:
        found.append("The station's meter never showed the discharge.")
    elif share is not None and share < REACHED:
        found.append(f"The discharge was not held: only {share:.0%} of the reports showed it.")
    return found


def _since(sample: Sample | None, sent_s: float | None) -> float | None:
    return None if sample is None or sent_s is None else round(sample.at_s - sent_s, 3)


def _interval(samples: Sequence[Sample]) -> float | None:
    gaps = [b.at_s - a.at_s for a, b in pairwise(samples)]
    longest = max(gaps, default=math.nan)
    return round(longest, 3) if math.isfinite(longest) else None
