"""`gridtide run` before anything is opened: whose passwords are issued, which addresses are told, what is refused."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gridtide.app.cli import app
from gridtide.app.client import SiteClient, SiteError
from gridtide.app.commands.check import _remote
from gridtide.app.commands.run import _provision, ways_of
from gridtide.app.config import SiteConfig, load_site
from gridtide.app.running import Face

SITE = """
[site]
name = "Depot"
timezone = "Europe/Berlin"
[grid]
transformer_kw = 800
[peak]
limit_kw = 400
[meter]
host = "127.0.0.1"
preset = "janitza_umg"
[[stations]]
id = "one"
charge_kw = 11
[[stations]]
id = "three"
charge_kw = 11
security_profile = 3
serial = "SN-3"
[server]
ocpp_tls = "127.0.0.1:19443"
web = "127.0.0.1:18083"
"""


def site(folder: Path, more: str = "") -> Path:
    file = folder / "site.toml"
    file.write_text(SITE + more)
    return file


def loaded(folder: Path, more: str = "") -> SiteConfig:
    return load_site(site(folder, more))


def test_a_station_with_a_certificate_gets_no_password(tmp_path: Path) -> None:
    _provision(loaded(tmp_path), Face(host="127.0.0.1", port=0, home=tmp_path))
    lines = (tmp_path / "station-passwords.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["one"]


def test_both_ways_in_are_told(tmp_path: Path) -> None:
    assert ways_of(loaded(tmp_path), "127.0.0.1:9000") == [
        "ws://127.0.0.1:9000/ocpp/<id>",
        "wss://127.0.0.1:19443/ocpp/<id> (security profiles 2 and 3)",
    ]


@pytest.mark.parametrize(("mode", "words"), [(0o644, "chmod 600"), (0o600, "do not work")])
def test_a_key_of_the_page_that_cannot_be_used_is_a_matter_of_files(tmp_path: Path, mode: int, words: str) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("no key")
        (tmp_path / name).chmod(mode)
    file = site(tmp_path, 'tls_cert = "cert.pem"\ntls_key = "key.pem"\n')
    told = CliRunner().invoke(app, ["run", str(file), "--home", str(tmp_path / "home"), "--exit-after", "0"])
    assert told.exit_code == 2, told.output
    assert words in told.stderr
    assert "Traceback" not in told.stderr
    assert not (tmp_path / "gridtide.db").exists()


def test_missing_certificates_are_told_before_the_site_is_run(tmp_path: Path) -> None:
    """With the folder: left out, `pki init` would make one where the site does not look."""
    file = str(site(tmp_path))
    assert f"pki init --name HOST --folder {tmp_path / 'pki'}" in CliRunner().invoke(app, ["check", file]).stdout
    (tmp_path / "pki").mkdir()
    assert "pki init" not in CliRunner().invoke(app, ["check", file]).stdout


def test_https_needs_no_warning_of_missing_encryption(tmp_path: Path) -> None:
    remote = 'allow_remote = true\nnames = ["site.example"]\n'
    text = SITE.replace('web = "127.0.0.1:18083"', 'web = "0.0.0.0:8443"') + remote
    (tmp_path / "a.toml").write_text(text)
    assert "without encryption" in " ".join(_remote(load_site(tmp_path / "a.toml")))
    (tmp_path / "b.toml").write_text(text + 'tls_cert = "cert.pem"\ntls_key = "key.pem"\n')
    assert _remote(load_site(tmp_path / "b.toml")) == []


def test_a_certificate_nobody_trusts_has_its_own_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    import http.client
    import ssl

    def refuse(*_: object, **__: object) -> None:
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message = "unable to get local issuer certificate"
        raise error

    monkeypatch.setattr(http.client.HTTPConnection, "request", refuse)
    with pytest.raises(SiteError, match="SSL_CERT_FILE") as found:
        SiteClient("https://127.0.0.1:1").view()
    assert "unable to get local issuer" in str(found.value)


def test_a_store_that_cannot_be_opened_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDTIDE_HOME", str(tmp_path / "home"))
    (tmp_path / "a.db").mkdir()
    file = site(tmp_path, '[store]\npath = "a.db"\n')
    told = CliRunner().invoke(app, ["run", str(file)])
    assert told.exit_code == 1
    assert "cannot be opened: [Errno 21]" in told.output
    assert "Traceback" not in told.output
    assert isinstance(told.exception, SystemExit)
