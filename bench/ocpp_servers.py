"""The servers under load, each in a process of its own: ours, a raw echo on the same library, and PyPI `ocpp`.

Says `{"port": ...}` when it listens; then answers commands on its standard input, one JSON line each.
"""

import argparse
import asyncio
import json
import logging
import os
import ssl
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import uvloop
from ocpp_load import SERVER_CORE, keep_to, percentile, raise_file_limit
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

ECHO_ANSWER = '[3,"t123456",{"currentTime":"2026-01-01T00:00:00.000000Z"}]'
CONTROLLED = 150
"""Rows of the control cycle that runs beside."""
SUBPROTOCOL = [Subprotocol("ocpp2.1")]


def identity(row: int) -> str:
    """Name of a load station."""
    return f"load-{row:05d}"


def say(**facts: object) -> None:
    """One line for the parent."""
    print(json.dumps(facts), flush=True)


async def echo(_args: argparse.Namespace) -> None:
    """Receive, answer fixed JSON; nothing else."""

    async def answer(socket: ServerConnection) -> None:
        async for _message in socket:
            await socket.send(ECHO_ANSWER)

    async with serve(answer, "127.0.0.1", 0, subprotocols=SUBPROTOCOL, compression=None) as server:
        say(port=server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def foreign(_args: argparse.Namespace) -> None:
    """A server as the documentation of PyPI `ocpp` shows it: no store, no logic."""
    from ocpp.routing import on
    from ocpp.v21 import ChargePoint, call_result

    logging.getLogger("ocpp").setLevel(logging.ERROR)

    def now() -> str:
        return datetime.now(UTC).isoformat()

    class Server(ChargePoint):  # type: ignore[misc]
        @on("BootNotification")  # type: ignore[untyped-decorator]
        def on_boot(self, **_fields: Any) -> Any:
            return call_result.BootNotification(current_time=now(), interval=300, status="Accepted")

        @on("Heartbeat")  # type: ignore[untyped-decorator]
        def on_heartbeat(self) -> Any:
            return call_result.Heartbeat(current_time=now())

        @on("TransactionEvent")  # type: ignore[untyped-decorator]
        def on_transaction(self, **_fields: Any) -> Any:
            return call_result.TransactionEvent()

    async def answer(socket: ServerConnection) -> None:
        await Server("load", socket).start()

    async with serve(answer, "127.0.0.1", 0, subprotocols=SUBPROTOCOL, compression=None) as server:
        say(port=server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def fleet(n: int) -> Any:
    """`n` equal bidirectional 11 kW bays, one a station."""
    from gridtide.model.fleet import EvseTable

    rated = np.full(n, 11.0)
    return EvseTable(
        ids=tuple(identity(row) for row in range(n)), charge_kw=rated, discharge_kw=rated, least_kw=np.full(n, 1.4),
        step_kw=np.zeros(n), ramp_kw_per_s=rated, hold_s=np.full(n, 60.0), efficiency=np.full(n, 0.94),
        fallback_kw=np.zeros(n), phase_share=np.full((n, 3), 1.0 / 3.0), group=np.full(n, -1),
        storage=np.zeros(n, dtype=np.bool_),
    )  # fmt: skip


class Ours:
    """The CSMS with its durable store, as a site runs it, without the site."""

    def __init__(self, args: argparse.Namespace) -> None:
        from gridtide.run.assembly import VERSIONS, ids
        from gridtide.run.clock import WallClock
        from gridtide.run.csms.evidence import EvidenceBoard
        from gridtide.run.csms.service import Csms
        from gridtide.run.csms.station import Provision
        from gridtide.run.ocpp_server import Greeting, OcppServer
        from gridtide.run.store import SqliteStore
        from gridtide.run.websocket import WebSocketLink

        self.begun_s = time.monotonic()
        folder, n = Path(args.folder), args.stations
        self.clock = WallClock()
        self.table = fleet(n)
        self.board = EvidenceBoard(self.table)
        self.store = SqliteStore.open(folder / "store.db", self.clock.wall())
        provisions = [Provision(identity=identity(row), rows={1: row}, dialect="v21_setpoint") for row in range(n)]
        prefix = f"c{os.getpid()}-"
        self.csms = Csms(self.table, provisions, self.board, self.store, self.clock, ids(prefix), lease_s=5.0)
        self.csms.tell(lambda _code, _source, _text: None)
        self._ticks = bool(args.tick)
        self._late_ms: list[float] = []
        """From the scheduled instant of each control cycle to its end."""

        async def on_link(greeting: Greeting, link: WebSocketLink) -> None:
            await self.csms.serve(greeting.identity, VERSIONS[greeting.version], link)

        self.server = OcppServer(
            _credentials(folder, n), on_link, lambda _identity, _peer: None, host="127.0.0.1", port=args.port,
            tls=_tls(folder) if args.tls else None,
        )  # fmt: skip

    async def run(self) -> None:
        """Serve until standard input ends."""
        from gridtide.run.garbage import keep_pauses_short

        ticks = asyncio.gather(self.csms.tick_forever(), *([self._control()] if self._ticks else []))
        await self.server.start()
        keep_pauses_short()
        say(port=self.server.port, started_s=round(time.monotonic() - self.begun_s, 3))
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            say(**await self._obey(line.split()))
        ticks.cancel()

    async def _obey(self, words: list[str]) -> dict[str, object]:
        match words:
            case ["state"]:
                return {"online": self.csms.online, "open": len(self.store.open_transactions())}
            case ["apply", power_kw]:
                return self._apply(float(power_kw))
            case ["ticks"]:
                late_ms, self._late_ms = self._late_ms, []
                return {"count": len(late_ms), "p99_ms": percentile(late_ms, 0.99), "max_ms": max(late_ms, default=0.0)}
            case _:
                return {"error": f"unknown command {words}"}

    async def _control(self) -> None:
        """A real control cycle of `CONTROLLED` rows every 500 ms, and how late each one was done."""
        from gridtide.control import site
        from gridtide.model.decision import MeterSample, Snapshot
        from gridtide.model.fleet import SiteLimits
        from gridtide.run.csms.evidence import EvidenceBoard

        settings = site.Settings(table=fleet(CONTROLLED), limits=SiteLimits(transformer_kw=1000.0))
        state, board = site.fresh(settings), EvidenceBoard(settings.table)
        board.connected[:], board.heard_s[:], board.power_kw[:] = True, self.clock.monotonic(), 7.4
        due_s = self.clock.monotonic()
        while True:
            due_s += settings.cycle_s
            await self.clock.sleep_until(due_s)
            now_s = self.clock.monotonic()
            meter = MeterSample(now_s, 500.0 + now_s % 1.0)
            snapshot = Snapshot(mono_s=now_s, now_s=self.clock.wall(), meter=meter, fleet=board.sample(now_s))
            state, _ = site.step(state, snapshot, settings)
            self._late_ms.append(1e3 * (self.clock.monotonic() - due_s))

    def _apply(self, power_kw: float) -> dict[str, object]:
        from gridtide.model.decision import Decision

        n = self.table.size
        wish = np.full(n, power_kw)
        decision = Decision(setpoint_kw=wish, reason=np.zeros(n, dtype=np.uint8), wish_kw=wish, lease_s=5.0, state="ok")
        begun_s = time.monotonic()
        self.csms.apply(decision)
        return {"begun_s": begun_s, "spent_ms": 1e3 * (time.monotonic() - begun_s)}


def _credentials(folder: Path, n: int) -> Any:
    from gridtide.run.credentials import Credentials

    kept = folder / "credentials"
    if kept.exists():
        return Credentials.load(kept)
    made = Credentials()
    passwords = {identity(row): made.issue(identity(row)) for row in range(n)}
    made.save(kept)
    (folder / "passwords.json").touch(mode=0o600)
    (folder / "passwords.json").write_text(json.dumps(passwords))
    return made


def _tls(folder: Path) -> ssl.SSLContext:
    """A server context with a throwaway certificate for localhost, left in `folder` for the stations."""
    from datetime import timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    chain, secret = folder / "server.pem", folder / "server.key"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.touch(mode=0o600)
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, secret)
    return context


async def ours(args: argparse.Namespace) -> None:
    """Our CSMS."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    await Ours(args).run()


def main() -> int:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("ours", "echo", "ocpp"))
    parser.add_argument("--folder", required=True)
    parser.add_argument("--stations", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", type=int, default=0)
    parser.add_argument("--tick", type=int, default=0, help="1: run control cycles beside")
    parser.add_argument("--profile", default="", help="write a cProfile of the whole run to this file")
    args = parser.parse_args()
    # The load generator cuts its links when it is done; that is no news.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    raise_file_limit(args.stations)
    keep_to(SERVER_CORE)
    main_coroutine = {"ours": ours, "echo": echo, "ocpp": foreign}[args.kind]
    if args.profile:
        import cProfile

        profile = cProfile.Profile()
        profile.runcall(uvloop.run, main_coroutine(args))
        profile.dump_stats(args.profile)
    else:
        uvloop.run(main_coroutine(args))
    return 0


if __name__ == "__main__":
    sys.exit(main())
