"""The small PKI: what it makes fits OCPP, what it signs was checked, what it revokes stays revoked."""

import json
import random
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from typer.testing import CliRunner

from gridtide.app.commands.pki import pki as commands
from gridtide.run.credentials import CredentialError
from gridtide.run.pki import Pki
from gridtide.run.pki_csr import (
    CsrError,
    CsrKeyError,
    CsrSignatureError,
    CsrSubjectError,
    CsrUnreadableError,
    check_csr,
)
from gridtide.run.tls import Expiry, KeyPair, StationTls, TlsSettings, check_pairs

NOW_S = 1.8e9
DAY_S = 86_400.0


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki.init(tmp_path / "pki", NOW_S, operator="Tests", names=("csms.test", "192.0.2.9"), rsa_bits=2048)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """One for all tests that must leave it as it is, or only add to it."""
    return Pki.init(
        tmp_path_factory.mktemp("pki") / "pki", NOW_S, operator="Tests", names=("csms.test",), rsa_bits=2048
    )


def certificate(pki: Pki, file: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((pki.folder / file).read_bytes())


def crl(pki: Pki) -> set[int]:
    held = x509.load_pem_x509_crl((pki.folder / "station-root.crl").read_bytes())
    return {entry.serial_number for entry in held}


def name(certificate_or_csr: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str | bytes]:
    return [one.value for one in certificate_or_csr.subject.get_attributes_for_oid(oid)]


# --- what is made -----------------------------------------------------------------------------------------------------
def test_the_server_has_an_ecdsa_and_an_rsa_certificate_named_after_it(pki: Pki) -> None:
    kinds = set()
    for pair in pki.tls_settings().pairs:
        held = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
        kinds.add(type(held.public_key()).__name__)
        assert name(held, NameOID.COMMON_NAME) == ["csms.test"]
        names = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert {str(one.value) for one in names} == {"csms.test", "192.0.2.9", "localhost", "127.0.0.1", "::1"}
        usage = held.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
        assert held.serial_number.bit_length() > 64
    assert len(kinds) == 2


def test_a_stations_certificate_names_its_serial_number_and_the_operator(shared: Pki) -> None:
    issued = shared.issue_station("SN-1", NOW_S, days=10.0)
    held = certificate(shared, issued.file)
    assert name(held, NameOID.COMMON_NAME) == ["SN-1"]
    assert name(held, NameOID.ORGANIZATION_NAME) == ["Tests"]
    assert held.not_valid_after_utc.timestamp() == NOW_S + 10.0 * DAY_S == issued.not_after_s
    assert list(held.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert not held.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    held.verify_directly_issued_by(certificate(shared, "station-root.crt"))
    key = serialization.load_pem_private_key((shared.folder / issued.file.replace(".crt", ".key")).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == held.public_key()


def test_two_certificates_never_share_a_number(pki: Pki) -> None:
    for _ in range(5):
        pki.issue_station("SN-1", NOW_S)
    numbers = [one.number for one in pki.issued()]
    assert len(set(numbers)) == len(numbers) == 3 + 2 + 5


@pytest.mark.parametrize("serial", ["", " SN", "SN ", "x" * 65, "a\nb", "Ä1", "a\0"])
def test_a_serial_number_that_cannot_be_a_name_is_refused(shared: Pki, serial: str) -> None:
    with pytest.raises(ValueError, match="serial is"):
        shared.issue_station(serial, NOW_S)


@pytest.mark.parametrize("host", ["", "a b", "-a", "a..b", "a_b", "../x", "x" * 65, "http://a", "a:1"])
def test_a_server_name_that_is_no_host_is_refused(shared: Pki, host: str) -> None:
    with pytest.raises(ValueError, match="name is"):
        shared.issue_server((host,), NOW_S)


def test_a_folder_is_made_once_and_only_where_it_is_private(pki: Pki, tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="holds a PKI already"):
        Pki.init(pki.folder, NOW_S, rsa_bits=2048)
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o755)
    with pytest.raises(CredentialError, match="chmod 700"):
        Pki.init(open_folder, NOW_S, rsa_bits=2048)
    assert not list(open_folder.iterdir()), "nothing was written there"
    with pytest.raises(CredentialError, match="pki init"):
        Pki(tmp_path / "none")
    (pki.folder / "index.json").write_text("{")
    with pytest.raises(CredentialError, match="damaged"):
        Pki(pki.folder)


def test_a_root_key_that_others_can_read_signs_nothing(pki: Pki) -> None:
    (pki.folder / "station-root.key").chmod(0o640)
    with pytest.raises(CredentialError, match="chmod 600"):
        pki.issue_station("SN-1", NOW_S)
    assert [one.kind for one in pki.issued()] == ["root"] * 3 + ["server"] * 2


# --- renewal and revocation -------------------------------------------------------------------------------------------
def test_renewing_a_station_revokes_the_old_one(pki: Pki) -> None:
    old = pki.issue_station("SN-1", NOW_S)
    old_key = (pki.folder / old.file.replace(".crt", ".key")).read_bytes()
    (new,) = pki.renew("station", "SN-1", NOW_S + DAY_S)
    assert new.number != old.number
    assert (pki.folder / new.file.replace(".crt", ".key")).read_bytes() != old_key
    assert crl(pki) == {int(old.number, 16)}
    assert StationTls(pki.tls_settings()).revoked == {int(old.number, 16)}
    status = {one.number: one.status(NOW_S + 2 * DAY_S) for one in pki.issued()}
    assert (status[old.number], status[new.number]) == ("revoked", "valid")


def test_a_renewal_may_leave_the_old_one_until_the_station_has_the_new(pki: Pki) -> None:
    old = pki.issue_station("SN-1", NOW_S)
    pki.renew("station", "SN-1", NOW_S, keep_old=True)
    assert crl(pki) == set()
    assert [one.number for one in pki.revoke(NOW_S, number=f"0{old.number.upper()}")] == [old.number]
    assert crl(pki) == {int(old.number, 16)}
    assert pki.revoke(NOW_S, number=old.number) == (), "twice is once"


def test_renewing_a_server_keeps_its_names(pki: Pki) -> None:
    before = pki.tls_settings()
    names = [certificate(pki, f"servers/csms.test-{kind}.pem").extensions for kind in ("ecdsa", "rsa")]
    assert len(pki.renew("server", "csms.test", NOW_S)) == 2
    assert pki.tls_settings() == before, "in the same files"
    for kind, held in zip(("ecdsa", "rsa"), names, strict=True):
        now = certificate(pki, f"servers/csms.test-{kind}.pem").extensions
        wanted = held.get_extension_for_class(x509.SubjectAlternativeName)
        assert now.get_extension_for_class(x509.SubjectAlternativeName) == wanted
    StationTls(before)


def test_revoking_a_subject_revokes_all_of_it_and_nothing_else(pki: Pki) -> None:
    mine = {pki.issue_station("SN-1", NOW_S).number for _ in range(2)}
    pki.issue_station("SN-2", NOW_S)
    assert {one.number for one in pki.revoke(NOW_S, kind="station", subject="SN-1")} == mine
    assert crl(pki) == {int(number, 16) for number in mine}
    pki.issue_station("SN-3", NOW_S)
    assert crl(pki) == {int(number, 16) for number in mine}, "later changes keep the list"


def test_what_is_not_there_cannot_be_renewed_or_revoked(pki: Pki) -> None:
    root = next(one for one in pki.issued() if one.kind == "root")
    acts: list[Callable[[], object]] = [
        lambda: pki.renew("station", "SN-9", NOW_S), lambda: pki.renew("root", root.subject, NOW_S),
        lambda: pki.revoke(NOW_S, kind="station", subject="SN-9"), lambda: pki.revoke(NOW_S, number="ff"),
        lambda: pki.revoke(NOW_S, number=root.number), lambda: pki.revoke(NOW_S),
        lambda: pki.revoke(NOW_S, kind="root", subject=root.subject),
    ]  # fmt: skip
    for act in acts:
        with pytest.raises(CredentialError, match="gridtide pki list"):
            act()


def test_commands_and_a_running_site_may_change_it_at_once(pki: Pki) -> None:
    others = [Pki(pki.folder) for _ in range(4)]
    threads = [threading.Thread(target=one.issue_station, args=(f"SN-{n}", NOW_S)) for n, one in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.subject for one in pki.issued() if one.kind == "station"} == {"SN-0", "SN-1", "SN-2", "SN-3"}


def test_expiries_tell_the_latest_of_each_and_when_to_raise_the_alarm(pki: Pki) -> None:
    pki.issue_station("SN-1", NOW_S, days=5.0)
    pki.renew("station", "SN-1", NOW_S, keep_old=True, days=40.0)
    left = {one.subject: one.days_left for one in pki.expiries(NOW_S + 10.0 * DAY_S)}
    assert left["station SN-1"] == pytest.approx(30.0)
    assert left["server csms.test"] == pytest.approx(387.0)
    pki.revoke(NOW_S, kind="station", subject="SN-1")
    assert "station SN-1" not in {one.subject for one in pki.expiries(NOW_S)}
    alarms = [Expiry("x", days).alarm_days for days in (31.0, 30.0, 8.0, 7.0, 1.5, 1.0, 0.0, -3.0)]
    assert alarms == [None, 30, 30, 7, 7, 1, 1, 1]
    seen = StationTls(pki.tls_settings()).expiries(NOW_S)
    assert [round(one.days_left) for one in seen] == [397, 397, 3650, 397]


# --- signing requests (A02, A03) --------------------------------------------------------------------------------------
EC_KEY = ec.generate_private_key(ec.SECP256R1())


SIGNED_WITH_SHA1 = """
-----BEGIN CERTIFICATE REQUEST-----
MIHZMIGBAgEAMB8xDjAMBgNVBAoMBVRlc3RzMQ0wCwYDVQQDDARTTi0xMFkwEwYH
KoZIzj0CAQYIKoZIzj0DAQcDQgAE6j6IKJiGMj33obRmIg+1k9jrPz6aDtYThKX2
tv2DAOP4COXvFOUz6yR8QY4eHySUGlPg5UdyOJcSi1LhgCiTMaAAMAkGByqGSM49
BAEDSAAwRQIgXdGVALuwex4xrOIismzgV2tSWHvGqt590gSd5T9kff0CIQDfW4Pg
7fR2gJg2EV65fwEYPSrwPtjjncXB+RgQsVOvGg==
-----END CERTIFICATE REQUEST-----
"""
"""P-256, made once by OpenSSL's command: the library used here no longer signs so."""


def csr(key: object = EC_KEY, *, common: tuple[str, ...] = ("SN-1",), operator: tuple[str, ...] = ("Tests",)) -> str:
    names = [x509.NameAttribute(NameOID.COMMON_NAME, one) for one in common]
    names += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in operator]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    signed = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def test_a_proper_request_is_signed(pki: Pki, tmp_path: Path) -> None:
    chain = pki.sign_csr(csr(), "SN-1", NOW_S)
    assert len(chain) <= 10_000
    leaf, root = x509.load_pem_x509_certificates(chain.encode())
    leaf.verify_directly_issued_by(root)
    assert root == certificate(pki, "station-root.crt")
    assert leaf.public_key() == EC_KEY.public_key()
    assert (name(leaf, NameOID.COMMON_NAME), name(leaf, NameOID.ORGANIZATION_NAME)) == (["SN-1"], ["Tests"])
    assert f"{leaf.serial_number:x}" in {one.number for one in pki.issued() if one.subject == "SN-1"}
    pki.revoke(NOW_S, number=f"{leaf.serial_number:x}")
    assert crl(pki) == {leaf.serial_number}


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP224R1()),
                                 ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP521R1())])  # fmt: skip
def test_every_key_of_112_bit_and_more_is_signed(shared: Pki, key: object) -> None:
    assert "BEGIN CERTIFICATE" in shared.sign_csr(csr(key), "SN-1", NOW_S)


def tampered() -> str:
    der = bytearray(x509.load_pem_x509_csr(csr().encode()).public_bytes(serialization.Encoding.DER))
    der[-5] ^= 1
    return ssl.DER_cert_to_PEM_cert(bytes(der)).replace("CERTIFICATE", "CERTIFICATE REQUEST")


def swapped() -> str:
    """The right names over a key that the sender does not hold."""
    der = x509.load_pem_x509_csr(csr().encode()).public_bytes(serialization.Encoding.DER)
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    form = (serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    der = der.replace(EC_KEY.public_key().public_bytes(*form), other.public_bytes(*form))
    return ssl.DER_cert_to_PEM_cert(der).replace("CERTIFICATE", "CERTIFICATE REQUEST")


@pytest.mark.parametrize(
    ("request_pem", "error"),
    [
        ("", CsrUnreadableError),
        ("hello", CsrUnreadableError),
        ("x" * 5_501, CsrUnreadableError),
        (csr() + "\n" * 6_000, CsrUnreadableError),
        (csr()[:200], CsrUnreadableError),
        (csr().replace("REQUEST", "THING"), CsrUnreadableError),
        ("\ud800", CsrUnreadableError),
        (tampered(), CsrSignatureError),
        (swapped(), CsrSignatureError),
        (SIGNED_WITH_SHA1, CsrSignatureError),
        (csr(common=("SN-2",)), CsrSubjectError),
        (csr(common=("sn-1",)), CsrSubjectError),
        (csr(common=("SN-1 ",)), CsrSubjectError),
        (csr(common=("SN-1", "SN-1")), CsrSubjectError),
        (csr(common=("SN-1", "SN-2")), CsrSubjectError),
        (csr(common=()), CsrSubjectError),
        (csr(operator=("Others",)), CsrSubjectError),
        (csr(operator=()), CsrSubjectError),
        (csr(operator=("Tests", "Others")), CsrSubjectError),
        (csr(rsa.generate_private_key(65537, 1024)), CsrKeyError),
        (csr(ec.generate_private_key(ec.SECP192R1())), CsrKeyError),
        (csr(dsa.generate_private_key(2048)), CsrKeyError),
    ],
)
def test_a_broken_request_is_refused_by_kind_and_leaves_nothing(
    shared: Pki, request_pem: str, error: type[CsrError]
) -> None:
    before = (shared.issued(), sorted((shared.folder / "stations").iterdir()))
    with pytest.raises(error, match=r"^csr"):
        shared.sign_csr(request_pem, "SN-1", NOW_S)
    assert (shared.issued(), sorted((shared.folder / "stations").iterdir())) == before


def test_a_key_of_another_kind_is_refused() -> None:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = builder.sign(ed25519.Ed25519PrivateKey.generate(), None)
    with pytest.raises(CsrKeyError, match="another kind"):
        check_csr(signed.public_bytes(serialization.Encoding.PEM).decode(), "SN-1", "Tests")


def test_a_station_without_a_registered_serial_gets_nothing(shared: Pki) -> None:
    with pytest.raises(CsrSubjectError):
        shared.sign_csr(csr(common=()), "", NOW_S)


def test_no_mutation_of_a_request_is_signed_or_escapes_as_another_error() -> None:
    der = x509.load_pem_x509_csr(csr().encode()).public_bytes(serialization.Encoding.DER)
    luck = random.Random(4)
    for _ in range(3_000):
        changed = bytearray(der)
        for _ in range(luck.choice((1, 1, 2, 5))):
            changed[luck.randrange(len(changed))] = luck.randrange(256)
        if luck.random() < 0.1:
            changed = changed[: luck.randrange(len(changed))]
        if bytes(changed) == der:
            continue
        pem = ssl.DER_cert_to_PEM_cert(bytes(changed)).replace("CERTIFICATE", "CERTIFICATE REQUEST")
        with pytest.raises(CsrError):
            check_csr(pem, "SN-1", "Tests")


# --- files of an operator's own ---------------------------------------------------------------------------------------
def test_two_pairs_must_be_of_two_kinds(shared: Pki) -> None:
    ecdsa, rsa_pair = shared.tls_settings().pairs
    check_pairs((ecdsa,))
    check_pairs((rsa_pair, ecdsa))
    for pairs, words in (((ecdsa, ecdsa), "same kind"), ((), "no server certificate")):
        with pytest.raises(CredentialError, match=words):
            check_pairs(pairs)


def test_weak_missing_and_foreign_files_stop_the_start(pki: Pki, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    weak, locked = tmp_path / "weak.pem", tmp_path / "locked.pem"
    key = rsa.generate_private_key(65537, 1024)
    self_signed = (
        x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([])).public_key(key.public_key())
        .serial_number(1).not_valid_before(datetime(2020, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    weak.write_bytes(self_signed.public_bytes(form[0]) + key.private_bytes(*form, serialization.NoEncryption()))
    good = pki.tls_settings().pairs[0]
    secret = EC_KEY.private_bytes(*form, serialization.BestAvailableEncryption(b"x"))
    locked.write_bytes(secret)
    for path in (weak, locked):
        path.chmod(0o600)
    foreign = Pki.init(tmp_path / "foreign", NOW_S, operator="Tests", rsa_bits=2048)  # the same names over other keys
    roots = (pki.folder / "station-root.crt",)
    cases: list[tuple[TlsSettings, str]] = [
        (TlsSettings(pairs=(KeyPair(weak),)), "too weak"),
        (TlsSettings(pairs=(KeyPair(tmp_path / "none.pem"),)), "No such file"),
        (TlsSettings(pairs=(KeyPair(good.certificate, locked),)), "unencrypted"),
        (TlsSettings(pairs=(good,), station_roots=(tmp_path / "none.crt",)), "No such file"),
        (TlsSettings(pairs=(good,), station_roots=(pki.folder / "station-root.key",)), "no readable certificate"),
        (TlsSettings(pairs=(good,), station_roots=roots, crls=foreign.tls_settings().crls), "not signed by"),
        (TlsSettings(pairs=(good,), crls=(pki.folder / "station-root.crl",)), "not signed by"),
        (TlsSettings(pairs=(good,), crls=(good.certificate,)), "no readable revocation list"),
    ]  # fmt: skip
    for settings, words in cases:
        with pytest.raises(CredentialError, match=words):
            StationTls(settings)


# --- the command ------------------------------------------------------------------------------------------------------
def run(home: Path, *words: str) -> tuple[int, str, str]:
    app = typer.Typer()
    app.add_typer(commands, name="pki")
    done = CliRunner().invoke(app, ["pki", *words, "--folder", str(home / "pki")])
    return done.exit_code, done.stdout, done.stderr


def test_the_command_walks_a_certificate_through_its_life(tmp_path: Path) -> None:
    assert run(tmp_path, "list")[0] == 2
    assert run(tmp_path, "init", "--name", "csms.test", "--operator", "Tests")[0] == 0
    code, _, said = run(tmp_path, "init")
    assert (code, "holds a PKI already" in said) == (2, True)
    assert run(tmp_path, "issue", "--station", "SN-1")[0] == 0
    assert run(tmp_path, "renew", "--station", "SN-1", "--keep-old")[0] == 0
    first = json.loads(run(tmp_path, "list", "--json")[1])[-2]
    assert (first["subject"], first["status"]) == ("SN-1", "valid")
    assert first["days_left"] == pytest.approx(397.0, abs=0.1)
    assert first["not_after_s"] == pytest.approx(time.time() + 397 * DAY_S, abs=60.0)
    assert "Revoked station SN-1" in run(tmp_path, "revoke", "--number", first["number"])[1]
    rows = json.loads(run(tmp_path, "list", "--json")[1])
    assert [(row["status"], row["number"] == first["number"]) for row in rows[-2:]] == [
        ("revoked", True),
        ("valid", False),
    ]
    assert "revoked" in run(tmp_path, "list")[1]
    assert run(tmp_path, "revoke", "--station", "SN-1")[0] == 0
    assert "already" in run(tmp_path, "revoke", "--station", "SN-1")[1]


@pytest.mark.parametrize("words", [["issue"], ["issue", "--station", "a", "--server", "b"],
                                   ["renew"], ["revoke"],
                                   ["renew", "--station", "SN-9"],
                                   ["issue", "--server", "a b"], ["issue", "--station", "\n"]])  # fmt: skip
def test_the_command_says_what_is_missing(tmp_path: Path, words: list[str]) -> None:
    Pki.init(tmp_path / "pki", time.time(), rsa_bits=2048)
    code, said, why = run(tmp_path, *words)
    assert (code, said) == (2, "")
    assert len(why.strip()) > 20


def test_another_tool_agrees(shared: Pki) -> None:
    """OpenSSL's own command, where it is installed, reads chain and list as we mean them."""
    try:
        subprocess.run(["openssl", "version"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl command here")
    issued = shared.issue_station("SN-1", NOW_S)
    check = [
        "openssl", "verify", "-attime", str(int(NOW_S) + 60), "-purpose", "sslclient", "-x509_strict", "-crl_check",
        "-CAfile", str(shared.folder / "station-root.crt"), "-CRLfile", str(shared.folder / "station-root.crl"),
        str(shared.folder / issued.file),
    ]  # fmt: skip
    good = subprocess.run(check, check=False, capture_output=True, text=True)
    assert good.returncode == 0, good.stderr
    shared.revoke(NOW_S, kind="station", subject="SN-1")
    gone = subprocess.run(check, check=False, capture_output=True, text=True)
    assert "certificate revoked" in gone.stdout + gone.stderr
