"""One HTTP POST to an address the operator named: HTTPS, or plain HTTP on this machine; nothing is followed, little is read."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from gridtide.run.allowed_urls import check_url

LINE_LIMIT: Final = 8_192
"""Bytes of an answer's first line."""


class WebhookError(OSError):
    """The message was not taken: no connection, no answer in time, or an answer that is none."""


def check_webhook(url: str, hosts: Collection[str] = (), field: str = "notify.url") -> None:
    """Raise ValueError, naming `field` and cure, unless `url` leads by HTTPS to a public host or one of `hosts` ("host:port"), or
    to this machine itself, by plain HTTP too."""
    split = _split(url)
    if _is_loopback(split.hostname or ""):
        check_url(url, (split.netloc,), schemes=("https", "http"), field=field)
    else:
        check_url(url, ("*", *hosts), schemes=("https",), field=field)


async def post(url: str, body: bytes, headers: Mapping[str, str], timeout_s: float, hosts: Collection[str] = ()) -> int:
    """POST `body` as JSON and return the answer's status; raises WebhookError. `url` has passed `check_webhook` with `hosts`:
    a public name that leads inside now is refused."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _post(_split(url), body, headers, hosts)
    except TimeoutError as error:
        raise WebhookError(f"no answer within {timeout_s:g} s") from error
    except WebhookError:
        raise
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise WebhookError(f"not delivered: {error or type(error).__name__}") from error


async def _post(split: SplitResult, body: bytes, headers: Mapping[str, str], hosts: Collection[str]) -> int:
    host, secure = split.hostname or "", split.scheme == "https"
    port = split.port or (443 if secure else 80)
    address = await _resolved(host, port, trusted=_is_loopback(host) or any(_names(entry, host) for entry in hosts))
    reader, writer = await asyncio.open_connection(
        address, port, ssl=ssl.create_default_context() if secure else None, server_hostname=host if secure else None,
        limit=LINE_LIMIT,
    )  # fmt: skip
    try:
        writer.write(_request(split, body, headers))
        await writer.drain()
        line = await reader.readuntil(b"\n")
    finally:
        # Not waited for: who answers slowly may also close slowly.
        writer.transport.abort()
    parts = line.split(None, 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
        raise WebhookError("the answer is no HTTP")
    return int(parts[1])


def _request(split: SplitResult, body: bytes, headers: Mapping[str, str]) -> bytes:
    target = (split.path or "/") + (f"?{split.query}" if split.query else "")
    told = {
        "Host": split.netloc, "Content-Type": "application/json", "Content-Length": str(len(body)),
        "User-Agent": "gridtide", "Connection": "close", **headers,
    }  # fmt: skip
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items()), "", ""]
    return "\r\n".join(lines).encode("ascii") + body


async def _resolved(host: str, port: int, trusted: bool) -> str:
    """An address of the host; what was named as public must not lead inside."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not trusted and not all(ipaddress.ip_address(address).is_global for address in addresses):
        raise WebhookError(f"{host} leads to an address inside: list it under notify.hosts if that is meant")
    return addresses[0]


def _names(entry: str, host: str) -> bool:
    """Whether an entry of the list means exactly this host."""
    return entry.rpartition(":")[0].strip("[]").lower() == host or entry.strip("[]").lower() == host


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(url: str) -> SplitResult:
    try:
        split = urlsplit(url)
        _ = split.port
    except ValueError as error:
        raise ValueError(f"notify.url cannot be read ({error}): give https://host/path") from None
    return split
