"""Text of the files a site file names: plain or gzip, or data that comes with the package as `builtin:<name>`."""

import gzip
import zlib
from importlib import resources
from pathlib import Path

from gridtide.app.problems import ConfigError, Problem

BUILTIN = {
    "builtin:load": "load_metal_works_2010.csv.gz",
    "builtin:sessions": "sessions_caltech_2019.csv.gz",
    "builtin:tariff": "tariff_pge_a10_2019.json",
}
_LARGEST_BYTES = 200_000_000


def read_text(source: str) -> str:
    """The file's text, unpacked if it is gzip. Raises `ConfigError` where it cannot be read."""
    data = _bytes(source)
    if data[:2] == b"\x1f\x8b":
        data = _unpacked(source, data)
    if len(data) > _LARGEST_BYTES:
        raise _refused(source, f"is larger than {_LARGEST_BYTES // 1_000_000} MB: split it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(source, [Problem(line, "", "", "is not UTF-8 text: save it as UTF-8")]) from error


def _bytes(source: str) -> bytes:
    if source.startswith("builtin:"):
        name = BUILTIN.get(source)
        if name is None:
            raise _refused(source, f"is not known: give {', '.join(BUILTIN)}, or the path of a file")
        return (resources.files("gridtide") / "data" / name).read_bytes()
    try:
        return Path(source).read_bytes()
    except (OSError, ValueError) as error:
        raise _refused(source, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _unpacked(source: str, data: bytes) -> bytes:
    """Unpack with a bound, so that a small file cannot fill the memory."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        out = unpacker.decompress(data, _LARGEST_BYTES + 1)
    except (zlib.error, gzip.BadGzipFile) as error:
        raise _refused(source, f"is a broken gzip file: {error}") from error
    if not unpacker.eof and len(out) <= _LARGEST_BYTES:
        raise _refused(source, "is a gzip file that is cut off: copy it again")
    return out


def _refused(source: str, text: str) -> ConfigError:
    return ConfigError(source, [Problem(0, "", "", text)])
