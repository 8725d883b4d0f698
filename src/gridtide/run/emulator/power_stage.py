"""The power side of an emulated station: what profiles, grid controls and faults leave of a vehicle's power."""

from gridtide.run.emulator.blocks import Blocks
from gridtide.run.emulator.core import Core


class PowerStage:
    """Decides the power asked of the plant."""

    def __init__(self, core: Core, blocks: Blocks) -> None:
        self._core, self._blocks = core, blocks
        self.is_off = False
        """During a reboot nothing flows."""
        self.tampered = False
        self.heat_c = 25.0
        self.asked_kw = 0.0
        blocks.model.live("TemperatureSensor", "Temperature", lambda: f"{self.heat_c:.1f}")
        blocks.model.live("EVSE", "Power", lambda: f"{self.asked_kw * 1000.0:.0f}", 1, attribute="Target")

    def wish_kw(self) -> float:
        """What is asked of the power stage now, kW; without a transaction nothing."""
        self.asked_kw = self._wish_kw()
        return self.asked_kw

    def tamper(self) -> None:
        """Somebody opened the case: nothing flows any more."""
        self.tampered = True
        self._core.security_event("TamperDetectionActivated", "the case is open")

    def _wish_kw(self) -> float:
        blocks, setup = self._blocks, self._core.setup
        if blocks.transactions.now is None or blocks.transactions.car is None:
            return 0.0
        if self.is_off or self.tampered or not blocks.availability.operative:
            return 0.0
        if self._core.faults.ignores_setpoints:
            return setup.charge_kw
        power = blocks.book.power()
        # A charger without any profile waits for one: it never charges at full power by itself.
        wish_kw = setup.fallback_kw
        if power is not None:
            blocks.transactions.note_mode(power.mode)
            free_kw = setup.fallback_kw if power.upper_kw is None else power.upper_kw
            wish_kw = free_kw if power.setpoint_kw is None else power.setpoint_kw
        if self._core.version == "2.1":
            wish_kw = blocks.der.shaped_kw(wish_kw, blocks.book.around.frequency_hz)
        return wish_kw if wish_kw >= 0.0 or blocks.v2x.may_discharge else 0.0
