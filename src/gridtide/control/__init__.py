"""Fast decisions: step(state, snapshot, settings) -> (state, decision); pure."""
