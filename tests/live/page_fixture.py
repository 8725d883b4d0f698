"""A rich, realistic view of a site for tests of the page: twelve bays, a meter gap, events, all powers in one account.

Everything is a pure function of `now_s`, so a stream of views moves plausibly. Numbers are invented.
"""

import math

from gridtide.model.view import (
    DemandView,
    EventView,
    IntervalView,
    LinkView,
    MoneyLine,
    MoneyView,
    PowerGap,
    PowerPoint,
    PowerView,
    PriceStep,
    PriceView,
    SiteView,
    SocPoint,
    VehicleView,
)

NOW_S = 1_781_612_532.0
"""Tue 16 June 2026, 14:22:12 in Amsterdam."""
TIMEZONE = "Europe/Amsterdam"
LIMIT_KW = 450.0
INTERVAL_S = 900.0
GAP_S = (NOW_S - 2440.0, NOW_S - 2400.0)
"""The meter said nothing between these instants."""
_MIDNIGHT_S = NOW_S - 51_732.0
_PRICES = (18, 18, 15, 12, 12, 12, 14, 19, 26, 29, 27, 24, 22, 23, 27, 31, 30, 24, 22, 27, 33, 31, 25, 19)


def _hash(tick: int) -> float:
    """A repeatable number in -1..1 for each whole `tick`."""
    return ((tick * 2_654_435_761) % 4_294_967_296) / 2_147_483_648.0 - 1.0


def _wobble(t_s: float) -> float:
    """A repeatable noise of about +-1: three smoothed hashes of different pace."""
    total = 0.0
    for pace_s, weight in ((6.0, 0.35), (27.0, 0.4), (140.0, 0.45)):
        tick = math.floor(t_s / pace_s)
        share = t_s / pace_s - tick
        total += weight * ((1.0 - share) * _hash(tick * 7 + int(pace_s)) + share * _hash((tick + 1) * 7 + int(pace_s)))
    return total


def building_kw(t_s: float) -> float:
    """Load of the building alone, kW, at epoch second `t_s`."""
    day_s = (t_s - _MIDNIGHT_S) % 86_400.0
    office = math.sin(math.pi * (day_s - 18_000.0) / 57_600.0) if 18_000.0 < day_s < 75_600.0 else 0.0
    slow = 30.0 * math.sin(2.0 * math.pi * (t_s - NOW_S + 2500.0) / 7600.0)
    return (
        172.0
        + 251.0 * math.pow(max(0.0, office), 0.6)
        + slow * min(1.0, office * 1.6)
        + 3.2 * _wobble(t_s)
        + 24.0 * office
    )


def site_kw(t_s: float) -> float:
    """Power at the grid connection, kW: vehicles charge in the valleys and hold the peaks."""
    alone = building_kw(t_s)
    if alone > 439.0:
        return 439.0 + 0.04 * (alone - 439.0) + 1.1 * _wobble(t_s + 900.0)
    return alone + min(22.0, 0.75 * (439.0 - alone))


def _average_kw(start_s: float, end_s: float, steps: int = 30) -> float:
    """Mean of `site_kw` over [start_s, end_s]."""
    step_s = (end_s - start_s) / steps
    return sum(site_kw(start_s + (index + 0.5) * step_s) for index in range(steps)) / steps


def _silent(t_s: float) -> bool:
    return GAP_S[0] < t_s < GAP_S[1]


def _point(t_s: float) -> PowerPoint:
    if _silent(t_s):
        return PowerPoint(t_s=t_s, site_kw=None, building_kw=None)
    return PowerPoint(t_s=t_s, site_kw=round(site_kw(t_s), 2), building_kw=round(building_kw(t_s), 2))


def _interval_start(now_s: float) -> float:
    return now_s - (now_s - _MIDNIGHT_S) % INTERVAL_S


def _demand(now_s: float) -> DemandView:
    start_s = _interval_start(now_s)
    end_s = start_s + INTERVAL_S
    gone_h = (now_s - start_s) / 3600.0
    left_h = (end_s - now_s) / 3600.0
    used_kwh = _average_kw(start_s, now_s) * gone_h if gone_h > 0.0 else 0.0
    budget_kwh = LIMIT_KW * INTERVAL_S / 3600.0
    whole_h = INTERVAL_S / 3600.0
    projected_kw = (used_kwh + site_kw(now_s) * left_h) / whole_h
    given_kw = building_kw(now_s) - site_kw(now_s)
    return DemandView(
        start_s=start_s,
        end_s=end_s,
        limit_kw=LIMIT_KW,
        used_kwh=used_kwh,
        budget_kwh=budget_kwh,
        allow_kw=(budget_kwh - used_kwh) / left_h if left_h > 1.0 / 3600.0 else None,
        projected_kw=projected_kw,
        projected_without_kw=projected_kw + given_kw,
        period_peak_kw=446.0,
        rolling=False,
    )


def _intervals(now_s: float, count: int) -> tuple[IntervalView, ...]:
    start_s = _interval_start(now_s)
    past = [
        IntervalView(start_s=begin, average_kw=_average_kw(begin, begin + INTERVAL_S), running=False)
        for begin in (start_s - back * INTERVAL_S for back in range(count - 1, 0, -1))
    ]
    return (*past, IntervalView(start_s=start_s, average_kw=_demand(now_s).projected_kw, running=True))


def sample_power(window: str = "hour", now_s: float = NOW_S) -> PowerView:
    """History of the power chart for `window` "hour" or "day", ending at `now_s`."""
    step_s, count = (60.0, 96) if window == "day" else (5.0, 5)
    begin_s = _interval_start(now_s) - (count - 1) * INTERVAL_S
    times = [begin_s + index * step_s for index in range(int((now_s - begin_s) / step_s) + 1)]
    gap = PowerGap(start_s=GAP_S[0], end_s=GAP_S[1], why="meter silent")
    return PowerView(
        points=tuple(_point(t_s) for t_s in times if not _silent(t_s)),
        gaps=(gap,) if begin_s < GAP_S[1] <= now_s else (),
        intervals=_intervals(now_s, count),
    )


def _at(hour: int, minute: int, days: int = 0) -> float:
    return _MIDNIGHT_S + days * 86_400.0 + hour * 3600.0 + minute * 60.0


def _path(*points: tuple[float, float], now_s: float, end: tuple[float, float] | None) -> tuple[SocPoint, ...]:
    past = [SocPoint(t_s=t_s, soc=soc, planned=False) for t_s, soc in points if t_s <= now_s]
    return tuple(past) if end is None else (*past, SocPoint(t_s=end[0], soc=end[1], planned=True))


def _vehicle(bay: int, name: str, **fields: object) -> VehicleView:
    """A row with the usual limits; `fields` override."""
    usual: dict[str, object] = {
        "evse_id": f"cs{bay:02d}/1",
        "bay": f"Bay {bay}",
        "name": name,
        "state": "resting",
        "soc": None,
        "floor_soc": 0.2,
        "window_low_soc": 0.4,
        "window_high_soc": 0.8,
        "target_soc": None,
        "power_kw": 0.0,
        "setpoint_kw": 0.0,
        "departs_s": None,
        "departure": "met",
        "departure_note": "",
        "reason": "",
        "detail": "",
        "silent_s": None,
        "max_charge_kw": 11.0,
        "max_discharge_kw": 11.0,
        "override": None,
    }
    return VehicleView(**(usual | fields))  # type: ignore[arg-type]


def _urgent(now_s: float) -> list[VehicleView]:
    """Those that leave soon, wait, or say nothing."""
    soc = min(0.78, 0.71 + (now_s - NOW_S) * 11.0 / 3600.0 / 60.0)
    silent_s = 41.0 + max(0.0, now_s - NOW_S)
    return [
        _vehicle(
            3, "Van 2", state="charging", soc=soc, target_soc=0.78, setpoint_kw=11.0,
            power_kw=11.0 + 0.05 * _wobble(now_s), departs_s=_at(14, 50), departure="on_track", departure_note="ready 14:45",
            reason="Charging first: it still needs 4.2 kWh.",
            detail="Leaves at 14:50 with 78 %. At 11.0 kW it is ready at 14:45, five minutes early. "
            "The interval could spare it up to 28 kW, so it need not wait for the building.",
            path=_path(
                (_at(13, 30), 0.62), (_at(13, 38), 0.635), (_at(13, 58), 0.635), (now_s, soc),
                now_s=now_s, end=(_at(14, 45), 0.78),
            ),
        ),
        _vehicle(
            9, "Visitor", state="waiting", soc=0.44, target_soc=0.6, departs_s=_at(17, 0), departure="on_track",
            departure_note="60 %", reason="Waits for a quieter building, about 15:10; 16:05 at the latest.",
            detail="Needs 9.6 kWh by 17:00. The building is expected to fall below 430 kW about 15:10; "
            "charging at 11 kW from then it is ready at 16:03.",
            path=_path((_at(12, 50), 0.44), (now_s, 0.44), now_s=now_s, end=(_at(16, 3), 0.6)),
        ),
        _vehicle(
            11, "Staff 087", state="silent", soc=0.66, target_soc=0.7, power_kw=None, departs_s=_at(17, 30),
            departure="unknown", departure_note="70 % likely", silent_s=silent_s,
            reason=f"No word for {silent_s:.0f} s. 1.4 kW are kept free in case it charges.",
            detail="Bay 11 has stopped answering. Its last order lets it fall back to 1.4 kW by itself.",
            path=_path((_at(9, 0), 0.5), (_at(11, 0), 0.66), (now_s, 0.66), now_s=now_s, end=None),
        ),
    ]  # fmt: skip


def _givers(now_s: float) -> list[VehicleView]:
    """Those that hold the building below the limit."""
    jitter = 0.05 * _wobble(now_s)
    rows = (
        (7, "Pool car 4", 0.68, 0.6, 11.0, _at(18, 0), "60 %", "Has 4.7 kWh to spare above what it needs at 18:00."),
        (12, "Pool car 6", 0.74, 0.7, 11.0, _at(7, 30, 1), "70 % · Wed",
         "Not needed before tomorrow; charges again after 22:00."),
        (2, "Van 1", 0.63, 0.55, 9.6, _at(19, 0), "55 %", "Gives less than it could: its plug is warm, 68 °C."),
        (5, "Pool car 3", 0.43, 0.65, 6.4, _at(6, 45, 1), "65 % · Wed",
         "Slowing down: 3 % above the 40 % it may be used to."),
    )  # fmt: skip
    return [
        _vehicle(
            bay, name, state="giving", soc=soc, target_soc=target, power_kw=-power - jitter,
            setpoint_kw=-power, departs_s=leaves, departure="met" if soc >= target else "on_track", departure_note=note,
            reason=reason, detail=reason,
            path=_path(
                (_at(11, 0), soc - 0.05), (_at(13, 40), soc + 0.08), (now_s, soc),
                now_s=now_s, end=(leaves, max(soc, target)),
            ),
        )
        for bay, name, soc, target, power, leaves, note, reason in rows
    ]  # fmt: skip


def _resting(now_s: float) -> list[VehicleView]:
    """Those with nothing to do: ready, held by hand, of unknown charge, and an empty bay."""
    day_end_s = _at(8, 0, 1)
    return [
        _vehicle(
            1, "Pool car 1", soc=0.8, target_soc=0.8, departs_s=_at(16, 30), departure_note="80 %",
            reason="Ready. Kept full for the 16:30 trip.",
            path=_path((_at(11, 0), 0.55), (_at(13, 10), 0.8), (now_s, 0.8), now_s=now_s, end=(_at(16, 30), 0.8)),
        ),
        _vehicle(
            8, "Staff 204", soc=0.9, target_soc=0.9, departs_s=_at(17, 15), departure_note="90 %", max_discharge_kw=0.0,
            reason="Ready. Its car can only charge, not give.",
        ),
        _vehicle(
            4, "Staff 118", soc=0.62, target_soc=0.6, departs_s=_at(17, 30), departure_note="60 %",
            override="held until 15:00", reason="Held by hand until 15:00.",
        ),
        _vehicle(
            10, "Visitor", departs_s=_at(18, 0), departure_note="14 of 14 kWh", max_charge_kw=7.4, max_discharge_kw=0.0,
            reason="Level unknown, so it never gives.",
        ),
        _vehicle(
            6, "No vehicle", state="empty", departs_s=day_end_s if now_s > day_end_s else None, departure="unknown",
            reason="Free since 14:11.",
        ),
    ]  # fmt: skip


def _events(now_s: float) -> tuple[EventView, ...]:
    rows = (
        (5, _at(14, 21), "Bay 11 stopped answering", "Often the Wi‑Fi at that bay; the other stations are fine.",
         "station_timeout", "warning", False, 1),
        (4, _at(14, 15), "Four vehicles called in", "The interval was heading for 466 kW.", "",
         "info", True, 1),
        (3, _at(13, 41), "Meter silent for 40 s", "Nothing was given back meanwhile; it returned by itself.",
         "meter_stale", "alarm", True, 1),
        (2, _at(12, 5), "Bay 2: warm plug", "Giving is capped at 9.6 kW. Look for wear.", "connector_warm",
         "warning", True, 3),
        (1, _at(9, 14), "Limit raised from 440 to 450 kW", "By J. Visser.", "", "info", True, 1),
    )  # fmt: skip
    return tuple(
        EventView(id=key, at_s=at_s, title=title, text=text, code=code, severity=severity, seen=seen, count=count)  # type: ignore[arg-type]
        for key, at_s, title, text, code, severity, seen, count in rows
        if at_s <= now_s
    )


def _money() -> MoneyView:
    return MoneyView(
        period="June",
        currency="EUR",
        saved=711.0,
        lines=(
            MoneyLine(label="Demand avoided", note="63 kW at € 11.90", amount=750.0),
            MoneyLine(label="Missed", note="2 kW on 4 June, Bay 2 dropped out", amount=-24.0),
            MoneyLine(label="Energy bought at better hours", note="", amount=48.0),
            MoneyLine(label="Battery wear", note="", amount=-63.0),
        ),
        next_kw_above_kw=446.0,
        next_kw_price=11.90,
    )


def _price(now_s: float) -> PriceView:
    hour = int((now_s - _MIDNIGHT_S) % 86_400.0 // 3600.0)
    day_s = _MIDNIGHT_S + (now_s - _MIDNIGHT_S) // 86_400.0 * 86_400.0
    steps = tuple(
        PriceStep(start_s=day_s + index * 3600.0, price_per_kwh=cents / 100.0) for index, cents in enumerate(_PRICES)
    )
    return PriceView(
        now_per_kwh=_PRICES[hour] / 100.0,
        until_s=day_s + (hour + 1) * 3600.0,
        today=steps,
        frequency_hz=49.98 + 0.01 * _wobble(now_s / 3.0),
    )


def sample_view(now_s: float = NOW_S) -> SiteView:
    """The whole page at `now_s` (UTC epoch seconds)."""
    demand = _demand(now_s)
    vehicles = (*_urgent(now_s), *_givers(now_s), *_resting(now_s))
    silent_s = 41.0 + max(0.0, now_s - NOW_S)
    return SiteView(
        site="Harbour Office",
        timezone=TIMEZONE,
        now_s=now_s,
        speed=1.0,
        mode="budget",
        state="using" if demand.projected_without_kw > LIMIT_KW else "fine",
        state_word="Using the fleet" if demand.projected_without_kw > LIMIT_KW else "Below the limit",
        sentence="Holding 450 kW: four vehicles are giving 38 kW.",
        subline="Ten departures are on track; Bay 3 leaves first, at 14:50. "
        f"Bay 11 has been silent for {silent_s:.0f} s.",
        limit_kw=LIMIT_KW,
        buffer_kw=8.0,
        estop=False,
        links=(
            LinkView(name="meter", state="ok", note="0.2 s"),
            LinkView(name="stations", state="part", note="11 of 12"),
            LinkView(name="price", state="ok", note=""),
            LinkView(name="operator", state="ok", note=""),
        ),
        demand=demand,
        power=_point(now_s),
        intervals=_intervals(now_s, 5),
        money=_money(),
        vehicles=vehicles,
        price=_price(now_s),
        events=_events(now_s),
    )
