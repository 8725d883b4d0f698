"""A scan by hand-made ClientHellos: what a listener accepts is found by offering everything, taking away what it chose, and
offering again, until it refuses. No TLS library of ours decides what may be offered."""

import asyncio
import os
from typing import Final

VERSIONS: Final = {"1.0": 0x0301, "1.1": 0x0302, "1.2": 0x0303, "1.3": 0x0304}
OLD_SUITES: Final = (*range(0x0001, 0x00FF), *range(0xC001, 0xC0FF), *range(0xCC13, 0xCC16), *range(0xCCA8, 0xCCAF))
"""Every number up to TLS 1.2 that a registry, or a draft that was deployed, has given out."""
NEW_SUITES: Final = tuple(range(0x1301, 0x1308))
_GROUPS = bytes.fromhex("001d00170018")
_SIGNATURES = bytes.fromhex("04030503060308040805080604010501060102030201")
_HANDSHAKE, _SERVER_HELLO = 0x16, 0x02


def client_hello(version: int, suites: tuple[int, ...]) -> bytes:
    """One record that offers one version, these suites and, up to TLS 1.2, compression."""
    new = version == VERSIONS["1.3"]
    extensions = _extension(0x000A, _counted(_GROUPS, 2)) + _extension(0x000D, _counted(_SIGNATURES, 2))
    extensions += _extension(0x000B, b"\x01\x00") + _extension(0xFF01, b"\x00")
    if new:
        share = (0x001D).to_bytes(2, "big") + _counted(os.urandom(32), 2)
        extensions += _extension(0x002B, b"\x02\x03\x04") + _extension(0x0033, _counted(share, 2))
    numbers = b"".join(suite.to_bytes(2, "big") for suite in suites)
    methods = b"\x01\x00" if new else b"\x02\x01\x00"
    body = min(version, 0x0303).to_bytes(2, "big") + os.urandom(32) + b"\x00" + _counted(numbers, 2) + methods
    body += _counted(extensions, 2)
    return b"\x16\x03\x01" + _counted(b"\x01" + _counted(body, 3), 2)


async def chosen(port: int, version: int, suites: tuple[int, ...]) -> int | None:
    """The suite a listener on loopback chooses; None when it refuses. An agreed compression is an error."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(client_hello(version, suites))
        head = await reader.readexactly(5)
        record = await reader.readexactly(int.from_bytes(head[3:5], "big"))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    finally:
        writer.close()
    if head[0] != _HANDSHAKE or record[0] != _SERVER_HELLO:
        return None
    after_id = 4 + 2 + 32 + 1 + record[38]
    assert record[after_id + 2] == 0, "compression was agreed"
    return int.from_bytes(record[after_id : after_id + 2], "big")


async def scan(port: int) -> dict[str, set[int]]:
    """Version -> every suite that the listener accepts with it; versions without any are left out."""
    found: dict[str, set[int]] = {}
    for name, version in VERSIONS.items():
        left = set(NEW_SUITES if name == "1.3" else OLD_SUITES)
        while left and (suite := await chosen(port, version, tuple(sorted(left)))) is not None:
            assert suite in left, "an answer that was not offered"
            found.setdefault(name, set()).add(suite)
            left.discard(suite)
    return found


def _counted(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "big") + data


def _extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "big") + _counted(data, 2)
