"""A study with many seeds in the terminal: the finding, how far each figure spreads, and the seeds themselves."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gridtide.app.report import words
from gridtide.model.many import ManyResult, SeedFigures, Spread

_NAMES = {
    "peak_kw_with": "Peak, kW",
    "saving": "Saving",
    "bill_with": "Bill",
    "drivers_short": "Drivers short",
    "discharged_kwh": "Given back, kWh",
    "wear_cost": "Battery wear",
    "failed_shaves": "Failed shaves",
}
_MONEY = ("saving", "bill_with", "wear_cost")
_WHOLE_MONEY = 1000.0


def print_many(result: ManyResult, console: Console, rows: int) -> None:
    """Write the finding, the spreads, and the first `rows` seeds to a console; nothing depends on colour."""
    console.print()
    console.print(Text(words.plain(_title(result)), style="bold"))
    console.print(Text(words.plain(_lead(result))))
    console.print(_spread_table(result))
    console.print(_seed_table(result, rows))
    hidden = len(result.seeds) - rows
    if hidden > 0:
        console.print(Text(f"  and {hidden} more: --json and --export give them all"))


def _title(result: ManyResult) -> str:
    when = words.period(result.start_s, result.end_s, words.zone_of(result.timezone)).when
    spread = _of(result, "saving")
    if spread.min >= 0.0:
        return (
            f"The fleet would have saved {_between(result, spread, spread.min, spread.max)} {when}, whichever the seed."
        )
    if spread.max <= 0.0:
        return f"The fleet would have cost {_between(result, spread, -spread.max, -spread.min)} {when}, whichever the seed."
    loss, gain = (_between(result, spread, abs(value), abs(value)) for value in (spread.min, spread.max))
    return f"By the seed, the fleet would have cost up to {loss} or saved up to {gain} {when}."


def _between(result: ManyResult, spread: Spread, low: float, high: float) -> str:
    said = [words.number(value, _decimals(spread)) for value in (low, high)]
    return words.symbol(result.currency) + words.NBSP + (f"{said[0]} to {said[1]}" if said[0] != said[1] else said[0])


def _lead(result: ManyResult) -> str:
    short = sum(seed.drivers_short > 0 for seed in result.seeds)
    over = sum(seed.intervals_over > 0 for seed in result.seeds)
    seeds = words.capital(words.count(len(result.seeds), "seed", "seeds"))
    drivers = (
        f"In {words.count(short, 'of them', 'of them')} a driver left short" if short else "No driver left short in any"
    )
    limit = words.with_unit(result.limit_kw, "kW")
    held = f"passed in {words.count(over, 'of them', 'of them')}" if over else "held in all"
    return f"{seeds}, which differ in what the data does not tell. {drivers}; the limit of {limit} was {held}."


def _of(result: ManyResult, figure: str) -> Spread:
    return next(spread for spread in result.spreads if spread.figure == figure)


def _decimals(spread: Spread) -> int:
    return 0 if max(abs(spread.min), abs(spread.max)) >= _WHOLE_MONEY else 2


def _shown(figure: str, value: float, spread: Spread) -> str:
    if figure in _MONEY:
        return words.plain(words.number(value, _decimals(spread)))
    return words.plain(words.number(value, 1 if max(spread.max, -spread.min) < _WHOLE_MONEY else 0))


def _spread_table(result: ManyResult) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(Text(f"  Money in {words.symbol(result.currency)}"), overflow="fold")
    for name in ("mean", "least", "5 %", "median", "95 %", "most"):
        table.add_column(name, justify="right", no_wrap=True)
    for spread in result.spreads:
        values = spread.mean, spread.min, spread.q05, spread.median, spread.q95, spread.max
        table.add_row(Text(f"  {_NAMES[spread.figure]}"), *(_shown(spread.figure, value, spread) for value in values))
    return table


def _seed_table(result: ManyResult, rows: int) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("  seed", "peak, kW", "saving", "bill", "short", "given, kWh", "wear", "failed"):
        table.add_column(Text(name), justify="right", no_wrap=True)
    for seed in result.seeds[:rows]:
        table.add_row(*_seed_row(result, seed))
    return table


def _seed_row(result: ManyResult, seed: SeedFigures) -> list[str]:
    def told(figure: str) -> str:
        return _shown(figure, float(getattr(seed, figure)), _of(result, figure))

    counts = f"{seed.drivers_short}", f"{seed.failed_shaves}"
    given = told("discharged_kwh"), told("wear_cost")
    return [f"{seed.seed}", told("peak_kw_with"), told("saving"), told("bill_with"), counts[0], *given, counts[1]]
