"""Where the log goes: one line an event on stderr, for people or as JSON lines; tracebacks are plain, so that no payload or secret
is printed with them, and what is named like a secret is left out."""

import atexit
import contextlib
import logging
import queue
import sys
import threading
from typing import Final, Literal, TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["text", "json"]
SECRETS: Final = frozenset({"password", "secret", "token", "authorization", "cookie", "key", "pin"})
"""A field is not printed when one of these is a word of its name, as in `id_token`."""
HIDDEN: Final = "(hidden)"
WAITING: Final = 2_000
"""Lines that wait for a slow reader; more are dropped."""
CLOSE_S: Final = 1.0


class LogSink:
    """Writes lines in a thread of its own: a full disk or a reader that does not read costs lines, never the site's loop."""

    def __init__(self, stream: TextIO, log_format: LogFormat = "text") -> None:
        """Takes over writing to `stream`, which stays open."""
        self._stream, self._format = stream, log_format
        self._lines: queue.Queue[str | None] = queue.Queue(WAITING)
        self._told = 0
        self.dropped = 0
        """Lines lost since the start; the next one that can be written tells."""
        self._thread = threading.Thread(target=self._run, name="gridtide-log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Queue text; never waits, never raises."""
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self.dropped += 1
        return len(text)

    def flush(self) -> None:
        """Nothing: the thread flushes each line."""

    def close(self) -> None:
        """Write what waits, for a second at most."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=CLOSE_S)
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (text := self._lines.get()) is not None:
            try:
                if self.dropped > self._told:
                    lost = self.dropped
                    self._stream.write(self._lost(lost - self._told))
                    self._told = lost
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                # A full disk, or a stream that was closed.
                self.dropped += 1

    def _lost(self, lines: int) -> str:
        if self._format == "json":
            return msgspec.json.encode({"event": "log_lines_lost", "level": "error", "lines": lines}).decode() + "\n"
        return f"{lines} log lines could not be written\n"


def configure(level: int = logging.INFO, log_format: LogFormat = "text") -> LogSink:
    """Set up structlog for a command that runs until stopped; where its lines go, closed when the program ends."""
    before: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=log_format == "json"),
        hide_secrets,
    ]
    after: list[Processor]
    if log_format == "json":
        after = [structlog.processors.format_exc_info, _json]
    else:
        after = [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    sink = LogSink(sys.stderr, log_format)
    atexit.register(sink.close)
    # What it needs of a file is there: write and flush.
    logger = structlog.PrintLogger(cast(TextIO, sink))
    structlog.configure(
        processors=[*before, *after],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: logger,
        cache_logger_on_first_use=False,
    )
    return sink


def hide_secrets(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Put `HIDDEN` in place of every value whose name says that it is a secret."""
    for name in line:
        if SECRETS & set(name.lower().split("_")):
            line[name] = HIDDEN
    return line


def _json(_logger: WrappedLogger, _method: str, line: EventDict) -> str:
    """One JSON object without a line break; what JSON does not know is told in its own words, numbers that are none as null."""
    return msgspec.json.encode(line, enc_hook=repr).decode()
