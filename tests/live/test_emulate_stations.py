"""`gridtide emulate stations` as a process against a CSMS on a real socket, with and without a password, and on TLS."""

import asyncio
import base64
import json
import ssl
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection, serve

from gridtide.run.clock import WallClock
from gridtide.run.conversation import Conversation
from gridtide.run.websocket import WebSocketLink
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.actions import Version
from gridtide.wire.ocpp.events import CallReceived
from gridtide.wire.ocpp.session import Session
from gridtide.wire.ocpp.structs import WireStruct
from tests.day.raw_csms import friendly

LIMIT_W = 3000.0
SECRET = "a-shared-password-1"


class Peer:
    """A CSMS on a free port that gives every station a default profile and counts what it hears."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.heard: Counter[str] = Counter()
        self.logins: set[tuple[str, str] | None] = set()
        self.names: set[str] = set()
        self.watts: list[float] = []
        self._tls, self._ids = tls, count(1)

    async def _serve(self, socket: ServerConnection) -> None:
        request = socket.request
        assert request is not None
        self.logins.add(_login(request.headers.get("Authorization")))
        self.names.add(_peer_name(socket))
        version: Version = "2.0.1" if socket.subprotocol == "ocpp2.0.1" else "2.1"
        session = Session("csms", version, lambda: f"c{next(self._ids)}")

        def on_call(call: CallReceived) -> WireStruct:
            self.heard[call.action] += 1
            if call.action == "BootNotification":
                asyncio.get_running_loop().call_soon(give_profile)
            for value in getattr(call.payload, "meterValue", None) or ():
                self.watts += [s.value for s in value.sampledValue if s.measurand == "Power.Active.Import"]
            return msgspec.convert(friendly(call.action, {}), codec.payload_type(version, call.action, "response"))

        def give_profile() -> None:
            period = {"startPeriod": 0, "limit": LIMIT_W}
            schedule = {"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": [period]}
            told = {
                "id": 1, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Relative",
                "chargingSchedule": [schedule],
            }  # fmt: skip
            kind = codec.payload_type(version, "SetChargingProfile", "request")
            request = msgspec.convert({"evseId": 0, "chargingProfile": told}, kind)
            talk.post("SetChargingProfile", request, lambda _outcome: None)

        talk = Conversation(session, WebSocketLink(socket), WallClock(), on_call)
        await talk.run()

    async def against(self, *options: str, seconds: int = 3, **environment: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, summary and error text of a fleet that runs against this peer for a few seconds."""
        async with serve(
            self._serve, "127.0.0.1", 0, ssl=self._tls, compression=None,
            subprotocols=["ocpp2.1", "ocpp2.0.1"],  # type: ignore[list-item]
        ) as server:  # fmt: skip
            port = next(iter(server.sockets)).getsockname()[1]
            url = f"{'wss' if self._tls else 'ws'}://127.0.0.1:{port}/ocpp"
            words = [
                "emulate",
                "stations",
                "--csms",
                url,
                "--exit-after",
                str(seconds),
                "--ramp",
                "1000",
                "--json",
                *options,
            ]
            fleet = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gridtide.app.cli", *words, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE, env={"PATH": "", **environment},
            )  # fmt: skip
            out, err = await fleet.communicate()
        return fleet.returncode or 0, json.loads(out or b"{}"), err.decode()


def _login(header: str | None) -> tuple[str, str] | None:
    """Identity and password of a Basic header."""
    if header is None:
        return None
    identity, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    return identity, password


def _peer_name(socket: ServerConnection) -> str:
    tls = socket.transport.get_extra_info("ssl_object")
    found = None if tls is None else tls.getpeercert()
    parts = [] if not found else [value for group in found["subject"] for name, value in group if name == "commonName"]
    return parts[0] if parts else ""


def test_a_fleet_boots_charges_and_obeys_without_a_password() -> None:
    peer = Peer()
    fast = ("--profile", "0", "--count", "12", "--model", "fast", "--meter-period", "1", "--processes", "2")
    code, told, words = asyncio.run(peer.against(*fast, "--version", "2.0.1", "--fallback-kw", "9", seconds=9))
    assert code == 0, words
    assert told["accepted"] == told["most_accepted"] == told["stations"] == 12
    assert told["transactions"] > 0
    assert peer.logins == {None}, "profile 0 shows no password"
    assert peer.heard["BootNotification"] == 12
    assert max(peer.watts) == pytest.approx(LIMIT_W, abs=5.0), "it follows the profile, not its own wish"


def test_a_fleet_proves_itself_by_its_passwords() -> None:
    peer = Peer()
    options = ("--profile", "1", "--count", "3", "--password-env", "FLEET_SECRET", "--fault", "duplicates=1")
    code, told, words = asyncio.run(peer.against(*options, seconds=6, FLEET_SECRET=SECRET))
    assert code == 0, words
    assert peer.logins == {(f"EMU-{number:05d}", SECRET) for number in (1, 2, 3)}
    assert told["errors"] > 0, "ids used twice are refused, and counted"
    assert SECRET not in words


class Files:
    """A small authority: a server certificate for this machine and one for each station."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        self.write("ca", self._name, self._key, is_root=True)

    def write(self, name: str, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_root: bool = False) -> None:
        now = datetime.now(UTC)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        made = made.not_valid_after(now + timedelta(days=1))
        made = made.add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        made = made.add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        pem = made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (self.folder / f"{name}.crt").write_bytes(pem)
        secret = self.folder / f"{name}.key"
        secret.touch(mode=0o600)
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )  # fmt: skip

    def leaf(self, name: str) -> None:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.write(name, subject, ec.generate_private_key(ec.SECP256R1()))

    def server(self, *, asks: bool) -> ssl.SSLContext:
        self.leaf("server")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.crt", self.folder / "server.key")
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.folder / "ca.crt")
        return context


def test_a_fleet_on_tls_and_with_certificates_of_its_own(tmp_path: Path) -> None:
    files = Files(tmp_path)
    for name in ("EMU-00001", "EMU-00002"):
        files.leaf(name)
    ca = ("--count", "2", "--ca", str(tmp_path / "ca.crt"))
    peer = Peer(files.server(asks=False))
    code, _, words = asyncio.run(peer.against("--profile", "2", "--password-env", "S", *ca, S=SECRET))
    assert code == 0, words
    assert ("EMU-00002", SECRET) in peer.logins
    proved = Peer(files.server(asks=True))
    code, _, words = asyncio.run(proved.against("--profile", "3", "--certificates", str(tmp_path), *ca))
    assert code == 0, words
    assert proved.names == {"EMU-00001", "EMU-00002"}
    assert proved.logins == {None}


def test_a_csms_that_is_signed_by_nobody_known_is_not_spoken_to(tmp_path: Path) -> None:
    peer = Peer(Files(tmp_path).server(asks=False))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Files(elsewhere)
    options = ("--profile", "2", "--password-env", "S", "--count", "1", "--ca", str(elsewhere / "ca.crt"))
    code, told, _ = asyncio.run(peer.against(*options, S=SECRET))
    assert code == 1
    assert told["connected"] == 0
    assert told["errors"] > 0
    assert not peer.logins
