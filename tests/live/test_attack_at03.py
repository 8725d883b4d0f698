"""AT03, no limit on logins (CWE-307): guessing runs into budgets, costs no scrypt, and delays no good station."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from gridtide.run import credentials as credentials_module
from gridtide.run import password_hash
from gridtide.run.credentials import Credentials
from gridtide.run.doors import StationDoor
from gridtide.run.login_guard import GuardLimits
from gridtide.run.pki import Pki
from tests.live.csms_server import Served, until
from tests.live.security_rig import Doors, client_tls, knock, secured, small_pki

ROOT = Path(__file__).resolve().parents[2]
GUESSES, AT_ONCE = 4_000, 100
MOST_BEFORE = 5 * AT_ONCE
"""So many guesses may be answered while a good station connects: those that wait at every step of the way, and no backlog. In
guesses and not in seconds, so that it holds on any machine; seconds are what `bench/logins.py` measures."""


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return small_pki(tmp_path_factory.mktemp("at03") / "pki", "SN-1")


async def status_of(way: knock) -> int:  # type: ignore[valid-type]
    with pytest.raises(InvalidStatus) as refusal:
        await way.__aenter__()  # type: ignore[attr-defined]
    return refusal.value.response.status_code


async def guesses_before(served: Served, url: str, identity: str, while_running: "asyncio.Task[object]") -> list[int]:
    """How many guesses were answered during connect after connect of a good station."""
    before = []
    while not while_running.done():
        began = served.listener.refused
        async with knock(f"{url}/{identity}", user=identity, password=served.passwords[identity]):
            before.append(served.listener.refused - began)
        await asyncio.sleep(0.02)
    return before


def test_at03_a_flood_of_bad_logins_delays_no_good_station(pki: Pki) -> None:
    async def scenario() -> None:
        async with secured(pki, None, 2, limits=GuardLimits()) as (served, ws, _):
            chosen = "a-password-an-operator-chose"
            served.credentials.take("bay-2", chosen)
            served.passwords["bay-2"] = chosen
            port = served.listener.server.port
            attacker = await asyncio.create_subprocess_exec(
                sys.executable, str(ROOT / "bench" / "logins.py"), "--guess", str(port), str(GUESSES), str(AT_ONCE), "bay-1",
                "bay-2", stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            over = asyncio.ensure_future(attacker.communicate())
            await until(lambda: served.listener.refused > 100, "the flood")
            before = await guesses_before(served, ws, "bay-1", over)
            answers: dict[str, int] = json.loads((await over)[0])
            assert sum(answers.values()) == GUESSES, answers
            assert answers["429"] > 100 * answers["401"] / 4, "beyond the budget: 429"
            assert set(answers) <= {"401", "429", "cut off"}
            assert len(before) >= (GUESSES - 100) / (MOST_BEFORE + AT_ONCE)
            assert max(before) <= MOST_BEFORE

    asyncio.run(scenario())


def test_at03_beyond_its_budget_a_stranger_gets_429_and_the_good_one_behind_the_same_address_gets_in(pki: Pki) -> None:
    doors = Doors(bay_1=StationDoor(security_profile=1), bay_2=StationDoor(security_profile=3, serial="SN-1"))
    limits = GuardLimits(address_failures=5, address_failures_per_s=1e-9)

    async def scenario() -> None:
        async with secured(pki, doors, 2, limits=limits) as (served, ws, wss):
            seen = [await status_of(knock(f"{ws}/bay-1", user="bay-1", password=f"guess-{n:016d}")) for n in range(9)]
            assert seen == [401] * 5 + [429] * 4
            assert await status_of(knock(f"{ws}/stranger", user="stranger", password="x" * 20)) == 429
            assert served.listener.guard.knocked() == (), "nobody over budget fills the operator's list"
            for url, tls, given in (
                (ws, None, {"user": "bay-1", "password": served.passwords["bay-1"]}),
                (wss, client_tls(pki, "SN-1"), {}),
            ):
                identity = "bay-1" if tls is None else "bay-2"
                async with knock(f"{url}/{identity}", tls, **given):  # type: ignore[arg-type]
                    pass

    asyncio.run(scenario())


def test_at03_guessing_a_chosen_password_costs_a_bounded_number_of_scrypts(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = 0
    real = password_hash.digest_of

    def counted(scheme: str, salt: str, password: str) -> str:
        nonlocal runs
        runs += scheme == "scrypt"
        return real(scheme, salt, password)

    async def scenario() -> None:
        nonlocal runs
        limits = GuardLimits(address_failures=3, address_failures_per_s=1e-9)
        async with secured(pki, None, 1, limits=limits) as (served, ws, _):
            chosen = "a-password-an-operator-chose"
            served.credentials.take("bay-1", chosen)
            monkeypatch.setattr(password_hash, "digest_of", counted)
            async with knock(f"{ws}/bay-1", user="bay-1", password=chosen):
                assert runs == 1
            async with knock(f"{ws}/bay-1", user="bay-1", password=chosen):
                assert runs == 1, "what was right is remembered"
            for number in range(20):
                await status_of(knock(f"{ws}/bay-1", user="bay-1", password=f"guess-{number:016d}"))
            assert runs == 1 + 3
            async with knock(f"{ws}/bay-1", user="bay-1", password=chosen):
                assert runs == 4, "the good one is let in from memory"

    asyncio.run(scenario())


def test_at03_scrypt_never_runs_in_the_loop_and_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials_module, "MAX_SLOW_CHECKS", 4)

    async def scenario() -> None:
        credentials = Credentials()
        credentials.take("bay-1", "a-password-an-operator-chose")
        turns = 0

        async def loop_is_free() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        free = asyncio.ensure_future(loop_is_free())
        asked = [
            credentials.check("bay-1", f"guess-number-{n:05d}") for n in range(credentials_module.MAX_SLOW_CHECKS + 5)
        ]
        verdicts = await asyncio.gather(*asked, return_exceptions=True)
        free.cancel()
        assert sum(isinstance(one, credentials_module.TooBusyError) for one in verdicts) == 5
        assert not any(one is True for one in verdicts)
        assert turns > 100, "the loop turned while scrypt ran"

    asyncio.run(scenario())


def test_at03_a_station_that_reconnects_without_end_is_slowed_down_alone(pki: Pki) -> None:
    limits = GuardLimits(identity_connects=4, identity_connects_per_s=1e-9)

    async def scenario() -> None:
        async with secured(pki, None, 2, limits=limits) as (served, ws, _):
            right = served.passwords["bay-1"]
            for _ in range(4):
                async with knock(f"{ws}/bay-1", user="bay-1", password=right):
                    pass
            with pytest.raises(InvalidStatus, match="429") as refusal:
                await knock(f"{ws}/bay-1", user="bay-1", password=right).__aenter__()
            assert int(refusal.value.response.headers["Retry-After"]) > 0
            async with knock(f"{ws}/bay-2", user="bay-2", password=served.passwords["bay-2"]):
                pass

    asyncio.run(scenario())
