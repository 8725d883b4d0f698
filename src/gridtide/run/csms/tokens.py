"""Authorisation: what a presented idToken may do, and what its driver usually needs."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from gridtide.run.conversation import Answer
from gridtide.run.csms.desk import Act, Desk, reply
from gridtide.run.csms.registry import Judged
from gridtide.run.csms.station import Station
from gridtide.wire.ocpp.events import CallReceived

CHARGE_ONLY = ["DC", "AC_single_phase", "AC_two_phase", "AC_three_phase"]
BIDIRECTIONAL = ["DC_BPT", "AC_BPT"]

JudgeContract: TypeAlias = Callable[[Any], tuple[str | None, bool]]


class Tokens:
    """Answers Authorize, and judges the token of a transaction (C01, C07, Q01)."""

    def __init__(self, desk: Desk, contract_status: JudgeContract = lambda _message: (None, True)) -> None:
        """`contract_status` judges the certificate an Authorize message shows (C07)."""
        self._desk, self._contract_status = desk, contract_status
        self.actions: dict[str, Act] = {"Authorize": self._authorize}

    def judge(self, token: Any) -> Judged:
        """Whether an IdTokenType may charge now."""
        return self._desk.registry.judge(token.idToken, str(token.type), self._desk.clock.wall())

    def present(self, station: Station, token: Any) -> Judged:
        """The same of a token that somebody shows now; one that may not charge is kept for the operator to see."""
        judged = self.judge(token)
        self._note(station, token, judged)
        return judged

    def _note(self, station: Station, token: Any, judged: Judged) -> None:
        desk = self._desk
        if judged.status != "Accepted" and token.idToken and not desk.erased.hides(token.idToken):
            name = station.provision.identity
            desk.registry.refused.note(name, token.idToken, str(token.type), judged.status, desk.clock.wall())

    def info(self, judged: Judged) -> dict[str, Any]:
        """IdTokenInfoType of a judged token."""
        return token_info(judged)

    def transfers(self, station: Station, judged: Judged) -> list[str]:
        """EnergyTransferMode values this token may use at this station (2.1); none for a token that may not charge."""
        if judged.status != "Accepted":
            return []
        may = judged.entry is None or judged.entry.may_discharge
        return CHARGE_ONLY + (BIDIRECTIONAL if may and station.may_ever_discharge() else [])

    def _authorize(self, station: Station, message: Any, _call: CallReceived) -> Answer:
        judged = self.judge(message.idToken)
        status, is_sound = self._contract_status(message)
        if not is_sound and judged.status == "Accepted":
            judged = Judged("Invalid", judged.entry)
        self._note(station, message.idToken, judged)
        fields: dict[str, Any] = {"idTokenInfo": self.info(judged)}
        modes = self.transfers(station, judged)
        if station.version == "2.1" and modes:
            fields["allowedEnergyTransfer"] = modes
        if status is not None:
            fields["certificateStatus"] = status
        return reply(station, "Authorize", **fields)


def local_list(entries: Iterable[Judged]) -> list[dict[str, Any]]:
    """AuthorizationData of every token that is registered, for SendLocalList (D01)."""
    made = []
    for judged in entries:
        if judged.entry is not None:
            token = {"idToken": judged.entry.id_token, "type": judged.entry.type}
            made.append({"idToken": token, "idTokenInfo": token_info(judged)})
    return made


def token_info(judged: Judged) -> dict[str, Any]:
    """IdTokenInfoType of a judged token: status, its group, and until when a station may rely on it offline."""
    info: dict[str, Any] = {"status": judged.status}
    entry = judged.entry
    if entry is not None and entry.group:
        info["groupIdToken"] = {"idToken": entry.group, "type": "Central"}
    if entry is not None and entry.expires_s is not None and judged.status == "Accepted":
        info["cacheExpiryDateTime"] = _instant(entry.expires_s)
    return info


def _instant(at_s: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_s, UTC).isoformat()
