"""Which addresses a station, or we, may be sent to: log uploads, firmware, a new CSMS, an OCSP responder. Nothing is looked up:
a name is allowed because the operator listed it, a number is judged as a number."""

import ipaddress
import re
from collections.abc import Collection

FILE_SCHEMES = ("https", "http", "ftps", "ftp", "sftp")
"""GetLog, UpdateFirmware, PublishFirmware."""
CSMS_SCHEMES = ("wss", "ws")
"""SetNetworkProfile."""
OCSP_SCHEMES = ("http", "https")
_DEFAULT_PORTS = {"https": 443, "http": 80, "ftps": 990, "ftp": 21, "sftp": 22, "wss": 443, "ws": 80}
_MAX_CHARS = 2_000
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(?:[/?#].*)?")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_USER = re.compile(r"(//)[^/?#]*@")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_INSIDE = ("localhost", "local", "internal", "localdomain", "home.arpa")
"""Names, and ends of names, that mean this machine, this network or a cloud's metadata."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_url(
    url: str, allowed_hosts: Collection[str], *, schemes: Collection[str] = FILE_SCHEMES, field: str = "url"
) -> None:
    """Raise ValueError, naming `field`, value and cure, unless `url` leads to an allowed host by an allowed scheme.

    `allowed_hosts`: "host" (the scheme's own port), "host:port", "*.example.org" (its subdomains), "*" (any public host).
    Loopback, private, link-local and metadata addresses pass only where they are listed by themselves.
    """
    scheme, host, port = _parts(url, field)
    if scheme not in schemes:
        raise _refused(field, url, f"give one of {', '.join(schemes)}")
    number = _address(host, url, field)
    name = str(number) if number is not None else _name(host, url, field)
    ours = _DEFAULT_PORTS.get(scheme)
    wanted = {_spelled(name, port)} if port not in (None, ours) else {_spelled(name, None), _spelled(name, ours)}
    listed = {_canonical(entry) for entry in allowed_hosts}
    if wanted & listed:
        return
    inside = _is_inside(number) if number is not None else _is_inside_name(name)
    if inside:
        raise _refused(
            field, url, f'it leads to this machine or network: if that is meant, list "{min(wanted)}" by itself'
        )
    if port in (None, ours) and number is None and any(_under(name, entry) for entry in listed):
        return
    if port in (None, ours) and "*" in listed:
        return
    raise _refused(field, url, f'list "{_spelled(name, port)}" among the allowed hosts, if it is one of yours')


def _parts(url: str, field: str) -> tuple[str, str, int | None]:
    if len(url) > _MAX_CHARS:
        raise _refused(field, url, f"give at most {_MAX_CHARS} characters")
    if not (url.isascii() and url.isprintable()) or " " in url or "\\" in url:
        raise _refused(field, url, "give printable ASCII without spaces or backslashes")
    whole = _URL.fullmatch(url)
    if whole is None:
        raise _refused(field, url, "give scheme://host/path")
    authority = whole[2]
    if "@" in authority:
        raise _refused(field, url, "leave out user and password: they would be kept in logs, and hide the real host")
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise _refused(field, url, "give a host name or address, and a port if need be")
    port = int(found[2]) if found[2] else None
    if port is not None and not 1 <= port <= 65_535:
        raise _refused(field, url, "give a port from 1 to 65535")
    return whole[1].lower(), found[1], port


def _address(host: str, url: str, field: str) -> Address | None:
    """The host as an address; None for a name. Only the ordinary spelling of a number is taken: others are read differently
    by different programs."""
    last = host.rstrip(".").rpartition(".")[2]
    try:
        if host.startswith("["):
            return ipaddress.IPv6Address(host[1:-1])
        if _NUMBER.fullmatch(last):
            return ipaddress.IPv4Address(host)
    except ValueError:
        raise _refused(field, url, "spell an address in the ordinary way, as 192.0.2.7 or [2001:db8::7]") from None
    return None


def _name(host: str, url: str, field: str) -> str:
    name = host.lower().removesuffix(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise _refused(field, url, "give a host name of letters, digits, - and .")
    return name


def _is_inside(number: Address) -> bool:
    """Whether an address, or the one that it carries, is any but a public one."""
    if isinstance(number, ipaddress.IPv6Address):
        carried = [number.ipv4_mapped, number.sixtofour, *(number.teredo or ())]
        if number in _NAT64 or int(number) >> 32 == 0:
            carried.append(ipaddress.IPv4Address(int(number) & 0xFFFFFFFF))
        if any(inner is not None and _is_inside(inner) for inner in carried):
            return True
        if number.is_site_local:
            return True
    return not number.is_global or number.is_multicast


def _is_inside_name(name: str) -> bool:
    return "." not in name or any(name == end or name.endswith("." + end) for end in _INSIDE)


def _under(name: str, entry: str) -> bool:
    return entry.startswith("*.") and name.endswith(entry[1:])


def _canonical(entry: str) -> str:
    """A listed host as `_spelled` would spell it."""
    text = entry.strip().lower()
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return text
    host, port = found[1].removesuffix("."), int(found[2]) if found[2] else None
    try:
        return _spelled(str(ipaddress.ip_address(host.strip("[]"))), port)
    except ValueError:
        return _spelled(host, port)


def _spelled(name: str, port: int | None) -> str:
    host = f"[{name}]" if ":" in name else name
    return host if port is None else f"{host}:{port}"


def _refused(field: str, url: str, cure: str) -> ValueError:
    # What stands before an @ may be a password: it must not reach a log.
    shown = _USER.sub(r"\1…@", url)[:80]
    return ValueError(f"{field} is {shown!r}: {cure}")
