"""`gridtide status`: the page's first glance in the terminal. Ends with 3 in fail-safe idle or emergency stop."""

from typing import TYPE_CHECKING

import typer

from gridtide.app.commands.site_options import SITE_URL, AsJson, TokenFile, Url, clock, exit_code, kw, plain

if TYPE_CHECKING:
    from rich.table import Table

    from gridtide.app.client import SiteClient
    from gridtide.model.plan_view import PlanView
    from gridtide.model.view import SiteView, VehicleView


def status(as_json: AsJson = False, url: Url = SITE_URL, token_file: TokenFile = None) -> None:
    """What a running site is doing now."""
    from gridtide.app.client import SiteClient
    from gridtide.app.commands.told import told

    with told():
        client = SiteClient(url, token_file)
        view = client.view()
        plan = _plan_of(client, view) if not as_json else None
    if as_json:
        from msgspec import json

        typer.echo(json.format(json.encode(view), indent=1).decode())
    else:
        _show(view, plan)
    raise typer.Exit(exit_code(view))


def _plan_of(client: "SiteClient", view: "SiteView") -> "PlanView | None":
    """The plan in force, where the site has one by now."""
    from gridtide.model.plan_view import PlanView

    if view.plan is None or view.plan.made_s is None:
        return None
    return client.ask(PlanView, "GET", "/plan")


def plan_lines(view: "SiteView", plan: "PlanView | None") -> list[str]:
    """The plan's target and what it misses; nothing of a site that does not plan ahead."""
    from gridtide.app.report import words

    if view.plan is None:
        return []
    if plan is None:
        return [f"Plan: the first one is being made; the site holds its own {kw(view.plan.own_limit_kw)}."]
    holds = "no peak counts now" if plan.target_kw is None else f"holds {kw(plan.target_kw)}"
    worth = words.plain(words.money(plan.value_per_kw, plan.currency, 2))
    saves = f"; one kW more would save {worth}" if plan.value_per_kw >= 0.005 else ""
    misses = f"; misses {len(plan.missed)}:" if plan.missed else "; all that is asked can be met."
    made = clock(plan.made_s, view.timezone, seconds=False)
    return [f"Plan of {made}: {holds}{saves}{misses}", *(f"  - {item.words}." for item in plan.missed)]


def _show(view: "SiteView", plan: "PlanView | None") -> None:
    from rich.console import Console

    demand, console = view.demand, Console(highlight=False, markup=False)
    lines = [
        f"{view.site}: {view.state_word}, {clock(view.now_s, view.timezone)}",
        view.sentence,
        view.subline,
        f"Site {kw(view.power.site_kw)}, building {kw(view.power.building_kw)}; limit {kw(view.limit_kw)}, "
        f"buffer {kw(view.buffer_kw)}.",
        f"This interval ends at {kw(demand.projected_kw)}, without vehicles at {kw(demand.projected_without_kw)}; "
        f"peak of the period {kw(demand.period_peak_kw)}.",
        "Links: "
        + ", ".join(f"{link.name} {link.state}" + (f" ({link.note})" * bool(link.note)) for link in view.links),
    ]
    for line in (*lines, *plan_lines(view, plan)):
        console.print(plain(line))
    new = [event for event in view.events if not event.seen and event.severity != "info"]
    for event in new[:5]:
        console.print(plain(f"{event.severity.upper()} {clock(event.at_s, view.timezone)} {event.title}. {event.text}"))
    if view.vehicles:
        console.print(_table(view))


def _table(view: "SiteView") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, right in (
        ("EVSE", 0),
        ("Vehicle", 0),
        ("State", 0),
        ("Charge", 1),
        ("Power", 1),
        ("Leaves", 0),
        ("Why", 0),
    ):
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "Why")
    for vehicle in view.vehicles:
        table.add_row(*(Text(plain(cell)) for cell in _cells(vehicle, view.timezone)))
    return table


def _cells(vehicle: "VehicleView", timezone: str) -> tuple[str, ...]:
    soc = "–" if vehicle.soc is None else f"{vehicle.soc * 100:.0f} %"
    leaves = "" if vehicle.departs_s is None else clock(vehicle.departs_s, timezone, seconds=False)
    return vehicle.evse_id, vehicle.name, vehicle.state, soc, kw(vehicle.power_kw), leaves, vehicle.reason
