"""AT04, identifiers and secrets exposed (CWE-522): an identity opens nothing, files are the owner's alone, and no password,
hash or key is in logs, events or representations."""

import asyncio
import base64
import logging
import re
import stat
from pathlib import Path

import pytest

from gridtide.run.admission import Admitted, Attempt
from gridtide.run.credentials import CredentialError, Credentials, basic_header, provision
from gridtide.run.pki import Pki
from tests.live.csms_server import until
from tests.live.security_rig import knock, secured, small_pki
from tests.live.test_attack_at03 import status_of

CHOSEN = "a-password-an-operator-chose"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return small_pki(tmp_path_factory.mktemp("at04") / "pki", "SN-1")


def secrets_of(passwords: list[str], path: Path) -> set[str]:
    """Everything that must be nowhere else: passwords as they are and as they travel, salts and digests."""
    travelled = [base64.b64encode(f"bay-1:{password}".encode()).decode() for password in passwords]
    return {*passwords, *travelled, *re.findall(rb"[0-9a-f]{32,}".decode(), path.read_text())}


def test_at04_no_secret_reaches_logs_events_or_representations(
    pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, wrong = tmp_path / "stations.json", "guess-that-is-long-enough"
    lines: list[str] = []

    async def scenario() -> set[str]:
        async with secured(pki, None, 2) as (served, ws, _):
            credentials = served.credentials
            credentials.take("bay-2", CHOSEN)
            credentials.save(path)
            old = served.passwords["bay-1"]
            new = credentials.rotate("bay-1")
            for password in (old, new):
                async with knock(f"{ws}/bay-1", user="bay-1", password=password):
                    await until(lambda: served.csms.stations["bay-1"].conversation is not None, "the station")
            async with knock(f"{ws}/bay-2", user="bay-2", password=CHOSEN):
                pass
            for identity in ("bay-1", "bay-7"):
                await status_of(knock(f"{ws}/{identity}", user=identity, password=wrong))
            server = served.listener.server
            lines.extend(text for _, _, text in served.told)
            lines.extend(map(repr, (credentials, vars(credentials), server.guard.knocked(), server.guard.refused)))
            lines.extend(map(repr, (vars(server), vars(server._admission), vars(credentials)["_entries"])))
            lines.extend(map(repr, served.store.events()))
            return secrets_of([old, new, CHOSEN, wrong], path)

    with caplog.at_level(logging.DEBUG):
        secrets = asyncio.run(scenario(), debug=True)
    # What the station's own end of the socket logs is the test's, not the server's.
    ours = [record for record in caplog.records if record.name != "websockets.client"]
    lines.extend(f"{record.getMessage()} {record.exc_text or ''}" for record in ours)
    assert any("bay-7" in line for line in lines), "the scan reads what was told"
    found = {secret for secret in secrets for line in lines if secret in line}
    assert found == set()
    assert len(secrets) > 10


def test_at04_the_scan_would_see_a_library_that_logs_headers(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    """The client's side does log them at DEBUG: so the reading of records above is not blind."""

    async def scenario() -> str:
        async with secured(pki, None, 1) as (served, ws, _):
            async with knock(f"{ws}/bay-1", user="bay-1", password=served.passwords["bay-1"]):
                pass
            return basic_header("bay-1", served.passwords["bay-1"])

    with caplog.at_level(logging.DEBUG):
        header = asyncio.run(scenario())
    assert {record.name for record in caplog.records if header in record.getMessage()} == {"websockets.client"}


def test_at04_what_holds_a_password_does_not_show_it() -> None:
    header = basic_header("bay-1", CHOSEN)
    shown = [
        repr(Admitted("bay-1", 1, CHOSEN)),
        repr(Attempt(path="/bay-1", authorization=(header,), address="x", peer="x")),
    ]
    assert not any(CHOSEN in text or header in text for text in shown)


def test_at04_an_identity_is_no_secret_and_no_key(pki: Pki) -> None:
    async def scenario() -> None:
        async with secured(pki, None, 1) as (_, ws, wss):
            assert ws != wss
            for password in ("bay-1", "", "SN-1", "bay-1bay-1bay-1bay-1"):
                assert await status_of(knock(f"{ws}/bay-1", user="bay-1", password=password)) == 401

    asyncio.run(scenario())


def test_at04_every_secret_file_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "stations.json"
    issued = provision(path, ["bay-1", "bay-2"], {"bay-2": CHOSEN})
    pki = small_pki(tmp_path / "pki", "SN-1")
    pki.renew("station", "SN-1", 1.8e9)
    keys = [one for one in pki.folder.rglob("*") if one.is_file() and b"PRIVATE KEY" in one.read_bytes()]
    assert len(keys) == 3 + 2 + 1
    for one in (path, *keys):
        assert stat.S_IMODE(one.stat().st_mode) == 0o600, one
    for folder in {one.parent for one in keys}:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert not any(word in path.read_text() for word in (*issued.values(), CHOSEN))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o777])
def test_at04_a_password_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "stations.json"
    provision(path, ["bay-1"])
    path.chmod(mode)
    with pytest.raises(CredentialError, match="chmod 600"):
        Credentials.load(path)
