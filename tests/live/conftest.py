"""What is made once for all live tests of a process."""

import pytest

from gridtide.run.pki import Pki
from tests.live.csms_server import serial_of
from tests.live.security_rig import small_pki


@pytest.fixture(scope="session")
def station_pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """A PKI with a certificate for `bay-1` and, to be told apart from it, for `bay-2`. Tests read it only."""
    return small_pki(tmp_path_factory.mktemp("stations") / "pki", serial_of("bay-1"), serial_of("bay-2"))
