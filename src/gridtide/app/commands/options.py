"""What options say in words of their own, read and checked: instants of a data set, time zones, names of a choice."""

import math
from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo


def zone_of(name: str) -> ZoneInfo:
    """The IANA zone `name`; raises ValueError."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f'--timezone is {name!r}: give an IANA name, as "Europe/Berlin"') from None


def instant_of(text: str, zone: ZoneInfo) -> float:
    """UTC epoch seconds of a date and time, in `zone` unless it has an offset of its own; raises ValueError."""
    cure = "give a local date and time, as 2019-05-29T10:26"
    try:
        read = datetime.fromisoformat(text.strip())
        at_s = (read if read.tzinfo is not None else read.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"--start is {text[:60]!r}: {cure}") from None
    if not (math.isfinite(at_s) and at_s >= 0.0):
        raise ValueError(f"--start is {text[:60]!r}: it lies before 1970; {cure}")
    return at_s


def one_of(text: str, known: Iterable[str], option: str) -> str:
    """`text` if it is one of `known`; raises ValueError."""
    names = list(known)
    if text not in names:
        raise ValueError(f"{option} is {text[:60]!r}: give {', '.join(names[:-1])} or {names[-1]}")
    return text
