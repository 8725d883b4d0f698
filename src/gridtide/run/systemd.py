"""What a service tells systemd, over the datagram socket named in its environment (sd_notify(3)); without one nothing is told."""

import socket
from collections.abc import Mapping

import structlog
from msgspec import Struct

FEEDS_PER_TIMEOUT = 3.0
STATUS_CHARS = 200
log = structlog.get_logger(__name__)


class Supervision(Struct, frozen=True):
    """What the supervisor asks for."""

    address: str = ""
    """Path of the socket, or `@` and a name in the abstract namespace; empty: nobody listens."""
    watchdog_s: float | None = None
    """The service is restarted when it is not fed for this long."""

    @classmethod
    def of(cls, environment: Mapping[str, str], pid: int) -> "Supervision":
        """From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; what cannot be meant counts as absent."""
        address = environment.get("NOTIFY_SOCKET", "")
        usec, meant = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(pid))
        is_ours = usec.isascii() and usec.isdigit() and int(usec) > 0 and meant == str(pid)
        return cls(address if address[:1] in ("/", "@") else "", int(usec) / 1e6 if is_ours else None)

    @property
    def feed_s(self) -> float | None:
        """How often the watchdog is to be fed, s."""
        return None if self.watchdog_s is None or not self.address else self.watchdog_s / FEEDS_PER_TIMEOUT


class Notifier:
    """Sends notifications; a supervisor that does not listen delays and ends nothing."""

    def __init__(self, supervision: Supervision) -> None:
        self.supervision = supervision
        address = supervision.address
        self._to = "\0" + address[1:] if address.startswith("@") else address
        self._has_failed = False

    def ready(self) -> None:
        """The site controls."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The site is on its way out."""
        self._send("STOPPING=1")

    def alive(self, status: str) -> None:
        """Feed the watchdog; `status` is the line that `systemctl status` shows."""
        line = " ".join(status.split())[:STATUS_CHARS]
        self._send(f"WATCHDOG=1\nSTATUS={line}" if self.supervision.watchdog_s is not None else f"STATUS={line}")

    def _send(self, words: str) -> None:
        if not self._to:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
                out.sendto(words.encode(), self._to)
        except OSError as error:
            if not self._has_failed:
                log.warning("supervisor_not_told", error=str(error))
            self._has_failed = True
            return
        self._has_failed = False
