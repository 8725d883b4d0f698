"""Refused cards as an operator sees them: by command and by HTTP, until the card is registered."""

import json
from functools import partial

from tests.unit.test_station_commands import Live, Run, run, site

__all__ = ["run", "site"]
NOW_S = 1_767_268_800.0


def test_a_refused_card_is_listed_until_it_is_added(site: Live, run: Run) -> None:
    assert "No card was refused." in run("tokens", "refused").stdout
    refused = site.face.wire.csms.registry.refused
    for name in ("04AB", "dead\x1b[2Jbeef"):
        site.do(partial(refused.note, "bay-2", name, "ISO14443", "Unknown", NOW_S))
    told = run("tokens", "refused").stdout
    assert all(word in told for word in ("04AB", "bay-2", "ISO14443", "Unknown", "2026-01-01", "gridtide tokens add"))
    assert "\x1b[2J" not in told
    found = json.loads(run("tokens", "refused", "--json").stdout)
    assert [one["id_token"] for one in found] == ["dead\x1b[2Jbeef", "04AB"]
    assert (found[1]["count"], found[1]["last_s"]) == (1, NOW_S)
    run("tokens", "add", "04ab")
    assert [one["id_token"] for one in json.loads(run("tokens", "refused", "--json").stdout)] == ["dead\x1b[2Jbeef"]
