"""Written forms of a tariff, already decoded to a dict: URDB JSON, our TOML layout, the ACN `schedule` JSON layout.

Every problem is collected and told at once. The layouts are described in docs/bills.md.
"""

from collections.abc import Mapping

from gridtide.market.charges import TariffError
from gridtide.market.tariff import Tariff
from gridtide.market.tariff_acn import from_acn
from gridtide.market.tariff_reader import shown
from gridtide.market.tariff_toml import from_toml
from gridtide.market.tariff_urdb import from_urdb, is_urdb
from gridtide.model.bounds import unbounded


def parse_tariff(
    raw: object, timezone: str | None = None, currency: str | None = None, site_timezone: str | None = None
) -> Tariff:
    """A tariff from a decoded document: URDB by its fields, the ACN layout if it has `schedule`, our TOML layout otherwise.

    `timezone` and `currency` fill in what the ACN layout and URDB do not say. Without them ACN means Pacific time and USD; URDB
    means `site_timezone` and USD. Raises `TariffError` with every problem found.
    """
    if text := unbounded(raw):
        raise TariffError((f"tariff = (the file): it {text}",))
    if not isinstance(raw, Mapping):
        raise TariffError((f"tariff = {shown(raw)}: give a table of named fields",))
    if is_urdb(raw):
        return from_urdb(raw, timezone or site_timezone, currency)
    if "schedule" in raw:
        return from_acn(raw, timezone or "America/Los_Angeles", currency or "USD")
    return from_toml(raw)
