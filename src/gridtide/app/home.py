"""Where gridtide keeps what belongs to this user: the token, passwords, the demo's store."""

import os
from pathlib import Path


def default_home() -> Path:
    """`$GRIDTIDE_HOME`, else `~/.local/share/gridtide`."""
    named = os.environ.get("GRIDTIDE_HOME")
    return Path(named) if named else Path.home() / ".local" / "share" / "gridtide"
