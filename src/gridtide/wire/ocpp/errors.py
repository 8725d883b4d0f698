"""Error codes of the OCPP RPC layer and the two kinds of protocol error."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

ErrorCode: TypeAlias = Literal[
    "FormatViolation",
    "GenericError",
    "InternalError",
    "MessageTypeNotSupported",
    "NotImplemented",
    "NotSupported",
    "OccurrenceConstraintViolation",
    "PropertyConstraintViolation",
    "ProtocolError",
    "RpcFrameworkError",
    "SecurityError",
    "TypeConstraintViolation",
]
Answer: TypeAlias = Literal["call_error", "call_result_error", "none"]

ERROR_CODES: Final[frozenset[str]] = frozenset(get_args(ErrorCode))
NO_ID: Final = "-1"
"""Message id of an error about a frame whose own id could not be read."""

ECHO_MAX_CHARS: Final = 255


class LocalProtocolError(Exception):
    """Our own side broke the protocol: a bug here, never the peer's fault."""


class RemoteProtocolError(Exception):
    """The peer sent something the protocol does not allow.

    `code` is the OCPP error code, `description` at most 255 characters, `message_id` the id to answer to (`"-1"` when
    unreadable), `answer` the kind of frame that may answer it (an error is never answered by an error) and
    `message_type` the frame's type number, 0 when unknown.
    """

    def __init__(
        self,
        code: ErrorCode,
        description: str,
        message_id: str = NO_ID,
        answer: Answer = "call_error",
        message_type: int = 0,
    ) -> None:
        """Hold the parts; the description is cut to 255 characters."""
        super().__init__(f"{code}: {description[:ECHO_MAX_CHARS]}")
        self.code: ErrorCode = code
        self.description = description[:ECHO_MAX_CHARS]
        self.message_id = message_id
        self.answer: Answer = answer
        self.message_type = message_type


def error_code_of(text: str) -> str:
    """The error code a peer sent, with the one-r spelling of OCPP 1.6 read as the proper one."""
    return "OccurrenceConstraintViolation" if text == "OccurenceConstraintViolation" else text
