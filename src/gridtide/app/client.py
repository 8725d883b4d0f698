"""Talking to a running site from the command line: its HTTP API, its token file, powers as people write them.

A refusal of the wish is a ValueError (field, value, cure), as it is in the site itself; a site that does not answer, does not
know us, or cannot do it now is a `SiteError`.
"""

import http.client
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from gridtide.app.home import default_home
from gridtide.model.view import SiteView, VehicleView
from gridtide.run.credentials import read_secret

T = TypeVar("T")
DEFAULT_URL = "http://127.0.0.1:8080"
ANSWER_S, SILENCE_S = 10.0, 30.0
"""Longest wait for an answer, and for the next view of a stream."""
LARGEST_BYTES = 8_000_000
_POWER = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?([a-zA-Z]*)")
_KW = {"W": 1e-3, "kW": 1.0, "MW": 1e3}


class SiteError(ConnectionError):
    """The site did not do it; the message says why and what to try."""


def parse_power(text: str, field: str) -> float:
    """kW of "500kW", "0.5 MW" or "500000 W"; raises ValueError naming `field`. Case counts: mW would be milliwatts."""
    found = _POWER.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{field} is {text!r}: give a number and a unit, as 500kW")
    number, unit = found.groups()
    if unit not in _KW:
        cure = "add the unit" if not unit else f"{unit} is no unit of power here; use kW, MW or W"
        raise ValueError(f"{field} is {text!r}: {cure}, as {number}kW")
    return float(number) * _KW[unit]


def quoted(part: str) -> str:
    """`part` as one segment of a path."""
    return quote(part, safe="")


def with_query(path: str, **query: object) -> str:
    """`path` with those of `query` that are not None."""
    told = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(told)}" if told else path


def default_token_file() -> Path:
    """`token` in the home folder."""
    return default_home() / "token"


class SiteClient:
    """One running site. The default token is sent to this machine only, and no token ever over unencrypted foreign ways."""

    def __init__(self, url: str = DEFAULT_URL, token_file: Path | None = None) -> None:
        """`token_file` None: the default one if there is one. Raises ValueError for a URL that cannot be used."""
        parts = urlsplit(url)
        try:
            self._port = parts.port
        except ValueError as error:
            raise ValueError(f"--url is {url!r}: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(f"--url is {url!r}: give scheme, host and port, as {DEFAULT_URL}")
        self._host, self._tls, self.url = parts.hostname, parts.scheme == "https", url.rstrip("/")
        local = self._host in ("127.0.0.1", "localhost", "::1")
        if token_file is not None and not local and not self._tls:
            raise ValueError(f"--url is {url!r}: the token would travel in the clear; use https or an SSH tunnel")
        self._token_file = token_file if token_file is not None or not local else default_token_file()
        self._token_must_exist = token_file is not None

    # --- what commands ask ------------------------------------------------------------------------------------------
    def view(self) -> SiteView:
        """All that the page shows."""
        return self._decoded(self._call("GET", "/view"), SiteView)

    def explain(self, evse_id: str) -> VehicleView:
        """One EVSE; ValueError for an unknown one."""
        return self._decoded(self._call("GET", f"/evses/{quote(evse_id, safe='')}"), VehicleView)

    def set_peak(self, limit_kw: float, buffer_kw: float) -> None:
        """New limit and buffer, kW; returns when the site has stored them."""
        self._call("POST", "/peak", {"limit_kw": limit_kw, "buffer_kw": buffer_kw})

    def estop(self) -> None:
        """Press the emergency stop."""
        self._call("POST", "/estop", {})

    def clear_estop(self) -> None:
        """Clear the emergency stop."""
        self._call("POST", "/estop/clear", {})

    def follow(self) -> Iterator[SiteView]:
        """Views as they come, until the site ends (then SiteError)."""
        connection, answer = self._ask("GET", "/stream", None, SILENCE_S)
        try:
            while line := self._patiently(answer.readline, LARGEST_BYTES):
                if line.startswith(b"data: "):
                    yield self._decoded(line[6:], SiteView)
        finally:
            connection.close()
        raise SiteError(f"{self.url} ended the stream")

    def ask(self, kind: type[T], method: str, path: str, body: object = None, wait_s: float = ANSWER_S) -> T:
        """The answer of any route below /api/v1, as a `kind`; `path` with its query, parts quoted (`quoted`, `with_query`)."""
        return self._decoded(self._call(method, path, body, wait_s), kind)

    def raw(self, path: str) -> bytes:
        """The answer of a read as it comes."""
        return self._call("GET", path)

    # --- HTTP -------------------------------------------------------------------------------------------------------
    def _call(self, method: str, path: str, body: object = None, wait_s: float = ANSWER_S) -> bytes:
        connection, answer = self._ask(method, path, body, wait_s)
        try:
            return self._patiently(answer.read, LARGEST_BYTES)
        finally:
            connection.close()

    def _ask(
        self, method: str, path: str, body: object, wait_s: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """An open connection with a good answer; refusals are raised."""
        headers = {"Accept": "application/json, text/event-stream", **self._authorization(write=method != "GET")}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = self._connection(wait_s)
        try:
            connection.request(method, f"/api/v1{path}", None if body is None else msgspec.json.encode(body), headers)
            answer = connection.getresponse()
            if answer.status != http.HTTPStatus.OK:
                raise self._refusal(answer.status, answer.read(LARGEST_BYTES))
        except SiteError:
            connection.close()
            raise
        except ssl.SSLCertVerificationError as error:
            connection.close()
            cure = "name a file with the root that signed it in SSL_CERT_FILE, and give a name it holds in --url"
            raise SiteError(
                f"{self.url} shows a certificate that is not trusted ({error.verify_message}): {cure}"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            cure = "is gridtide running there? Start it with `gridtide run` or `gridtide demo`, or give --url"
            raise SiteError(f"{self.url} does not answer ({error or type(error).__name__}): {cure}") from None
        except ValueError:
            connection.close()
            raise
        return connection, answer

    def _connection(self, wait_s: float) -> http.client.HTTPConnection:
        if self._tls:
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=wait_s, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=wait_s)

    def _authorization(self, write: bool) -> dict[str, str]:
        """Reads on this machine need no token, so a missing default file only matters for writes."""
        path = self._token_file
        if path is None:
            if write:
                raise ValueError("--token-file is missing: a site elsewhere needs its token named")
            return {}
        if not path.exists():
            if write or self._token_must_exist:
                raise ValueError(f"{path} does not exist: start the site first, or give --token-file or GRIDTIDE_HOME")
            return {}
        token = read_secret(path).decode("ascii", "replace").strip()
        if not token.isascii() or not token.isprintable():
            raise ValueError(f"{path} holds no token: give the file that the site told at its start")
        return {"Authorization": f"Bearer {token}"}

    def _refusal(self, status: int, data: bytes) -> Exception:
        try:
            detail = msgspec.json.decode(data, type=dict[str, Any])["detail"]
        except (msgspec.DecodeError, KeyError):
            return SiteError(
                f"{self.url} answered {status} in words that gridtide does not use: is it another program?"
            )
        if status in (400, 404):
            return ValueError(str(detail))
        cure = "; does --token-file belong to this site?" if status == 401 else ""
        return SiteError(f"{self.url} refused this ({status}): {detail}{cure}")

    def _patiently(self, read: Callable[[int], bytes], most: int) -> bytes:
        """One read whose time-outs and cut connections are told as a SiteError."""
        try:
            return read(most)
        except (OSError, http.client.HTTPException) as error:
            raise SiteError(f"{self.url} fell silent ({error or type(error).__name__})") from None

    def _decoded(self, data: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise SiteError(
                f"{self.url} answered what this gridtide does not understand ({error}): same version?"
            ) from None
