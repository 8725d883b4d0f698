"""AT01, missing authentication of the WebSocket (CWE-306): every path, link and proof but the right one is refused, and nothing
is touched."""

import asyncio
import itertools
import ssl
import time
from functools import partial
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from gridtide.run.credentials import basic_header
from gridtide.run.doors import StationDoor
from gridtide.run.pki import Pki
from tests.live.csms_server import Served, until
from tests.live.security_rig import CUT_OFF, Doors, client_tls, knock, secured, small_pki
from tests.live.test_ocpp_server import everything

STATIONS = ("bay-1", "bay-2", "bay-3", "bay-4", "bay-9")
"""Profiles 1, 2 and 3, one that is switched off, and one that nobody provisioned."""
SERIALS = {"bay-1": "SN-1", "bay-2": "SN-2", "bay-3": "SN-3", "bay-4": "SN-4", "bay-9": "SN-9"}
PATHS = ("ocpp/{}", "{}", "a/b/../c/{}", "ocpp/{}?identity=bay-1", "/{}", "%6Fcpp/{}")
PROOFS = ("nothing", "wrong password", "password of another", "user and password of another", "twice", "right password")
LINKS = ("ws", "wss", "wss, own certificate", "wss, another's certificate", "wss, revoked certificate")


def doors() -> Doors:
    return Doors(
        bay_1=StationDoor(security_profile=1, serial="SN-1"),
        bay_2=StationDoor(security_profile=2, serial="SN-2"),
        bay_3=StationDoor(security_profile=3, serial="SN-3"),
        bay_4=StationDoor(security_profile=2, serial="SN-4", enabled=False),
    )


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = small_pki(tmp_path_factory.mktemp("at01") / "pki", *SERIALS.values(), "SN-OTHER", "SN-GONE")
    made.revoke(time.time(), kind="station", subject="SN-GONE")
    return made


def headers(proof: str, identity: str, passwords: dict[str, str]) -> tuple[str, ...]:
    own = basic_header(identity, passwords.get(identity, "a-password-of-good-length"))
    other = "bay-1" if identity != "bay-1" else "bay-2"
    return {
        "nothing": (),
        "wrong password": (basic_header(identity, "a-password-of-good-length-too"),),
        "password of another": (basic_header(identity, passwords[other]),),
        "user and password of another": (basic_header(other, passwords[other]),),
        "twice": (own, own),
        "right password": (own,),
    }[proof]


def is_right(identity: str, link: str, proof: str) -> bool:
    """The few combinations that may pass, written down apart from the code that decides."""
    if identity == "bay-1":
        return link == "ws" and proof == "right password"
    if identity == "bay-2":
        return link != "ws" and proof == "right password"
    return identity == "bay-3" and link == "wss, own certificate"


def test_at01_every_path_link_and_proof_but_the_right_one_gets_401(pki: Pki) -> None:
    contexts: dict[tuple[str, str], ssl.SSLContext | None] = {}
    for identity in STATIONS:
        contexts[identity, "ws"] = None
        contexts[identity, "wss"] = client_tls(pki)
        contexts[identity, "wss, own certificate"] = client_tls(pki, SERIALS[identity])
        contexts[identity, "wss, another's certificate"] = client_tls(pki, "SN-OTHER")
        contexts[identity, "wss, revoked certificate"] = client_tls(pki, "SN-GONE")

    async def scenario() -> None:
        async with secured(pki, doors(), 4) as (served, ws, wss):
            before = everything(served)
            refused = 0
            for identity, link, proof in itertools.product(STATIONS, LINKS, PROOFS):
                if is_right(identity, link, proof):
                    continue
                tls = contexts[identity, link]
                given = headers(proof, identity, served.passwords)
                for path in PATHS if link in ("ws", "wss") else PATHS[:1]:
                    root = (ws if tls is None else wss).removesuffix("/ocpp")
                    with pytest.raises(InvalidStatus) as refusal:
                        await knock(f"{root}/{path.format(identity)}", tls, headers=given).__aenter__()
                    assert refusal.value.response.status_code == 401, (identity, link, proof, path)
                    assert refusal.value.response.body == b"authentication required\n", "no word about why"
                    refused += 1
            assert served.listener.refused == refused
            assert refused > 400
            assert everything(served) == before, "no state was touched"
            assert served.csms.online == 0

    asyncio.run(scenario())


def is_connected(served: Served, identity: str) -> bool:
    return served.csms.stations[identity].conversation is not None


def any_connected(served: Served) -> bool:
    return any(station.conversation is not None for station in served.csms.stations.values())


def test_at01_the_right_ones_do_pass(pki: Pki) -> None:
    async def scenario() -> None:
        async with secured(pki, doors(), 4) as (served, ws, wss):
            for identity, link, proof in itertools.product(STATIONS, LINKS, PROOFS):
                if not is_right(identity, link, proof):
                    continue
                serial = {"wss, own certificate": SERIALS[identity], "wss, another's certificate": "SN-OTHER",
                          "wss, revoked certificate": "SN-GONE"}.get(link, "")  # fmt: skip
                tls = None if link == "ws" else client_tls(pki, serial)
                given = headers(proof, identity, served.passwords)
                talks = partial(is_connected, served, identity)
                async with knock(f"{ws if tls is None else wss}/{identity}", tls, headers=given):
                    await until(talks, f"{identity} over {link}")
                await until(lambda: not any_connected(served), "its end")
            assert served.listener.refused == 0

    asyncio.run(scenario())


def bad_clients(pki: Pki, foreign: Pki) -> dict[str, ssl.SSLContext]:
    """Clients that TLS itself turns away."""
    pki.issue_station("SN-OLD", time.time() - 500 * 86_400.0)
    outdated = client_tls(pki, newest=ssl.TLSVersion.TLSv1_2)
    weak = client_tls(pki, newest=ssl.TLSVersion.TLSv1_2)
    weak.set_ciphers("AES128-SHA:AES256-SHA:ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-GCM-SHA256")
    ancient = client_tls(pki)
    ancient.set_ciphers("ALL:@SECLEVEL=0")
    # What is refused here has to be offered first.
    ancient.minimum_version, ancient.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    server_as_station = client_tls(pki)
    server_as_station.load_cert_chain(pki.tls_settings().pairs[0].certificate)
    of_foreign = client_tls(pki)
    path = foreign.folder / "stations" / "station-SN-3"
    of_foreign.load_cert_chain(f"{path}.crt", f"{path}.key")
    return {
        "TLS 1.1": ancient, "TLS 1.2 where 1.3 is the minimum": outdated, "bad suite": weak,
        "expired certificate": client_tls(pki, "SN-OLD"), "foreign authority": of_foreign,
        "a server's certificate": server_as_station,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_at01_tls_itself_turns_away_what_no_door_should_see(pki: Pki, tmp_path: Path) -> None:
    clients = bad_clients(pki, small_pki(tmp_path / "foreign", "SN-3"))

    async def scenario() -> None:
        async with secured(pki, doors(), 4) as (served, _, wss):
            before = everything(served)
            for name, tls in clients.items():
                for identity in ("bay-2", "bay-3"):
                    given = headers("right password", identity, served.passwords)
                    with pytest.raises(CUT_OFF) as refusal:
                        await knock(f"{wss}/{identity}", tls, headers=given).__aenter__()
                    assert not isinstance(refusal.value, InvalidStatus), f"{name} reached the door"
            assert everything(served) == before
            async with knock(f"{wss}/bay-3", client_tls(pki, "SN-3")):
                await until(lambda: served.csms.stations["bay-3"].conversation is not None, "the good one")

    asyncio.run(scenario())


def test_at01_a_station_below_its_own_tls_minimum_is_refused(pki: Pki) -> None:
    ways = Doors(bay_1=StationDoor(tls_min="1.3"), bay_2=StationDoor(tls_min="1.2"))

    async def scenario() -> None:
        async with secured(pki, ways, 2, minimum="1.2") as (served, _, wss):
            tls = client_tls(pki, newest=ssl.TLSVersion.TLSv1_2)
            with pytest.raises(InvalidStatus, match="401"):
                await knock(f"{wss}/bay-1", tls, user="bay-1", password=served.passwords["bay-1"]).__aenter__()
            async with knock(f"{wss}/bay-2", tls, user="bay-2", password=served.passwords["bay-2"]) as socket:
                assert socket.transport.get_extra_info("ssl_object").version() == "TLSv1.2"
            assert [text for code, _, text in served.told if code == "security" and "TLS version too old" in text]

    asyncio.run(scenario())


def test_at01_a_silent_connection_takes_nobodys_place(pki: Pki) -> None:
    """Sockets that never send a request are bounded: the oldest is cut off, a station still gets in."""

    async def scenario() -> None:
        async with secured(pki, None, 1) as (served, ws, _):
            served.listener.server._max_arriving = 5
            port = served.listener.server.port
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
            assert await asyncio.wait_for(silent[0][0].read(), 5.0) == b"", "the one that waits longest is cut off"
            async with knock(f"{ws}/bay-1", user="bay-1", password=served.passwords["bay-1"]):
                await until(lambda: served.csms.stations["bay-1"].conversation is not None, "the station")
            for _, writer in silent:
                writer.close()

    asyncio.run(scenario())
