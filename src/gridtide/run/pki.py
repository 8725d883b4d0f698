"""A small PKI for tests and first installations, in a folder of its own: roots, server certificates, station certificates,
revocation lists and an index of all that was issued. Only the owner can enter the folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from msgspec import structs

from gridtide.run.credentials import CredentialError, read_secret, write_secret
from gridtide.run.doors import TlsVersion
from gridtide.run.pki_csr import check_csr
from gridtide.run.pki_index import (
    Index,
    Issued,
    Kind,
    check_host_name,
    check_text,
    issued_of,
    names_of,
    server_file,
    station_file,
)
from gridtide.run.pki_make import (
    Signer,
    certificate_pem,
    ecdsa_key,
    key_pem,
    make_crl,
    make_root,
    make_server,
    make_station,
    rsa_key,
)
from gridtide.run.tls import Expiry, KeyPair, TlsSettings, check_secret_file, check_secret_folder

END_DAYS = 397.0
MAX_CHAIN_CHARS = 10_000
"""OCPP's limit for `certificateChain`."""
ECDSA_ROOT, RSA_ROOT, STATION_ROOT = "csms-root-ecdsa", "csms-root-rsa", "station-root"
CSMS_ROOTS = "csms-roots.pem"
"""Both roots of the server, for the stations to trust."""
_INDEX = "index.json"


class Pki:
    """The folder. What changes it takes a lock, so that a running site and a command may use it at once; it computes keys and
    writes files: from a running loop call it in a thread."""

    def __init__(self, folder: Path) -> None:
        """Open a folder that `init` made; raises CredentialError when it is none or others can read it."""
        self.folder = folder
        check_secret_file(folder / _INDEX)
        self._read()

    @classmethod
    def init(
        cls,
        folder: Path,
        now_s: float,
        *,
        operator: str = "gridtide",
        names: tuple[str, ...] = ("localhost",),
        rsa_bits: int = 3072,
    ) -> "Pki":
        """Make roots, empty revocation lists and the server's two certificates for `names` (the first becomes the common
        name). Raises CredentialError where there is one already, ValueError on a name that cannot be one."""
        for name in names:
            check_host_name(name)
        check_text(operator, "operator")
        if rsa_bits < 2048:
            raise ValueError(f"rsa_bits is {rsa_bits}: give 2048 or more")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_secret_folder(folder)
        if (folder / _INDEX).exists():
            raise CredentialError(f"{folder} holds a PKI already: use another folder, or `gridtide pki renew`")
        for part in (folder / "servers", folder / "stations"):
            part.mkdir(mode=0o700, exist_ok=True)
        index = Index(operator, names, [])
        for name, key in ((ECDSA_ROOT, ecdsa_key()), (RSA_ROOT, rsa_key(rsa_bits)), (STATION_ROOT, ecdsa_key())):
            root = make_root(f"{operator} {name}"[:64], operator, key, now_s)
            write_secret(folder / f"{name}.key", key_pem(key))
            write_secret(folder / f"{name}.crt", certificate_pem(root.certificate))
            index.issued.append(issued_of(root.certificate, name, "root", name, f"{name}.crt"))
        write_secret(
            folder / CSMS_ROOTS, b"".join((folder / f"{name}.crt").read_bytes() for name in (ECDSA_ROOT, RSA_ROOT))
        )
        write_secret(folder / _INDEX, msgspec.json.encode(index))
        made = cls(folder)
        made.issue_server(names, now_s, rsa_bits=rsa_bits)
        return made

    @property
    def operator(self) -> str:
        """The organisation that certificates of stations name."""
        return self._read().operator

    def tls_settings(self, *, minimum: TlsVersion = "1.3", conformance: bool = False) -> TlsSettings:
        """What a listener needs of this folder."""
        index = self._read()
        return TlsSettings(
            pairs=tuple(KeyPair(self.folder / server_file(index.server[0], kind)) for kind in ("ecdsa", "rsa")),
            station_roots=(self.folder / f"{STATION_ROOT}.crt",), crls=(self.folder / f"{STATION_ROOT}.crl",),
            operator=index.operator, minimum=minimum, conformance=conformance,
        )  # fmt: skip

    def issue_station(self, serial: str, now_s: float, *, days: float = END_DAYS) -> Issued:
        """A key and a certificate for the station with this serial number, beside each other in `stations/`."""
        check_text(serial, "serial")
        key = ecdsa_key()
        with self._changing(now_s) as index:
            by = self._signer(STATION_ROOT)
            certificate = make_station(serial, index.operator, key.public_key(), by, now_s, days)
            issued = issued_of(certificate, serial, "station", STATION_ROOT, station_file(serial, "crt"))
            write_secret(self.folder / station_file(serial, "key"), key_pem(key))
            write_secret(self.folder / issued.file, certificate_pem(certificate))
            index.issued.append(issued)
        return issued

    def issue_server(
        self, names: tuple[str, ...], now_s: float, *, days: float = END_DAYS, rsa_bits: int = 3072
    ) -> tuple[Issued, ...]:
        """An ECDSA and an RSA certificate for a server, each in one file with its key, so that a renewal is one step."""
        for name in names:
            check_host_name(name)
        made = []
        with self._changing(now_s) as index:
            for kind, root, key in (("ecdsa", ECDSA_ROOT, ecdsa_key()), ("rsa", RSA_ROOT, rsa_key(rsa_bits))):
                certificate = make_server(names, index.operator, key, self._signer(root), now_s, days)
                made.append(issued_of(certificate, names[0], "server", root, server_file(names[0], kind)))
                write_secret(self.folder / made[-1].file, certificate_pem(certificate) + key_pem(key))
            index.issued += made
        return tuple(made)

    def renew(
        self, kind: Kind, subject: str, now_s: float, *, keep_old: bool = False, days: float = END_DAYS
    ) -> tuple[Issued, ...]:
        """New key and certificate for a server or station; the old ones are revoked then, unless `keep_old` (a station needs its
        old one until it has the new). Raises CredentialError where there is nothing to renew."""
        old = [one for one in self._read().issued if (one.kind, one.subject) == (kind, subject)]
        if kind == "root" or not old:
            raise CredentialError(f"there is no {kind} certificate of {subject!r} to renew: see `gridtide pki list`")
        if kind == "station":
            made: tuple[Issued, ...] = (self.issue_station(subject, now_s, days=days),)
        else:
            held = x509.load_pem_x509_certificate((self.folder / old[-1].file).read_bytes())
            made = self.issue_server(names_of(held), now_s, days=days)
        if not keep_old:
            self._revoke({one.number for one in old}, now_s)
        return made

    def revoke(
        self, now_s: float, *, kind: Kind | None = None, subject: str = "", number: str = ""
    ) -> tuple[Issued, ...]:
        """Revoke one certificate by its number, or all of a subject; returns what was revoked now. Raises CredentialError
        where nothing fits; a root cannot be revoked."""
        number = number.lower().replace(":", "").lstrip("0")
        hit = {
            one.number for one in self._read().issued
            if one.kind != "root" and (one.number == number if number else (one.kind, one.subject) == (kind, subject))
        }  # fmt: skip
        if not hit:
            raise CredentialError(f"no certificate {number or repr(subject)} can be revoked: see `gridtide pki list`")
        return self._revoke(hit, now_s)

    def sign_csr(
        self, csr_pem: str, serial: str, now_s: float, *, operator: str | None = None, days: float = END_DAYS
    ) -> str:
        """Certify a station's own key (A02, A03): the chain as PEM of at most 10,000 characters. Raises a `CsrError`, and then
        nothing was signed. Earlier certificates of the station stay valid until they are revoked."""
        key = check_csr(csr_pem, serial, self._read().operator if operator is None else operator)
        with self._changing(now_s) as index:
            by = self._signer(STATION_ROOT)
            certificate = make_station(serial, operator or index.operator, key, by, now_s, days)
            name = station_file(serial, f"{certificate.serial_number:x}.crt")
            chain = certificate_pem(certificate) + certificate_pem(by.certificate)
            if len(chain) > MAX_CHAIN_CHARS:
                raise CredentialError(
                    f"the chain for {serial!r} has {len(chain)} characters: OCPP allows {MAX_CHAIN_CHARS}"
                )
            write_secret(self.folder / name, chain)
            index.issued.append(issued_of(certificate, serial, "station", STATION_ROOT, name))
        return chain.decode()

    def issued(self) -> tuple[Issued, ...]:
        """Everything issued, oldest first."""
        return tuple(self._read().issued)

    def expiries(self, now_s: float) -> list[Expiry]:
        """Days left of the latest certificate of every subject that was not revoked, for alarms at 30, 7 and 1 days."""
        latest: dict[tuple[str, str, str], Issued] = {}
        for one in self._read().issued:
            if one.revoked_at_s is None:
                latest[one.kind, one.subject, one.root] = one
        return [Expiry(f"{one.kind} {one.subject}", one.days_left(now_s)) for one in latest.values()]

    def _revoke(self, numbers: set[str], now_s: float) -> tuple[Issued, ...]:
        done = []
        with self._changing(now_s) as index:
            for place, one in enumerate(index.issued):
                if one.number in numbers and one.revoked_at_s is None:
                    index.issued[place] = structs.replace(one, revoked_at_s=now_s)
                    done.append(index.issued[place])
        return tuple(done)

    def _signer(self, root: str) -> Signer:
        check_secret_file(self.folder / f"{root}.key")
        key = serialization.load_pem_private_key(read_secret(self.folder / f"{root}.key"), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise CredentialError(f"{root}.key is no key of ours: restore it")
        return Signer(x509.load_pem_x509_certificate((self.folder / f"{root}.crt").read_bytes()), key)

    def _read(self) -> Index:
        path = self.folder / _INDEX
        try:
            return msgspec.json.decode(read_secret(path), type=Index)
        except msgspec.DecodeError as error:
            raise CredentialError(
                f"{path} is damaged ({error}): restore it, or make a new PKI in another folder"
            ) from None

    @contextmanager
    def _changing(self, now_s: float) -> Iterator[Index]:
        """The index under a lock; written afterwards with fresh revocation lists, unless something failed."""
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            index = self._read()
            yield index
            index.crl_number += 1
            # The index first: a list that misses a revocation is made again by the next change, the other way round it is lost.
            write_secret(self.folder / _INDEX, msgspec.json.encode(index))
            for root in (ECDSA_ROOT, RSA_ROOT, STATION_ROOT):
                over = [(int(one.number, 16), one.revoked_at_s) for one in index.issued
                        if one.root == root and one.revoked_at_s is not None]  # fmt: skip
                write_secret(self.folder / f"{root}.crl", make_crl(self._signer(root), over, index.crl_number, now_s))
