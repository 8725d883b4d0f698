"""How long a setpoint takes from decision to answer, and where that time goes: in our queue, or at the station and its link."""

from gridtide.run.clock import Clock, ScaledClock
from gridtide.run.csms.station import OnEvent, Station
from gridtide.wire.ocpp.events import CallAnswered, CallFailed

BUDGET_S = 0.1
"""From decision to answer; beyond it people are told."""
NEWEST_SHARE = 0.2
"""Weight of the newest round trip in the smoothed one."""


class RoundTrips:
    """Measures setpoints; every figure is in real seconds, also under a scaled clock."""

    def __init__(self, clock: Clock, on_event: OnEvent) -> None:
        self._clock, self._on_event = clock, on_event

    def note(self, station: Station, decided_s: float, outcome: CallAnswered | CallFailed) -> None:
        """A setpoint decided at monotonic `decided_s` has just got `outcome`."""
        speed = self._clock.speed if isinstance(self._clock, ScaledClock) else 1.0
        now_s = self._clock.monotonic()
        total_s = (now_s - decided_s) / speed
        if isinstance(outcome, CallAnswered) and outcome.sent_at_s is not None:
            there_s = (now_s - outcome.sent_at_s) / speed
            _keep(station, there_s)
            if total_s > BUDGET_S:
                self._tell(station, total_s, there_s, outcome.behind)
        elif isinstance(outcome, CallFailed) and outcome.reason == "timed_out":
            _keep(station, total_s)
            name = station.provision.identity
            self._on_event("latency_over_budget", name, f"No answer {total_s * 1e3:.0f} ms after the decision.")

    def _tell(self, station: Station, total_s: float, there_s: float, behind: str) -> None:
        where = f"waiting behind {behind}" if behind else "in the controller"
        text = (
            f"{total_s * 1e3:.0f} ms from decision to answer: {(total_s - there_s) * 1e3:.0f} ms {where}, "
            f"{there_s * 1e3:.0f} ms at the station and its link."
        )
        self._on_event("latency_over_budget", station.provision.identity, text)


def _keep(station: Station, there_s: float) -> None:
    before = station.round_trip_s
    station.last_round_trip_s = there_s
    station.round_trip_s = there_s if before is None else before + NEWEST_SHARE * (there_s - before)
