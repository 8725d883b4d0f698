"""Keeps an eye on the listener's certificates: renewed files are taken over without a restart, and what is about to expire is
told at 30, 7 and 1 days."""

from collections.abc import Callable
from pathlib import Path

from gridtide.run.clock import Clock
from gridtide.run.credentials import CredentialError
from gridtide.run.ocpp_server import OcppServer
from gridtide.run.tls import Expiry

LOOK_EVERY_S, DATES_EVERY_S = 30.0, 3600.0
"""Seconds between two looks at the files, and at the dates of files that did not change."""
_Seen = tuple[tuple[str, int, int], ...]


class CertificateWatch:
    """Looks at the files of every TLS listener of a server."""

    def __init__(
        self,
        server: OcppServer,
        clock: Clock,
        tell: Callable[[str], None],
        expiries: Callable[[float], list[Expiry]] | None = None,
    ) -> None:
        """`tell` hears one sentence a matter; `expiries(now_s)` adds certificates that no listener holds, as the stations'."""
        self._server, self._clock, self._tell, self._expiries = server, clock, tell, expiries
        self._seen = self._files()
        self._told: set[tuple[str, int]] = set()
        self._dates_at_s = clock.monotonic()

    async def run(self) -> None:
        """Look now and then, for ever."""
        while True:
            self.look()
            await self._clock.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """Take over files that changed; tell what expires. A damaged renewal is told once and changes nothing."""
        files, now_s = self._files(), self._clock.monotonic()
        if files == self._seen and now_s < self._dates_at_s:
            return
        self._dates_at_s = now_s + DATES_EVERY_S
        if files != self._seen:
            self._seen = files
            try:
                self._server.reload()
            except CredentialError as error:
                self._tell(f"Renewed certificates were not taken over: {error}")
            else:
                self._tell("Renewed certificates and revocation lists were taken over.")
        self._tell_expiries()

    def _tell_expiries(self) -> None:
        now_s = self._clock.wall()
        try:
            found = [one for side in self._server.tls_sides for one in side.expiries(now_s)]
            found += self._expiries(now_s) if self._expiries is not None else []
        except (CredentialError, OSError) as error:
            found = []
            if ("", 0) not in self._told:
                self._told.add(("", 0))
                self._tell(f"The certificates' dates cannot be read: {error}")
        reached = {(one.subject, days): one for one in found if (days := one.alarm_days) is not None}
        for key, one in reached.items():
            if key not in self._told:
                when = f"expires in {one.days_left:.1f} days" if one.days_left > 0.0 else "has expired"
                self._tell(f"{one.subject} {when}: renew it (`gridtide pki renew`, or where it came from).")
        # What was renewed may be told again when its time comes.
        self._told = set(reached) | ({("", 0)} & self._told if not found else set())

    def _files(self) -> _Seen:
        paths = [path for side in self._server.tls_sides for path in side.settings.files]
        return tuple((str(path), *_state(path)) for path in paths)


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_ino)
