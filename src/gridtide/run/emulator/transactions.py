"""Blocks E and F: the vehicle at the plug and its transaction, with every event in order and no number left out."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from gridtide.run.emulator.authorization import Authorization, Verdict
from gridtide.run.emulator.core import EVSE, Core, Fields
from gridtide.run.emulator.device_model import DeviceModel
from gridtide.run.emulator.local_list import TokenKey, token_key
from gridtide.run.emulator.vehicle import Car, needs_fields, token_fields
from gridtide.wire.ocpp.meter import MeterReading, meter_values

FLOWING_KW = 0.05
"""Below this nothing flows: the power stage's standby is no charging."""
_LIMITS = (
    ("maxEnergy", "EnergyLimitReached", "EnergyLimitReached"),
    ("maxTime", "TimeLimitReached", "TimeLimitReached"),
    ("maxSoC", "SoCLimitReached", "SOCLimitReached"),
    ("maxCost", "CostLimitReached", "LocalOutOfCredit"),
)
"""Limit of a transaction (E16), trigger, reason."""


class Transaction(Struct):
    """A running transaction."""

    id: str
    token: Any
    started_at: datetime
    started_s: float
    group: TokenKey | None = None
    remote_start_id: int | None = None
    seq_no: int = 0
    charging: str = "EVConnected"
    mode: str = "ChargingOnly"
    is_priority: bool = False
    transfers: tuple[str, ...] | None = None
    """Energy transfer modes the CSMS allows; None: it did not tell."""
    tariff: Any | None = None
    cost: float = 0.0
    limits: Any | None = None


class Transactions:
    """The vehicle and its transaction."""

    def __init__(self, core: Core, model: DeviceModel, authorization: Authorization) -> None:
        self._core, self._model, self._authorization = core, model, authorization
        self.car: Car | None = None
        self.now: Transaction | None = None
        self.reading: MeterReading | None = None
        self.may_start: Callable[[Any, TokenKey | None], bool] = lambda _token, _group: True
        """Whether the EVSE is free for a token (availability, reservation)."""
        self.taken: Callable[[], Fields] = dict
        """What a start adds to its event (the reservation it uses up)."""
        self.changed: Callable[[], None] = lambda: None
        """The connector's state may have changed."""
        self.ended: Callable[[Transaction], None] = lambda _ended: None
        self.costs: Callable[[Transaction], Fields] = lambda _ending: {}
        """What the end adds to its event: the cost by the tariff."""
        self._early: tuple[Any, Verdict, float] | None = None
        """A token that was accepted before its vehicle came, and until when it is waited for (monotonic, s)."""
        self.again = False
        """A vehicle stands there whose token nobody could be asked about."""
        self._updated_s = 0.0
        self._aligned_s = 0.0
        model.live("EVSE", "Power", lambda: f"{(self.power_kw or 0.0) * 1000.0:.0f}", 1)
        model.live("ConnectedEV", "StateOfCharge", lambda: f"{(self._soc() or 0.0) * 100.0:.1f}", 1)

    # --- the vehicle ------------------------------------------------------------------------------------------------
    @property
    def power_kw(self) -> float | None:
        """Power as last metered."""
        return None if self.reading is None else self.reading.power_kw

    def plug(self, car: Car) -> None:
        """A vehicle arrives. Standard habit: it waits for its token; else the transaction begins with the plug."""
        self.arrive(car)
        if self._core.setup.standard:
            early, self._early = self._early, None
            if early is not None and self._core.clock.monotonic() < early[2]:
                self.start(early[0], "CablePluggedIn", early[1])
            else:
                self.present(car.token)
            return
        token = self.token(car.token)
        self._core.say("Authorize", {"idToken": token}, self._permitted)
        self.start(token, "CablePluggedIn", Verdict(True))

    def arrive(self, car: Car) -> None:
        """A vehicle is there and nothing has begun."""
        self.car = car
        self.reading = MeterReading(t_s=self._core.clock.wall(), power_kw=0.0, soc=round(car.soc, 4))
        self.changed()

    def unplug(self) -> None:
        """The vehicle leaves: the transaction ends."""
        if self.car is None:
            return
        if self.now is not None:
            self.stop("EVCommunicationLost", "EVDisconnected")
        self.car, self.reading, self.again = None, None, False
        self.changed()

    def present(self, token: str) -> None:
        """A driver shows a card: it starts, or by the same driver stops, a transaction."""
        shown, now = self.token(token), self.now
        if now is None:
            self._authorization.decide(shown, lambda verdict: self._judged(shown, verdict))
        elif token_key(now.token) == token_key(shown):
            self.stop("StopAuthorized", "Local", shown)
        else:
            self._authorization.decide(shown, lambda verdict: self._stop_by(shown, verdict))

    def token(self, token: str, kind: str = "ISO14443") -> Any:
        """An IdTokenType."""
        return self._core.make("Authorize", {"idToken": token_fields(token, kind)}).idToken  # type: ignore[attr-defined]

    def _judged(self, token: Any, verdict: Verdict) -> None:
        ready = self.car is not None and self.now is None
        # Refused only because nobody could be asked: the driver tries again when the station is back.
        self.again = ready and not verdict.accepted and not self._core.connected
        if not verdict.accepted or not self.may_start(token, verdict.group):
            return
        if ready:
            self.start(token, "Authorized", verdict)
        elif self.car is None:
            wait_s = self._model.number("TxCtrlr", "EVConnectionTimeOut")
            self._early = (token, verdict, self._core.clock.monotonic() + wait_s)

    def _stop_by(self, token: Any, verdict: Verdict) -> None:
        """Another card of the same group, or a master pass, stops (C09, C16)."""
        if self.now is None or verdict.group is None or not verdict.accepted:
            return
        master = self._model.value("AuthCtrlr", "MasterPassGroupId").casefold()
        if master and verdict.group[1] == master:
            self.stop("StopAuthorized", "MasterPass", token)
        elif verdict.group == self.now.group:
            self.stop("StopAuthorized", "Local", token)

    def _permitted(self, answer: Any) -> None:
        if answer is not None and self.now is not None:
            self.now.transfers = getattr(answer, "allowedEnergyTransfer", None)

    # --- the transaction --------------------------------------------------------------------------------------------
    def start(self, token: Any, trigger: str, verdict: Verdict, remote_start_id: int | None = None) -> Transaction:
        """Begin a transaction of the plugged vehicle."""
        core = self._core
        # The instant keeps transactions apart when a restart begins the ids anew.
        name = f"{core.new_id()}-{core.clock.wall():.0f}"[-36:]
        self.now = Transaction(
            name, token, core.now(), core.clock.monotonic(), verdict.group, remote_start_id,
            transfers=verdict.transfers, tariff=verdict.tariff,
        )  # fmt: skip
        self._updated_s = core.clock.monotonic()
        self.tell("Started", trigger, {"idToken": token} | self.taken())
        self.tell_needs()
        return self.now

    def stop(self, trigger: str, why: str, token: Any | None = None) -> None:
        """End the transaction; the vehicle may stay plugged."""
        ended = self.now
        if ended is None:
            return
        ended.charging = "Idle" if self.car is None else "EVConnected"
        more = {"stoppedReason": why, **self.costs(ended)}
        self.tell("Ended", trigger, more | ({} if token is None else {"idToken": token}))
        self.now = None
        self.ended(ended)
        self.changed()

    def tell(self, kind: str, trigger: str, more: Fields | None = None) -> None:
        """Queue a TransactionEvent. `more`: fields of the event, or of its transactionInfo where they belong there."""
        now, core = self.now, self._core
        if now is None:
            return
        fields = dict(more or {})
        info: Fields = {"transactionId": now.id}
        if core.setup.standard:
            info["chargingState"] = now.charging
            if core.version == "2.1":
                info["operationMode"] = now.mode
        if now.remote_start_id is not None:
            info["remoteStartId"] = now.remote_start_id
        if "stoppedReason" in fields:
            info["stoppedReason"] = fields.pop("stoppedReason")
        made: Fields = {
            "eventType": kind, "timestamp": core.now(), "triggerReason": trigger, "seqNo": now.seq_no,
            "transactionInfo": info, "evse": EVSE, **fields,
        }  # fmt: skip
        if not core.connected and (core.setup.standard or kind != "Started"):
            made["offline"] = True
        event = core.make("TransactionEvent", made)
        if self.reading is not None:
            event = msgspec.structs.replace(event, meterValue=meter_values(self.reading, core.version))
        now.seq_no += 1
        core.outbox.put("TransactionEvent", event, lambda answer: self._answered(now, answer))

    def tell_needs(self) -> None:
        """NotifyEVChargingNeeds of the plugged vehicle, if it tells any."""
        if self.car is not None and self.car.tells:
            fields = needs_fields(self.car, self._soc(), self._core.version)
            self._core.say("NotifyEVChargingNeeds", fields)

    def meter(self, reading: MeterReading) -> None:
        """The newest reading; events that are due go out."""
        self.reading = reading
        if self.now is None:
            return
        now_s, setup = self._core.clock.monotonic(), self._core.setup
        interval_s = self._model.number("SampledDataCtrlr", "TxUpdatedInterval") if setup.standard else setup.update_s
        if setup.standard:
            self._tell_state(self.now)
            self._hold_limits(self.now)
        if self.now is not None and interval_s > 0 and now_s - self._updated_s >= interval_s:
            self._updated_s = now_s
            self.tell("Updated", "MeterValuePeriodic")

    def aligned(self) -> bool:
        """Whether clock-aligned MeterValues are due (J01)."""
        interval_s = self._model.number("AlignedDataCtrlr", "Interval")
        beat_s = self._core.clock.wall() // interval_s if interval_s > 0 else 0.0
        due = interval_s > 0 and beat_s != self._aligned_s and self._aligned_s > 0.0
        self._aligned_s = beat_s
        return due

    def _tell_state(self, now: Transaction) -> None:
        state = "Charging" if abs(self.power_kw or 0.0) >= FLOWING_KW else "SuspendedEVSE"
        if state != now.charging:
            now.charging = state
            self.tell("Updated", "ChargingStateChanged")

    def note_mode(self, mode: str) -> None:
        """The operation mode in force; a change is told (2.1)."""
        if self.now is not None and self.now.mode != mode:
            self.now.mode = mode
            if self._core.setup.standard and self._core.version == "2.1":
                self.tell("Updated", "OperationModeChanged")

    def _hold_limits(self, now: Transaction) -> None:
        limits, reading = now.limits, self.reading
        if limits is None or reading is None:
            return
        used = {
            "maxEnergy": (reading.energy_import_kwh or 0.0) * 1000.0,
            "maxTime": self._core.clock.monotonic() - now.started_s,
            "maxSoC": (reading.soc or 0.0) * 100.0, "maxCost": now.cost,
        }  # fmt: skip
        for name, trigger, why in _LIMITS:
            most = getattr(limits, name)
            if most is not None and used[name] >= most:
                self.stop(trigger, why)
                return

    def _answered(self, told: Transaction, answer: Any) -> None:
        """What the CSMS says to an event: cost, limits, and a token it no longer takes."""
        if answer is None or not self._core.setup.standard:
            return
        if answer.totalCost is not None:
            told.cost = answer.totalCost
        limits = getattr(answer, "transactionLimit", None)
        told.limits = told.limits if limits is None else limits
        info = answer.idTokenInfo
        if info is None:
            return
        self._authorization.learn(told.token, info)
        stops = self._model.is_on("TxCtrlr", "StopTxOnInvalidId")
        if told is self.now and info.status != "Accepted" and stops:
            self.stop("Deauthorized", "DeAuthorized")

    def _soc(self) -> float | None:
        known = self.reading.soc if self.reading is not None else None
        return known if known is not None or self.car is None else self.car.soc
