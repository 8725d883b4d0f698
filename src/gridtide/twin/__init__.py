"""Plant models: step(state, inputs, dt_s) -> (state, samples); pure and seeded."""
