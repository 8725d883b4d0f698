"""The page's files, read once and served from memory: no path from a request ever reaches the file system."""

import hashlib
from pathlib import Path

from litestar import Request, get
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response
from msgspec import Struct

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Suffixes that are served; anything else in the folder is not."""


class Asset(Struct, frozen=True):
    """One file of the page."""

    data: bytes
    media_type: str
    etag: str


def load_assets(folder: Path = STATIC) -> dict[str, Asset]:
    """Every file of `folder` with a known suffix, by name."""
    return {
        path.name: Asset(data, TYPES[path.suffix], f'"{hashlib.sha256(data).hexdigest()[:32]}"')
        for path in sorted(folder.iterdir())
        if path.suffix in TYPES
        for data in (path.read_bytes(),)
    }


def asset_route(assets: dict[str, Asset]) -> HTTPRouteHandler:
    """The route of `/` and `/<file>`; browsers ask anew each time and mostly hear 304."""

    @get(["/", "/{name:str}"], include_in_schema=False, name="page")
    async def asset(request: Request[None, None, State], name: str = "index.html") -> Response[bytes]:
        found = assets.get(name)
        if found is None:
            raise NotFoundException(f"There is no page {name[:60]!r}.")
        headers = {"ETag": found.etag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == found.etag:
            return Response(b"", status_code=304, headers=headers, media_type=found.media_type)
        return Response(found.data, headers=headers, media_type=found.media_type)

    return asset
