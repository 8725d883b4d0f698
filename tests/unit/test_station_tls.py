"""The stations' TLS follows the settings and, while the site runs, the registry."""

import asyncio
import ssl
from pathlib import Path

import pytest

from gridtide.app.commands.run import _station_side
from gridtide.run.csms.registry import EvseEntry, Registry, StationEntry
from gridtide.run.live import _follow
from gridtide.run.pki import Pki
from gridtide.run.store import MemoryStore
from gridtide.run.tls import StationTls
from tests.unit.test_run_command import loaded

NOW_S = 1.8e9
RSA_ONLY = "AES128-GCM-SHA256"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.init(
        tmp_path_factory.mktemp("pki") / "pki", NOW_S, operator="Tests", names=("csms.test",), rsa_bits=2048
    )


def test_a_station_registered_later_for_tls_1_2_opens_it_and_the_last_one_closes_it(pki: Pki) -> None:
    async def scenario() -> None:
        registry, told = Registry(MemoryStore()), list[str]()
        registry.changed = told.append
        tls = StationTls(pki.tls_settings())
        _follow(registry, tls)
        assert tls.context.minimum_version.name == "TLSv1_3"
        old = StationEntry(identity="old", security_profile=2, tls_min="1.2", evses=(EvseEntry(id=1),))
        await registry.put_station(old, "test", NOW_S)
        assert tls.context.minimum_version.name == "TLSv1_2"
        await registry.remove_station("old", "test", NOW_S)
        assert tls.context.minimum_version.name == "TLSv1_3"
        assert told == ["old", "old"], "who was told before is told still"

    asyncio.run(scenario())


@pytest.mark.parametrize("wanted", [True, False])
def test_conformance_is_a_setting_and_off(pki: Pki, tmp_path: Path, wanted: bool) -> None:
    side = _station_side(loaded(tmp_path, "tls_conformance = true\n" if wanted else ""))
    assert side.conformance is wanted
    tls = StationTls(pki.tls_settings(conformance=side.conformance))
    assert (RSA_ONLY in {cipher["name"] for cipher in tls.context.get_ciphers()}) is wanted
    assert tls.context.minimum_version == (ssl.TLSVersion.TLSv1_2 if wanted else ssl.TLSVersion.TLSv1_3)
