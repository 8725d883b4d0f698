"""gridtide: parked electric vehicles as a grid asset. Sign everywhere: + import/charging, - export/discharging."""

__version__ = "0.1.0"
