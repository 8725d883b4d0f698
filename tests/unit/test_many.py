"""Many seeds: the spread of figures, seeds in order whatever ends first, and errors that name their seed."""

import io
import multiprocessing
import os
import random
import statistics
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from rich.console import Console

from gridtide.app.commands.simulate_many import asked
from gridtide.app.report.terminal_many import print_many
from gridtide.model.many import SPREAD_OF, ManyResult, SeedFigures, seed_figures, spread_of, spreads
from gridtide.run import many
from gridtide.run.many import Job, Pool, SeedFailedError, dask_cluster, processes, run_seeds
from tests.unit.study_fixture import BEGIN, sample_study

STUDY = sample_study()


def figures(seed: int, **changes: Any) -> SeedFigures:
    return structs.replace(seed_figures(seed, STUDY), **changes)


def job_of(seed: int) -> Job:
    return partial(figures, seed)


# --- spread -------------------------------------------------------------------------------------------------------------


def test_the_spread_of_known_values() -> None:
    found = spread_of("x", [5.0, 1.0, 2.0, 4.0, 3.0])
    assert (found.figure, found.mean, found.min, found.median, found.max) == ("x", 3.0, 1.0, 3.0, 5.0)
    assert (found.q05, found.q95) == pytest.approx((1.2, 4.8))
    assert spread_of("x", [7.0]).q05 == 7.0


values = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40)


@given(values=values, seed=st.integers(0, 99))
def test_a_spread_is_in_order_and_no_matter_of_order(values: list[float], seed: int) -> None:
    found = spread_of("x", values)
    assert found.min == min(values)
    assert found.max == max(values)
    slack = 1e-9 * max(abs(v) for v in values)
    assert found.min <= found.q05 + slack <= found.median + 2 * slack <= found.q95 + 3 * slack <= found.max + 4 * slack
    assert found.min <= found.mean <= found.max
    assert found.median == pytest.approx(statistics.median(values), abs=slack)
    shuffled = random.Random(seed).sample(values, len(values))
    assert spread_of("x", shuffled) == found


@pytest.mark.parametrize("bad", [[], [1.0, float("nan")], [float("inf")]])
def test_a_spread_of_nothing_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="peak: give at least one value, all finite"):
        spread_of("peak", bad)


def test_the_figures_of_a_seed_are_the_studys() -> None:
    found = figures(3)
    assert (found.seed, found.saving) == (3, STUDY.bill_without - STUDY.bill_with)
    assert (found.peak_kw_with, found.discharged_kwh, found.failed_shaves) == (447.0, 567.0, 0)
    assert [spread.figure for spread in spreads([found])] == list(SPREAD_OF)


# --- running ------------------------------------------------------------------------------------------------------------


class Backwards(Executor):
    """Ends what was handed to it last, first, and only when it is full."""

    def __init__(self, size: int, done: list[int]) -> None:
        self.size, self.done, self.handed, self.most = size, done, 0, 0
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, partial(fn, *args, **kwargs)))
        self.handed += 1
        self.most = max(self.most, self.handed - len(self.done))
        if len(self.waiting) == self.size:
            last, job = self.waiting.pop()
            try:
                last.set_result(job())
            except SeedFailedError as error:
                last.set_exception(error)
        return future


def test_seeds_come_back_in_their_order() -> None:
    done = list[int]()
    executor = Backwards(2, done)

    def tell(count: int) -> None:
        done.append(count)
        if count == 4:  # the first is still waiting: nothing else would end it
            future, job = executor.waiting.pop()
            future.set_result(job())

    found = run_seeds(job_of, range(1, 6), Pool(executor, 2), tell)
    assert [item.seed for item in found] == [1, 2, 3, 4, 5]
    assert done == [1, 2, 3, 4, 5]
    assert executor.most == 2, "no more is handed out than the pool takes"


def fails_at(seed: int, bad: int) -> Job:
    return partial(one_over, seed - bad)


def one_over(number: int) -> SeedFigures:
    return figures(round(1 / number))


def is_killed() -> SeedFigures:
    os._exit(1)


def test_an_error_names_its_seed() -> None:
    with processes(1) as pool, pytest.raises(SeedFailedError, match=r"^seed 2: ZeroDivisionError: "):
        run_seeds(partial(fails_at, bad=2), [1, 2, 3], pool, lambda _: None)


def test_processes_give_the_same_in_order_and_name_what_fails() -> None:
    with processes(2) as pool:
        assert run_seeds(job_of, [4, 2, 9], pool, lambda _: None) == [figures(k) for k in (4, 2, 9)]
        with pytest.raises(SeedFailedError, match=r"^seed 2: ZeroDivisionError: "):
            run_seeds(partial(fails_at, bad=2), [2], pool, lambda _: None)
        with pytest.raises(SeedFailedError, match=r"^seed 7: a process was ended from outside"):
            run_seeds(lambda _: is_killed, [7], pool, lambda _: None)


def test_a_block_left_by_an_error_ends_its_processes() -> None:
    def leave() -> None:
        with processes(2) as pool:
            pool.executor.submit(os.getpid).result()
            raise KeyboardInterrupt

    before = set(multiprocessing.active_children())
    with pytest.raises(KeyboardInterrupt):
        leave()
    for child in set(multiprocessing.active_children()) - before:
        child.join(10.0)
        assert not child.is_alive()


def test_without_distributed_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(many, "import_module", missing)
    with pytest.raises(ValueError, match=r'pip install "gridtide\[dask\]"'), dask_cluster("tcp://127.0.0.1:1"):
        pass


@pytest.mark.parametrize("address", ["", "here", "http://a:1", "tcp://a", "tcp://a b:1"])
def test_what_is_no_address_is_told(address: str) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(ValueError, match="no address of a dask scheduler"), dask_cluster(address):
        pass


# --- what a person sees -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((0, None, None, None, None), "--seeds is 0: give 1 to"),
        ((5, 1, None, None, None), "leave out --seed and --html"),
        ((5, None, Path("a.html"), None, None), "leave out --seed and --html"),
        ((5, None, None, 0, None), "--processes: give 1 or more"),
        ((5, None, None, 2, "a:1"), "not together with --dask"),
        ((None, None, None, 2, None), "give --seeds, too"),
        ((None, None, None, None, "a:1"), "give --seeds, too"),
    ],
)
def test_options_that_do_not_go_together(options: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        asked(*options)


def printed(seeds: list[SeedFigures], rows: int = 30) -> str:
    end_s = STUDY.end_s
    result = ManyResult(
        "S", "Europe/Amsterdam", "EUR", BEGIN.timestamp(), end_s, "budget", 450.0, spreads(seeds), seeds
    )
    written = io.StringIO()
    print_many(result, Console(file=written, width=80, color_system=None), rows)
    return written.getvalue()


def test_the_terminal_tells_the_spread_and_the_seeds() -> None:
    text = printed([figures(1, saving=900.0), figures(2, saving=1_100.0, drivers_short=1, intervals_over=2)])
    assert "The fleet would have saved € 900 to 1 100 in June, whichever the seed." in text
    assert "Two seeds" in text
    assert "In one of them a driver left short; the limit of 450 kW was passed in one of them." in " ".join(
        text.split()
    )
    assert "Saving" in text
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize(
    ("savings", "said"),
    [
        ((-3_000.0, -2_000.0), "The fleet would have cost € 2 000 to 3 000 in June, whichever the seed."),
        ((-2_000.0, 1_000.0), "By the seed, the fleet would have cost up to € 2 000 or saved up to € 1 000 in June."),
        ((12.0, 12.0), "The fleet would have saved € 12.00 in June, whichever the seed."),
    ],
)
def test_the_title_is_honest(savings: tuple[float, float], said: str) -> None:
    assert said in " ".join(printed([figures(k, saving=saving) for k, saving in enumerate(savings)]).split())


def test_a_long_list_says_what_it_leaves_out() -> None:
    text = printed([figures(k) for k in range(1, 35)])
    assert "and 4 more: --json and --export give them all" in text
