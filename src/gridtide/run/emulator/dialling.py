"""How an emulated station reaches a CSMS: security profile 1, 2 or 3, or none at all towards systems under test."""

import ssl
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake
from websockets.typing import Subprotocol

from gridtide.run.credentials import basic_header, read_secret
from gridtide.run.websocket import MAX_FRAME_BYTES, WebSocketLink
from gridtide.wire.ocpp.actions import Version

Profile: TypeAlias = Literal[0, 1, 2, 3]
OPEN_LIMIT_S = 30.0


class Access(Struct, frozen=True):
    """How one station proves itself, and what it trusts."""

    profile: Profile
    password: str | None = None
    """Profiles 1 and 2."""
    ca: Path | None = None
    """Profiles 2 and 3: who signed the CSMS's certificate; None: the machine's own authorities."""
    certificate: Path | None = None
    key: Path | None = None
    """Profile 3."""


def client_context(access: Access) -> ssl.SSLContext | None:
    """The TLS side of an access, or None on profiles 0 and 1. `OSError` or `ssl.SSLError` if a file cannot be used.

    `CredentialError` if others can read the key.
    """
    if access.profile < 2:
        return None
    context = ssl.create_default_context(cafile=None if access.ca is None else str(access.ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    if access.certificate is not None and access.key is not None:
        read_secret(access.key)
        context.load_cert_chain(access.certificate, access.key)
    return context


async def reach(
    url: str, identity: str, version: Version, access: Access, context: ssl.SSLContext | None
) -> WebSocketLink:
    """Connect to `url` (the identity is appended to its path); `OSError`, also when the CSMS refuses.

    Profile 0 sends no Authorization header, profile 3 proves itself by its certificate alone.
    """
    with_password = access.profile in (1, 2) and access.password is not None
    headers = {"Authorization": basic_header(identity, access.password or "")} if with_password else {}
    try:
        socket = await connect(
            f"{url.rstrip('/')}/{identity}", ssl=context, subprotocols=[Subprotocol(f"ocpp{version}")], compression=None,
            additional_headers=headers, max_size=MAX_FRAME_BYTES, ping_interval=None, close_timeout=1.0, proxy=None,
            open_timeout=OPEN_LIMIT_S, max_queue=4,
        )  # fmt: skip
    except InvalidHandshake as error:
        raise ConnectionRefusedError(f"{url} refused {identity}: {error}") from None
    except TimeoutError:
        raise ConnectionRefusedError(f"{url} did not answer {identity} within {OPEN_LIMIT_S:g} s") from None
    return WebSocketLink(socket)
