"""Modbus: register maps to physical values and back, meter presets, the emulated meter's answers; sans-IO."""
