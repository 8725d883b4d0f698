"""What the page draws: power in two resolutions, closed intervals, gaps, and each vehicle's charge so far. All bounded."""

import math
from collections import deque

from gridtide.model.fleet import FleetSample
from gridtide.model.view import IntervalView, PowerGap, PowerPoint, PowerView, SocPoint

FINE_S, FINE_POINTS = 5.0, 960
COARSE_S, COARSE_POINTS = 60.0, 1_600
PATH_S, PATH_POINTS = 120.0, 60
INTERVALS = 110


class History:
    """Rings that the site loop fills and the page reads."""

    def __init__(self, rows: int) -> None:
        self._fine: deque[PowerPoint] = deque(maxlen=FINE_POINTS)
        self._coarse: deque[PowerPoint] = deque(maxlen=COARSE_POINTS)
        self._gaps: deque[PowerGap] = deque(maxlen=20)
        self._gap: tuple[float, str] | None = None
        self.intervals: deque[IntervalView] = deque(maxlen=INTERVALS)
        self._paths: list[deque[SocPoint]] = [deque(maxlen=PATH_POINTS) for _ in range(rows)]
        self._path_at_s = -math.inf

    def add(self, now_s: float, site_kw: float | None, building_kw: float | None, why: str = "") -> PowerPoint:
        """One cycle; None while the meter is silent, with the reason in words."""
        point = PowerPoint(now_s, site_kw, building_kw)
        if site_kw is None and self._gap is None and self._fine:
            self._gap = (now_s, why)
        if site_kw is not None and self._gap is not None:
            self._gaps.append(PowerGap(self._gap[0], now_s, self._gap[1]))
            self._gap = None
        for ring, every_s in ((self._fine, FINE_S), (self._coarse, COARSE_S)):
            if not ring or now_s - ring[-1].t_s >= every_s - 1e-6:
                ring.append(point)
        return point

    def close(self, closed: tuple[tuple[float, float], ...], length_s: float) -> None:
        """Billed intervals that ended: (end in UTC epoch s, average in kW)."""
        for end_s, average_kw in closed:
            self.intervals.append(IntervalView(end_s - length_s, average_kw, False))

    def vehicles(self, now_s: float, fleet: FleetSample) -> None:
        """Each vehicle's charge, now and then; an empty bay forgets."""
        if now_s - self._path_at_s < PATH_S:
            return
        self._path_at_s = now_s
        for row, path in enumerate(self._paths):
            soc = float(fleet.soc[row])
            if not fleet.connected[row]:
                path.clear()
            elif math.isfinite(soc):
                path.append(SocPoint(now_s, soc, False))

    def path(self, row: int) -> tuple[SocPoint, ...]:
        """Charge of one row so far."""
        return tuple(self._paths[row])

    def power(self, window: str, now_s: float, running: IntervalView) -> PowerView:
        """The chart's history: `hour` in 5 s steps or `day` in minutes."""
        day = window == "day"
        since = now_s - (86_400.0 if day else 4_500.0)
        ring = self._coarse if day else self._fine
        gaps = list(self._gaps)
        if self._gap is not None:
            gaps.append(PowerGap(self._gap[0], now_s, self._gap[1]))
        return PowerView(
            points=tuple(p for p in ring if p.t_s >= since),
            gaps=tuple(g for g in gaps if g.end_s >= since),
            intervals=(*(i for i in self.intervals if i.start_s >= since - 900.0), running),
        )
