"""Somebody else's strict station: npm `ocpp-rpc` checks every frame by its schemas (2.0.1), and we by the official ones."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.codec import payload_type
from gridtide.wire.ocpp.events import CallAnswered
from tests.live.csms_server import PROFILES, SecurityProfile, Served, provision, serving, until
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


async def asked(served: Served, action: str, payload: dict[str, Any]) -> Any:
    """What the station answers to a call of the CSMS."""
    station = served.csms.stations["bay-1"]
    assert station.conversation is not None
    request = msgspec.convert(payload, payload_type(station.version, action, "request"))
    outcome = await station.conversation.call(action, request)
    assert isinstance(outcome, CallAnswered), outcome
    return outcome.payload


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
def test_boot_authorise_transaction_profile_composite_stop(
    station_folder: Path, version: Version, profile: SecurityProfile
) -> None:
    async def scenario() -> None:
        async with serving(provision(0), profile=profile) as served:
            door, record = served.connect("bay-1"), RecordedFrames()
            lines: list[dict[str, Any]] = []
            config = {
                "url": door.url,
                "identity": "bay-1",
                "password": door.password,
                "version": version,
                "tls": door.files,
            }
            process = await asyncio.create_subprocess_exec(
                "node", "station.js", json.dumps(config), cwd=station_folder, stdout=asyncio.subprocess.PIPE
            )
            reading = asyncio.ensure_future(told(process, record, lines))
            try:
                await until(lambda: lines or record.said("station").count("Heartbeat"), "the station's Heartbeat")
                await until(lambda: "SetChargingProfile" in record.said("csms"), "the default profile")
                served.set_power(7.4)
                await until(lambda: record.said("csms").count("SetChargingProfile") >= 2, "the setpoint")
                composite = await asked(served, "GetCompositeSchedule", {"duration": 60, "evseId": 1})
                assert composite.status == "Accepted"
                assert [period.limit for period in composite.schedule.chargingSchedulePeriod] == [7_400.0]
                await asked(served, "RequestStopTransaction", {"transactionId": "foreign-1"})
                assert await process.wait() == 0, lines
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                await reading
            finished(served, version, record, lines)

    asyncio.run(scenario())


def finished(served: Served, version: Version, record: RecordedFrames, lines: list[dict[str, Any]]) -> None:
    """The station saw the whole story; neither its strict mode nor the official schemas had anything to say."""
    (end,) = lines
    assert end["done"]
    assert (end["protocol"], end["boot"], end["token"]) == (f"ocpp{version}", "Accepted", "Accepted")
    assert end["transaction"] == "foreign-1"
    assert [item["chargingProfilePurpose"] for item in end["profiles"][:2]] == ["TxDefaultProfile", "TxProfile"]
    assert record.check(version) >= 20
    assert record.said("station") == [
        "BootNotification", "StatusNotification", "Authorize", "TransactionEvent", "TransactionEvent", "Heartbeat",
        "TransactionEvent",
    ]  # fmt: skip
    assert {"SetVariables", "SetChargingProfile", "GetCompositeSchedule", "RequestStopTransaction"} <= set(
        record.said("csms")
    )
    kept = served.store.transaction_events("bay-1", "foreign-1")
    assert [(item.seq_no, item.event_type) for item in kept] == [(0, "Started"), (1, "Updated"), (2, "Ended")]
    assert served.store.open_transactions() == ()
