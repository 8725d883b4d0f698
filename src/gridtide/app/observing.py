"""What stands beside a running site: decision log, change log, metrics, notifications, and foresight, whose plans are wishes."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from gridtide.app.config import SiteConfig
from gridtide.app.metrics import SiteMetrics
from gridtide.app.scenario import look_of
from gridtide.market.tariff import Tariff
from gridtide.run.change_log import ChangeLog
from gridtide.run.credentials import CredentialError, read_secret
from gridtide.run.decision_log import DecisionLog, forget_decisions_hourly
from gridtide.run.live import LiveSite
from gridtide.run.notify import Notifier, NotifySettings, severities
from gridtide.run.planner_desk import PlannerDesk
from gridtide.run.view import Viewer

LEAST_SECRET = 16
"""Bytes of the secret that signs notifications."""


def observe(config: SiteConfig, live: LiveSite, viewer: Viewer, notify: NotifySettings | None) -> SiteMetrics:
    """Begin to look at `live`, which must not run yet; the metrics, for the page's server."""
    metrics, service, keep = SiteMetrics(live, viewer), live.service, config.store
    if keep.keep_decisions_days:
        kept = DecisionLog(
            live.store, service.clock, on_loss=lambda why: service.note("store_failed", "decision log", why)
        )
        service.watchers.append(kept.cycle)
        service.closers.append(kept.close)
        live.add(
            lambda: forget_decisions_hourly(live.store, service.clock, keep.keep_decisions_days, keep.keep_decisions_mb)
        )
        metrics.log = kept
    if config.log.changes:
        service.watchers.append(ChangeLog(_local_time(config)).cycle)
    if notify is not None:
        notifier = Notifier(live.store, service.clock, notify, note=service.note)
        service.listeners.append(notifier.told)
        live.add(notifier.run)
        metrics.notifier = notifier
    return metrics


def plan_ahead(config: SiteConfig, live: LiveSite, tariff: Tariff) -> PlannerDesk | None:
    """Foresight of a live site, which must not run yet; None where the site file does not ask for it."""
    if not config.planner.enabled:
        return None
    desk = PlannerDesk(live.service, live.store, tariff, look_of(config), _local_time(config))
    live.add(desk.run)
    return desk


def notify_settings(config: SiteConfig) -> NotifySettings | None:
    """Where notifications go; raises CredentialError for a secret that others can read, or that is too short."""
    own = config.notify
    if own is None:
        return None
    path = Path(config.path(own.secret_file))
    secret = read_secret(path).strip()
    if len(secret) < LEAST_SECRET:
        raise CredentialError(f"{path} holds {len(secret)} characters: give a random secret of {LEAST_SECRET} or more")
    return NotifySettings(
        url=own.url, secret=secret, severities=severities(own.severities), hosts=own.hosts, site=config.site.name,
        timeout_s=own.timeout_s,
    )  # fmt: skip


def _local_time(config: SiteConfig) -> Callable[[float], str]:
    zone = ZoneInfo(config.site.timezone)
    return lambda at_s: f"{datetime.fromtimestamp(at_s, zone):%H:%M}"
