"""What holds for every test."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """A command under test sets up the log for its process; the next test starts without that."""
    yield
    structlog.reset_defaults()
