"""The charging-station management system: stations, their messages, what they are told."""
