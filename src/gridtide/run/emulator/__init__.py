"""Emulated stations, meter and site: the other ends of our wires, with honest physics behind them."""
