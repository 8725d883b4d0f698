"""The page's files, read once and served from memory: no path from a request ever reaches the file system."""

import hashlib
from pathlib import Path

from litestar import Request, get
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Response
from msgspec import Struct

AnyRequest = Request[None, None, State]
STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
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


def asset_routes(assets: dict[str, Asset]) -> list[HTTPRouteHandler]:
    """The routes `/` and `/<file>`; browsers ask anew each time and mostly hear 304."""

    @get("/", include_in_schema=False)
    async def index(request: AnyRequest) -> Response[bytes]:
        return _answer(request, assets["index.html"])

    @get("/{name:str}", include_in_schema=False)
    async def asset(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
        found = assets.get(name)
        if found is None:
            raise NotFoundException(f"There is no page {name[:60]!r}.")
        return _answer(request, found)

    return [index, asset]


def _answer(request: AnyRequest, asset: Asset) -> Response[bytes]:
    headers = {"ETag": asset.etag, "Cache-Control": "no-cache"}
    known = request.headers.get("if-none-match") == asset.etag
    status, data = (304, b"") if known else (200, asset.data)
    return Response(data, status_code=status, headers=headers, media_type=asset.media_type)
