"""OCPP 2.0.1 and 2.1, sans-IO: bytes in, events and bytes out; no socket, clock or store."""
