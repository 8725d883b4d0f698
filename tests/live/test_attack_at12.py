"""AT12, server-side request forgery and path traversal (CWE-918, CWE-22): identities that are no names, and addresses that lead
elsewhere than they look."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtide.run.allowed_urls import CSMS_SCHEMES, OCSP_SCHEMES, check_url
from gridtide.run.pki import Pki
from gridtide.wire.ocpp.actions import identity_of
from tests.live.csms_server import provision, serving
from tests.live.security_rig import small_pki
from tests.live.test_ocpp_server import everything

BAD_IDENTITIES = [
    "%2e%2e%2fetc%2fpasswd", "..%2f..%2fetc%2fpasswd", "..%5c..%5cwindows", "bay-1%00", "bay-1%0d%0aX-Evil:%201", "bay%201",
    "bay-1%2f..", "%c0%ae%c0%ae", "%ff", "bay-1;rm", "bay-1'--", "<script>", "%3Cscript%3E", "$(id)", "`id`", "bay-1%09",
    "x" * 49, "b%C3%A4y", "%E2%80%AEbay", "bay-1%", "bay-1%zz", "bay-1&x=1", "bay-1#x", "~root", "%25%32%65", "{bay}", "bay,1",
]  # fmt: skip
ALLOWED = ("files.example.org", "10.0.0.5:8080", "*.cdn.example.org", "[fd00::7]")
GOOD_URLS = [
    "https://files.example.org/firmware/v2.bin", "http://files.example.org", "https://FILES.Example.ORG./x?y=z#f",
    "ftp://files.example.org/logs/", "sftp://files.example.org:22/logs", "https://files.example.org:443/x",
    "http://10.0.0.5:8080/f", "https://a.cdn.example.org/f", "https://a.b.cdn.example.org/f", "https://[fd00::7]/f",
    "https://[fd00:0:0::7]/f",
]  # fmt: skip
ELSEWHERE = [
    "https://evil.example/x", "https://files.example.org.evil.example/x", "https://evilfiles.example.org/x",
    "https://cdn.example.org/x", "https://evilcdn.example.org/x", "https://files.example.org:8443/x", "http://10.0.0.5/x",
    "http://10.0.0.5:80801/x", "http://10.0.0.5:0/x", "https://a.cdn.example.org:9/f",
]  # fmt: skip
TRICKS = [
    "https://files.example.org@evil.example/x", "https://user:secret@files.example.org/x", "https://@files.example.org/x",
    "https://files.example.org%40evil.example/x", "https://files.example.org\\@evil.example/", "https:\\\\files.example.org\\x",
    "https://evil.example\\.files.example.org/x", "https://evil.example#.files.example.org/", "https://evil.example?.files.example.org",
    "https:/files.example.org/x", "https:files.example.org", "//files.example.org/x", "files.example.org", "", " ", "https://",
    "https:///files.example.org", "https://files.example.org /x", "https://files.example.org\r\nHost: x/", "https://files.example.org\x00",
    "\thttps://files.example.org/x", "https://files。example。org/x", "https://fıles.example.org/x", "https://files.example..org/x",
    "https://.files.example.org/x", "https://-files.example.org/x", "https://files.example.org:/x:", "https://files.example.org:443:443/x",
    "https://files.example.org:+443/x", "https://files.example.org:0x1bb/x", "https://[files.example.org]/x", "https://[::1", "https://::1/",
    "https://[fe80::1%25eth0]/x", "https://[fd00::7]evil/x", "https://[fd00::7]@evil/x", "https://" + "a" * 2_000,
]  # fmt: skip
WRONG_SCHEMES = [
    "file:///etc/passwd", "file://files.example.org/etc/passwd", "gopher://files.example.org/x", "data://files.example.org/x",
    "javascript://files.example.org/x", "ldap://files.example.org/x", "wss://files.example.org/x", "dict://files.example.org/x",
]  # fmt: skip
INSIDE = [
    "http://127.0.0.1/", "http://127.1/", "http://127.0.0.1./", "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/",
    "http://0177.0.0.1/", "http://017700000001/", "http://127.000.000.001/", "http://0/", "http://0.0.0.0/", "http://localhost/",
    "http://LOCALHOST/", "http://localhost./", "http://a.localhost/", "http://[::1]/", "http://[::]/", "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[64:ff9b::127.0.0.1]/",
    "http://[2002:7f00:1::]/", "http://[2002:a9fe:a9fe::]/", "http://169.254.169.254/latest/meta-data/", "http://[fe80::1]/",
    "http://[::ffff:169.254.169.254]/", "http://[fd00:ec2::254]/", "http://metadata.google.internal/", "http://metadata/",
    "http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.1.1/", "http://100.64.0.1/", "http://[fc00::1]/", "http://[fec0::1]/",
    "http://224.0.0.1/", "http://255.255.255.255/", "http://[ff02::1]/", "http://printer.local/", "http://router/", "http://1/",
    "http://[2001:0:a9fe:a9fe::]/", "http://2852039166/", "http://0xa9fea9fe/", "http://0251.0376.0251.0376/",
]  # fmt: skip


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return small_pki(tmp_path_factory.mktemp("at12") / "pki")


def test_at12_an_identity_that_is_no_name_gets_401_and_is_remembered_nowhere() -> None:
    async def scenario() -> None:
        async with serving(provision(0)) as served:
            before = everything(served)
            port = served.listener.server.port
            for identity in BAD_IDENTITIES:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(
                    f"GET /ocpp/{identity} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                    "Sec-WebSocket-Protocol: ocpp2.1\r\n\r\n".encode()
                )
                assert (await reader.readline()).split(b" ")[1] == b"401", identity
                writer.close()
            assert served.listener.guard.knocked() == ()
            assert everything(served) == before
            assert not any(identity in text for identity in BAD_IDENTITIES for _, _, text in served.told)

    asyncio.run(scenario())


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: "".join(f"%{byte:02x}" for byte in raw)))
def test_at12_whatever_passes_as_identity_is_a_plain_name(path: str) -> None:
    identity = identity_of("/ocpp/" + path)
    if identity is not None:
        assert 1 <= len(identity) <= 48
        assert set(identity) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*+=:|@._-")


def test_at12_serial_numbers_become_files_of_their_own_folder(pki: Pki) -> None:
    before = {path for path in pki.folder.parent.rglob("*") if path.parent != pki.folder / "stations"}
    for serial in ("..", "../../x", "/etc/passwd", "a/b", "%2e%2e", ".", "a b", "~", "C:\\x"):
        issued = pki.issue_station(serial, 1.8e9)
        assert Path(issued.file).parent == Path("stations")
        assert (pki.folder / issued.file).resolve().parent == (pki.folder / "stations").resolve()
    after = {path for path in pki.folder.parent.rglob("*") if path.parent != pki.folder / "stations"}
    assert after - before <= {pki.folder / ".lock"}


@pytest.mark.parametrize("url", GOOD_URLS)
def test_at12_a_listed_host_is_allowed(url: str) -> None:
    check_url(url, ALLOWED)


@pytest.mark.parametrize("url", [*ELSEWHERE, *TRICKS, *WRONG_SCHEMES, *INSIDE])
def test_at12_everything_else_is_refused_with_field_value_and_cure(url: str) -> None:
    with pytest.raises(ValueError, match=r"^log\.remoteLocation is '") as refusal:
        check_url(url, ALLOWED, field="log.remoteLocation")
    assert "@" in url or repr(url[:80]) in str(refusal.value)
    assert len(str(refusal.value).rpartition(": ")[2]) > 10, "a cure"


@pytest.mark.parametrize("user", ["user:secret", "secret", "a@b:secret"])
def test_at12_a_password_in_an_address_is_refused_and_not_repeated(user: str) -> None:
    with pytest.raises(ValueError) as refusal:
        check_url(f"ftp://{user}@files.example.org/logs", ALLOWED)
    assert "secret" not in str(refusal.value)
    assert "user and password" in str(refusal.value)


@pytest.mark.parametrize("url", [*TRICKS, *WRONG_SCHEMES, *INSIDE])
def test_at12_any_public_host_means_no_host_inside(url: str) -> None:
    if url in ("https://evil.example#.files.example.org/", "https://evil.example?.files.example.org"):
        check_url(url, ["*"])  # honest addresses of evil.example
        return
    with pytest.raises(ValueError):
        check_url(url, ["*"])


def test_at12_any_public_host_is_any() -> None:
    for url in ("https://evil.example/x", "https://8.8.8.8/x", "https://[2606:4700::1111]/x"):
        check_url(url, ["*"])
    with pytest.raises(ValueError, match="list"):
        check_url("https://evil.example:8443/x", ["*"])


def test_at12_a_host_inside_passes_only_when_listed_by_itself() -> None:
    check_url("http://127.0.0.1:8080/x", ["127.0.0.1:8080"])
    check_url("http://localhost/x", ["localhost"])
    check_url("http://[::1]/x", ["[::1]"])
    check_url("http://files.internal/x", ["files.internal"])
    for url, allowed in (
        ("http://files.internal/x", "*.internal"), ("http://[::ffff:127.0.0.1]/x", "127.0.0.1"), ("http://127.1/x", "127.0.0.1"),
        ("http://127.0.0.1:81/x", "127.0.0.1"),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            check_url(url, [allowed])


def test_at12_each_purpose_has_its_schemes() -> None:
    check_url("wss://csms.example.org/ocpp", ["csms.example.org"], schemes=CSMS_SCHEMES)
    check_url("http://ocsp.example.org/", ["ocsp.example.org"], schemes=OCSP_SCHEMES)
    for url, schemes in (("https://csms.example.org/", CSMS_SCHEMES), ("ftp://ocsp.example.org/", OCSP_SCHEMES)):
        with pytest.raises(ValueError, match="give one of"):
            check_url(url, ["csms.example.org", "ocsp.example.org"], schemes=schemes)


PIECES = ["http", "https", "://", "//", "/", "\\", "@", ":", "[", "]", "127.0.0.1", "::1", "0x7f.1", "localhost",
          "evil.example",
          "files.example.org", ".", "..", "%", "%2e", "#", "?", "0", "443", " ", "\r\n", "ä", "。", "::ffff:", "-"]  # fmt: skip
urls = st.text(max_size=80) | st.lists(st.sampled_from(PIECES), max_size=9).map("".join)


@settings(max_examples=2_000, deadline=None)
@given(urls | urls.map("https://{}".format))
def test_at12_no_address_passes_or_fails_by_accident(url: str) -> None:
    """A refusal is a ValueError and nothing else; what passes has the listed host and nothing else as its host."""
    with contextlib.suppress(ValueError):
        check_url(url, ["files.example.org"])
        rest = url.lower().split("://", 1)[1]
        host = rest.split("/", 1)[0].split("?", 1)[0].split("#", 1)[0]
        assert host.split(":")[0].removesuffix(".") == "files.example.org"
        assert "@" not in host
        assert "\\" not in url
