"""Slow decisions: what is possible with foresight; pure."""
