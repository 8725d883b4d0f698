"""The grid operator's limit on a running site: heard from the API, looked at every cycle, kept over restarts."""

import math

import msgspec
import structlog
from msgspec import Struct

from gridtide.control import links
from gridtide.control.links import Bound, LinkState, OperatorLimit, OperatorRule, OperatorState
from gridtide.run.clock import Clock
from gridtide.run.csms.station import OnEvent
from gridtide.run.store import Store, StoreError, StoreRangeError

STATE = "operator_limit"
KEEP_EVERY_S = 10.0
log = structlog.get_logger(__name__)


class Kept(Struct, frozen=True):
    """As stored: ages and times left, so that no clock of the machine matters. Time while gridtide is down does not count."""

    is_lost: bool
    heard_ago_s: float | None
    since_ago_s: float
    good: int
    good_ago_s: float | None
    import_kw: float | None
    export_kw: float | None
    has_limit: bool
    left_s: float | None
    source: str


class OperatorView(Struct, frozen=True):
    """What the operator asked and what holds."""

    state: str
    """`off` (not set up), `ok`, `lost` (the failsafe limit holds) or `lifted` (it was lifted after its time)."""
    limit_kw: float | None = None
    """Import that holds now; None: no limit of the operator."""
    export_kw: float | None = None
    source: str = ""
    """Who gave the last limit."""
    left_s: float | None = None
    """Until that limit ends by itself; None: it holds on."""
    heard_s: float | None = None
    """Since the last message; None: never."""


class OperatorDesk:
    """One link, its limit and its memory. Without a rule there is no such link: every message is refused."""

    def __init__(self, rule: OperatorRule | None, store: Store, clock: Clock, on_event: OnEvent) -> None:
        self.rule, self.state = rule, OperatorState()
        self._store, self._clock, self._on_event = store, clock, on_event
        self._kept_s = -math.inf
        if rule is not None:
            now_s = clock.monotonic()
            self.state = links.begin(self._restored(now_s), now_s)

    @property
    def bound(self) -> Bound:
        """What holds as of the last look."""
        return Bound() if self.rule is None else links.bound(self.state, self.rule)

    def look(self, now_s: float) -> Bound:
        """What holds in the cycle at monotonic `now_s`; tells what changed with time."""
        if self.rule is not None:
            self.state, codes = links.operator_look(self.state, self.rule, now_s)
            self._tell(codes)
            if codes or now_s - self._kept_s >= KEEP_EVERY_S:
                self._keep(now_s)
        return self.bound

    async def hear(
        self,
        limit_kw: float | None,
        export_kw: float | None,
        duration_s: float | None,
        source: str,
        actor: str,
        *,
        lifts: bool = False,
    ) -> None:
        """A message of the operator: with a limit, with word that there is none (`lifts`), or a heartbeat alone.

        It holds from the next cycle on, also where it cannot be stored yet. Raises ValueError for what cannot be meant.
        """
        if self.rule is None:
            raise ValueError(
                "this site takes no operator limit: add [operator_limit] with failsafe_kw to the site file"
            )
        if lifts and (limit_kw is not None or export_kw is not None):
            raise ValueError("release is true and a limit is given: give one of them")
        now_s = self._clock.monotonic()
        given = links.limit_of(limit_kw, export_kw, duration_s, source, now_s)
        has_limit = lifts or limit_kw is not None or export_kw is not None
        self.state, codes = links.operator_heard(self.state, self.rule, now_s, given if has_limit else None)
        self._tell(codes)
        if not (has_limit or codes):
            return
        self._keep(now_s)
        if has_limit:
            await self._audit(actor, limit_kw, export_kw, duration_s, source)

    def view(self, now_s: float) -> OperatorView:
        """As the API tells it."""
        if self.rule is None:
            return OperatorView("off")
        link, limit, holds = self.state.link, self.state.limit, self.bound
        word = "ok" if not link.is_lost else "lifted" if self.state.is_lifted else "lost"
        return OperatorView(
            word, holds.import_kw, holds.export_kw, "" if limit is None else limit.source,
            None if limit is None else _known(limit.ends_s - now_s), _known(now_s - link.heard_s),
        )  # fmt: skip

    def note(self) -> str:
        """A word beside the link's name: the import that holds."""
        holds = self.bound
        return "no limit" if holds.import_kw is None else f"{holds.import_kw:g} kW"

    async def _audit(
        self, actor: str, limit_kw: float | None, export_kw: float | None, duration_s: float | None, source: str
    ) -> None:
        detail = {"limit_kw": limit_kw, "export_kw": export_kw, "duration_s": duration_s, "source": source}
        try:
            await self._store.append_audit(self._clock.wall(), actor, "operator_limit", msgspec.json.encode(detail))
        except (StoreError, StoreRangeError) as error:
            # A limit is for safety: it holds although nobody could write it down.
            self._on_event(
                "store_failed", "operator", f"The operator's limit holds but could not be recorded: {error}."
            )

    def _tell(self, codes: tuple[str, ...]) -> None:
        for code in codes:
            self._on_event(code, "operator", self._words(code))

    def _words(self, code: str) -> str:
        limit = self.state.limit
        if code == "operator_limit" and limit is not None:
            powers = [f"{name} {kw:g} kW" for name, kw in (("import", limit.import_kw), ("export", limit.export_kw))
                      if kw is not None]  # fmt: skip
            left_s = limit.ends_s - self._clock.monotonic()
            span = f" for {left_s:.0f} s" if math.isfinite(left_s) else ""
            return f"{', '.join(powers) or 'No limit'}{span}, from {limit.source or 'unnamed'}."
        if code == "operator_limit_lost" and self.rule is not None:
            return f"Import is held at {self.rule.failsafe_kw:g} kW."
        return ""

    def _keep(self, now_s: float) -> None:
        link, limit = self.state.link, self.state.limit
        kept = Kept(
            link.is_lost, _known(now_s - link.heard_s), now_s - link.since_s, link.good, _known(now_s - link.good_since_s),
            limit.import_kw if limit else None, limit.export_kw if limit else None, limit is not None,
            _known(limit.ends_s - now_s) if limit else None, limit.source if limit else "",
        )  # fmt: skip
        self._kept_s = now_s
        self._store.put_state(STATE, msgspec.json.encode(kept))

    def _restored(self, now_s: float) -> OperatorState:
        """What was kept; where nothing readable is there the link counts as lost, and the failsafe limit holds."""
        saved = self._store.get_state(STATE)
        if saved is None:
            return OperatorState()
        try:
            kept = msgspec.json.decode(saved, type=Kept)
        except (msgspec.DecodeError, ValueError) as error:
            log.error("operator_limit_not_readable", error=str(error))
            return OperatorState()
        link = LinkState(
            heard_s=now_s - _or(kept.heard_ago_s, math.inf), is_lost=kept.is_lost, since_s=now_s - kept.since_ago_s,
            good=kept.good, good_since_s=now_s - _or(kept.good_ago_s, -math.inf),
        )  # fmt: skip
        limit = OperatorLimit(
            import_kw=kept.import_kw, export_kw=kept.export_kw, ends_s=now_s + _or(kept.left_s, math.inf), source=kept.source
        )  # fmt: skip
        return OperatorState(link, limit if kept.has_limit else None)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
