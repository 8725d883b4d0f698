"""Generated OCPP message types, one module a version."""
