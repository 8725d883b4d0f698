"""Certificates: what stations ask of us about them (blocks A and M).

A request to sign is accepted only when it is signed: read, its own signature and key checked, naming exactly the station's
registered serial number and its operator. What nobody is connected to answer is answered with Failed, never with a guess.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import msgspec
import structlog

from gridtide.run.csms.contracts import ContractJudge, ContractStatus, contract_status
from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.keeping import as_json, tell, without_none
from gridtide.run.csms.station import Station
from gridtide.run.pki_csr import CsrError, check_csr
from gridtide.wire.ocpp import codec
from gridtide.wire.ocpp.errors import LocalProtocolError
from gridtide.wire.ocpp.events import CallAnswered, CallFailed, CallReceived
from gridtide.wire.ocpp.structs import WireStruct

SIGNING, CERTIFICATE = "signing", "certificate"
"""Kinds: the newest request to sign by certificate type; the journal of what became of certificates."""
COMBINED: Final = "Combined"
"""`kind` given to the signer where the station names none: one certificate for OCPP and for ISO 15118 (A02)."""
SIGN_WAIT_S: Final = 20.0
OPEN_S: Final = 60.0
"""A signed certificate whose delivery was not answered by then no longer keeps the station from asking again."""
EVERY_S: Final = 10.0
"""Requests to sign of one station are looked at so often; stations that repeat every 250 ms exist."""
MAX_CHAIN: Final = 10_000

SignPort: TypeAlias = Callable[[str, str, str], str | Awaitable[str | None] | None]
"""(CSR as PEM, serial number, kind) -> chain as PEM, or None if this kind is not signed; may raise ValueError with the reason.
It may be awaitable, so that it can work in a thread or ask a certification authority."""
OcspPort: TypeAlias = Callable[[dict[str, Any]], Awaitable[str | None]]
"""OCSPRequestData as plain values -> the responder's answer, base64 of DER; None if there is none. Whoever connects it checks
`responderURL` against the allowed addresses first: the station names it."""
ChainPort: TypeAlias = Callable[[dict[str, Any]], Awaitable[tuple[str, float] | None]]
"""CertificateStatusRequestInfo -> (Good, Revoked, Unknown or Failed, next update as UTC epoch seconds), or None."""
EvCertificatePort: TypeAlias = Callable[[dict[str, Any]], Awaitable[dict[str, Any] | None]]
"""Get15118EVCertificate request -> fields of the answer, or None."""
log = structlog.get_logger(__name__)


class Certificates:
    """Answers SignCertificate, Get15118EVCertificate, GetCertificateStatus and GetCertificateChainStatus."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self.effects = desk, Effects(desk)
        self._sign: SignPort | None = None
        self._operator = ""
        self.ocsp: OcspPort | None = None
        self.chain: ChainPort | None = None
        self.ev_certificate: EvCertificatePort | None = None
        self.judge_contract: ContractJudge | None = None
        self._looked_s: dict[str, float] = {}
        self._open_s: dict[str, float] = {}
        act = self.effects.act
        self.actions: dict[str, Act] = {
            "SignCertificate": act(self._sign_certificate),
            "Get15118EVCertificate": act(self._ev_certificate),
            "GetCertificateStatus": act(self._status),
            "GetCertificateChainStatus": act(self._chain_status),
        }

    def connect(self, sign: SignPort, operator: str) -> None:
        """Who signs, and the organisation a station's request must name."""
        self._sign, self._operator = sign, operator

    def contract_status(self, message: Any) -> tuple[ContractStatus | None, bool]:
        """certificateStatus for an Authorize message and whether its token may charge; (None, True) without a certificate."""
        return contract_status(message, self._desk.clock.wall(), self.judge_contract)

    # --- signing ----------------------------------------------------------------------------------------------------
    async def _sign_certificate(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        name, now_s = station.provision.identity, self._desk.clock.monotonic()
        kind = str(message.certificateType or COMBINED)
        if now_s - self._open_s.get(name, -OPEN_S) < OPEN_S:
            return _rejected(station, "Busy", "the certificate before is on its way")
        if now_s - self._looked_s.get(name, -EVERY_S) < EVERY_S:
            return _rejected(station, "TooOften", f"wait {EVERY_S:.0f} s between requests")
        self._looked_s[name] = now_s
        try:
            chain = await self._signed(station, message.csr, kind)
        except ValueError as refusal:
            await self._refuse(station, kind, str(refusal))
            return _rejected(station, "InvalidCSR" if isinstance(refusal, CsrError) else "NotSigned", str(refusal))
        told = without_none({"csr": message.csr, "requestId": getattr(message, "requestId", None), "state": "signed"})
        await self._desk.store.put_records(name, SIGNING, {kind: as_json(told)}, self._desk.clock.wall())
        self._open_s[name] = now_s
        # After the answer: the station expects the certificate only then.
        asyncio.get_running_loop().call_soon(self._deliver, station, message, kind, chain)
        return reply(station, "SignCertificate", status="Accepted")

    async def _signed(self, station: Station, csr: str, kind: str) -> str:
        """The chain; raises ValueError with the reason where nothing is signed."""
        entry = self._desk.registry.stations.get(station.provision.identity)
        if self._sign is None:
            raise ValueError("no certification authority is connected")
        if entry is None or not entry.serial:
            raise ValueError("the station is registered without a serial number")
        check_csr(csr, entry.serial, self._operator)
        made = self._sign(csr, entry.serial, kind)
        try:
            chain = await asyncio.wait_for(made, SIGN_WAIT_S) if inspect.isawaitable(made) else made
        except TimeoutError:
            raise ValueError("the certification authority did not answer in time") from None
        if chain is None:
            raise ValueError(f"certificates of type {kind} are not signed here")
        if len(chain) > MAX_CHAIN:
            raise ValueError(f"the chain has {len(chain)} characters: OCPP allows {MAX_CHAIN}")
        return chain

    async def _refuse(self, station: Station, kind: str, reason: str) -> None:
        await self._journal(station, {"what": "not signed", "type": kind, "reason": reason[:500]})
        tell(self._desk, station, "certificate_refused", f"A certificate ({kind}) was not signed: {reason}.")

    def _deliver(self, station: Station, message: Any, kind: str, chain: str) -> None:
        name, live = station.provision.identity, station.accepted
        fields: dict[str, Any] = {"certificateChain": chain, "certificateType": message.certificateType}
        if station.version == "2.1":
            fields["requestId"] = getattr(message, "requestId", None)
        request = msgspec.convert(
            without_none(fields), codec.payload_type(station.version, "CertificateSigned", "request")
        )

        def done(outcome: CallAnswered | CallFailed) -> None:
            self._open_s.pop(name, None)
            self.effects.spawn(station, lambda: self._delivered(station, kind, outcome))

        try:
            if live is not None:
                live.post("CertificateSigned", request, done)
                return
        except LocalProtocolError as error:
            log.warning("certificate_not_sent", station=name, error=str(error))
        # Gone meanwhile: the station asks again.
        self._open_s.pop(name, None)

    async def _delivered(self, station: Station, kind: str, outcome: CallAnswered | CallFailed) -> None:
        state = "undelivered"
        if isinstance(outcome, CallAnswered):
            state = "accepted" if str(getattr(outcome.payload, "status", "")) == "Accepted" else "refused"
        name, rows = station.provision.identity, {kind: as_json({"state": state})}
        await self._desk.store.put_records(name, SIGNING, rows, self._desk.clock.wall())
        await self._journal(station, {"what": state, "type": kind})
        if state == "accepted":
            tell(self._desk, station, "certificate_signed", f"The station took its new certificate ({kind}).")
        else:
            text = f"The station did not take its new certificate ({kind}: {state}); it keeps the old one."
            tell(self._desk, station, "certificate_refused", text)

    async def _journal(self, station: Station, entry: dict[str, Any]) -> None:
        name, now_s = station.provision.identity, self._desk.clock.wall()
        await self._desk.store.add_journal(name, CERTIFICATE, now_s, as_json(entry))

    # --- ISO 15118 and revocation -----------------------------------------------------------------------------------
    async def _ev_certificate(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        fields = await self._ask(self.ev_certificate, message)
        if fields is None:
            fields = {"status": "Failed", "exiResponse": "", "statusInfo": {"reasonCode": "NotConnected"}}
        return reply(station, "Get15118EVCertificate", **fields)

    async def _status(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        told = await self._ask(self.ocsp, message.ocspRequestData)
        if told is None:
            info = {"reasonCode": "NoResponder"}
            return reply(station, "GetCertificateStatus", status="Failed", statusInfo=info)
        return reply(station, "GetCertificateStatus", status="Accepted", ocspResult=told)

    async def _chain_status(self, station: Station, message: Any, _call: CallReceived) -> WireStruct:
        found = []
        for item in message.certificateStatusRequests:
            bare = msgspec.structs.replace(item.certificateHashData, customData=None)
            status, next_s = await self._ask(self.chain, item) or ("Failed", self._desk.clock.wall())
            told = {"certificateHashData": msgspec.to_builtins(bare), "source": item.source, "status": status}
            found.append({**told, "nextUpdate": datetime.fromtimestamp(next_s, UTC)})
        return reply(station, "GetCertificateChainStatus", certificateStatus=found)

    async def _ask(self, port: Callable[[dict[str, Any]], Awaitable[Any]] | None, question: Any) -> Any:
        """What a port answers in time; None where none is connected."""
        if port is None:
            return None
        try:
            return await asyncio.wait_for(port(msgspec.json.decode(as_json(question, 65_536))), SIGN_WAIT_S)
        except (TimeoutError, OSError, ValueError) as error:
            log.warning("certificate_port_failed", error=str(error))
            return None


def _rejected(station: Station, reason: str, text: str) -> WireStruct:
    info = {"reasonCode": reason, "additionalInfo": text[:500]}
    return reply(station, "SignCertificate", status="Rejected", statusInfo=info)
