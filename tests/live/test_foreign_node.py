"""Somebody else's strict station: npm `ocpp-rpc` checks every frame by its own schemas, and we by the official ones."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from gridtide.run.pki import Pki
from gridtide.wire.ocpp.actions import Version
from tests.live.csms_server import LIVE_LIMIT_S, PROFILES, SecurityProfile, Served, provision, serving, until
from tests.live.foreign_story import CONSENT, TRANSFER, asked, check_stored
from tests.live.recorded_frames import RecordedFrames

HERE = Path(__file__).parent / "ocpp_rpc"
INSTALL_LIMIT_S = 120.0


@pytest.fixture(scope="module")
def station_folder() -> Path:
    """A folder with the script and its locked packages, made once per lock file; skips where that cannot be done."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    digest = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"gridtide-ocpp-rpc-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        # Test processes run side by side; one installs, the others wait for it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in ("package.json", "package-lock.json", "station.js"):
            shutil.copy(HERE / name, folder / name)
        if not (folder / "installed").exists():
            install = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            try:
                done = subprocess.run(install, cwd=folder, capture_output=True, check=False, timeout=INSTALL_LIMIT_S)
            except subprocess.TimeoutExpired:
                pytest.skip("npm could not install ocpp-rpc in time")
            if done.returncode:
                pytest.skip(f"npm could not install ocpp-rpc: {done.stderr.decode(errors='replace')[-200:]}")
            (folder / "installed").touch()
    return folder


def test_the_lock_names_no_registry() -> None:
    lock = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages["node_modules/ocpp-rpc"]["version"] == "2.2.1"
    for entry in packages.values():
        assert "resolved" not in entry
        assert entry["integrity"].startswith("sha512-")


async def told(process: asyncio.subprocess.Process, record: RecordedFrames, lines: list[dict[str, Any]]) -> None:
    """Read what the station writes until it ends."""
    assert process.stdout is not None
    async for line in process.stdout:
        item = json.loads(line)
        if "frame" in item:
            record.frames.append((item["from"], item["frame"]))
        else:
            lines.append(item)


def powers_w(profiles: list[dict[str, Any]]) -> list[float]:
    """What each profile asks for, W: the setpoint, or the limit."""
    periods = [item["chargingSchedule"][0]["chargingSchedulePeriod"][0] for item in profiles]
    return [period.get("setpoint", period.get("limit")) for period in periods]


def taken_w(record: RecordedFrames) -> list[float]:
    """Powers of the profiles that the station accepted so far, W; the default profile's is the first."""
    accepted = {
        frame[1] for side, frame in record.frames if (side, frame[0]) == ("station", 3) and frame[2].get("status") == "Accepted"
    }  # fmt: skip
    sent = [frame for side, frame in record.frames if (side, *frame[:1], frame[2]) == ("csms", 2, "SetChargingProfile")]
    return powers_w([frame[3]["chargingProfile"] for frame in sent if frame[1] in accepted])


async def takes(record: RecordedFrames, lines: list[dict[str, Any]], power_kw: float) -> None:
    await until(lambda: lines or taken_w(record)[-1] == 1000.0 * power_kw, f"an accepted profile of {power_kw} kW")


@asynccontextmanager
async def running(folder: Path, config: dict[str, Any]) -> AsyncIterator[asyncio.subprocess.Process]:
    """The station's process; it does not outlive the body."""
    process = await asyncio.create_subprocess_exec(
        "node", "station.js", json.dumps(config), cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def strict(
    folder: Path, served: Served, version: Version
) -> AsyncIterator[tuple[RecordedFrames, list[dict[str, Any]]]]:
    """`bay-1` as a process of its own: its frames and, besides, what it tells; in the end it must have ended in peace."""
    door, record = served.connect("bay-1"), RecordedFrames()
    lines: list[dict[str, Any]] = []
    config = {
        "url": door.url, "identity": "bay-1", "password": door.password, "version": version, "tls": door.files,
        "transfer": TRANSFER[version],
    }  # fmt: skip
    async with running(folder, config) as process:
        reading = asyncio.ensure_future(told(process, record, lines))
        yield record, lines
        assert await process.wait() == 0, lines
        await reading


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
def test_boot_authorise_transaction_profile_composite_stop(
    station_folder: Path, version: Version, profile: SecurityProfile, station_pki: Pki
) -> None:
    async def scenario() -> None:
        async with serving(provision(0, **CONSENT[version]), profile=profile, pki=station_pki) as served:
            async with strict(station_folder, served, version) as (record, lines):
                # What ends early has told why.
                await until(lambda: lines or record.said("station").count("Heartbeat"), "the station's Heartbeat")
                await until(lambda: lines or served.board.may_discharge[0], "consent to discharge")
                for power_kw in (7.4, -4.0, 5.0):
                    served.set_power(power_kw)
                    await takes(record, lines, power_kw)
                assert lines == []
                composite = await asked(served, "GetCompositeSchedule", {"duration": 60, "evseId": 1})
                assert composite["status"] == "Accepted"
                assert [period["limit"] for period in composite["schedule"]["chargingSchedulePeriod"]] == [5_000.0]
                answer = await asked(served, "RequestStopTransaction", {"transactionId": "foreign-1"})
                assert answer == {"status": "Accepted"}
            finished(version, record, lines)
            assert not served.board.connected[0]
            check_stored(served)

    asyncio.run(scenario())


def finished(version: Version, record: RecordedFrames, lines: list[dict[str, Any]]) -> None:
    """The station saw the whole story; neither its strict mode nor the official schemas had anything to say."""
    (end,) = lines
    assert end["done"]
    assert (end["protocol"], end["boot"], end["token"]) == (f"ocpp{version}", "Accepted", "Accepted")
    assert (end["needs"], end["transaction"]) == ("Accepted", "foreign-1")
    assert end["profiles"][0]["chargingProfilePurpose"] == "TxDefaultProfile"
    leases = [item for item in end["profiles"] if item["chargingProfilePurpose"] == "TxProfile"]
    assert powers_w(leases) == [7_400.0, -4_000.0, 5_000.0]
    assert {item["transactionId"] for item in leases} == {"foreign-1"}
    assert record.check(version) >= 20
    assert (record.unanswered("station"), record.unanswered("csms")) == ([], [])
    assert record.said("station") == [
        "BootNotification", "StatusNotification", "Authorize", "TransactionEvent", "NotifyEVChargingNeeds",
        "TransactionEvent", "Heartbeat", "TransactionEvent",
    ]  # fmt: skip
    assert {"SetVariables", "SetChargingProfile", "GetCompositeSchedule", "RequestStopTransaction"} <= set(
        record.said("csms")
    )


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
def test_its_strict_mode_does_look(station_folder: Path, version: Version) -> None:
    """Without this, schemas that are never found or never asked would pass every frame."""

    async def answer(socket: ServerConnection) -> None:
        boot = json.loads(await socket.recv())
        await socket.send(
            json.dumps([3, boot[1], {"currentTime": "2026-01-01T00:00:00Z", "interval": 300, "status": "Fine"}])
        )
        await socket.wait_closed()

    async def scenario() -> None:
        async with serve(answer, "127.0.0.1", 0, subprotocols=[Subprotocol(f"ocpp{version}")]) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            config = {"url": f"ws://127.0.0.1:{port}", "identity": "bay-1", "version": version, "transfer": "DC"}
            async with asyncio.timeout(LIVE_LIMIT_S), running(station_folder, config) as process:
                written, _ = await process.communicate()
        assert process.returncode
        lines = [json.loads(line) for line in written.splitlines()]
        failures = [line["failure"] for line in lines if "failure" in line]
        assert "csms BootNotification" in failures[0]
        assert "allowed values" in failures[0]

    asyncio.run(scenario())
