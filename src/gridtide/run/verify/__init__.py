"""Deterministic simulation: the real site, management system and store on virtual time, under random faults, with every
invariant checked against the twin's ground truth at every tick."""
