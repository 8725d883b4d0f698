"""Nouns: frozen structs and NumPy columns, units in names; no I/O, no clock; and the few laws several rooms share."""
