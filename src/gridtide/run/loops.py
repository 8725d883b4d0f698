"""The event loop of a program: uvloop where there is one, as it halves the cost of a socket and the memory of a TLS one."""

import asyncio
from collections.abc import Coroutine
from importlib.util import find_spec
from typing import Any, TypeVar

T = TypeVar("T")


def run_program(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end on a loop of its own."""
    if find_spec("uvloop") is None:
        return asyncio.run(work)
    import uvloop

    return uvloop.run(work)
