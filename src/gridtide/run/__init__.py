"""Everything impure: clock, sockets, store, the loops and the services."""
