"""The same study with many seeds side by side: over processes of this machine, or over a dask cluster.

A seed's figures depend on nothing but its inputs, and come back in order of the seeds: where and in which order they were
reckoned does not show.
"""

import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from msgspec import Struct

import gridtide
from gridtide.model.many import SeedFigures, seed_figures
from gridtide.run.study import StudyInputs, study

Job = Callable[[], SeedFigures]
NO_DASK = 'a dask cluster needs the package distributed: pip install "gridtide[dask]"'
_ADDRESS = re.compile(r"((tcp|tls)://)?[\w.:\[\]-]+:\d{1,5}")
_CLUSTER_ANSWERS_S = 10.0
_LARGEST_INPUTS = "1 GB"
"""Inputs of one study are sent without a warning up to here: a year's load by the second has 250 MB."""


class SeedFailedError(Exception):
    """The study of a seed could not be finished; the text begins with which."""


class Pool(Struct, frozen=True):
    """Where jobs run, and how many are handed out at a time."""

    executor: Executor
    at_once: int


def run_seed(seed: int, inputs: StudyInputs) -> SeedFigures:
    """One seed's study. Raises as `study` does."""
    return seed_figures(seed, study(inputs))


def run_seeds(
    job_of: Callable[[int], Job], seeds: Sequence[int], pool: Pool, done: Callable[[int], None]
) -> list[SeedFigures]:
    """The figures of all seeds, in their order. `done` is told how many are ready. The first seed that fails ends it all.

    `job_of(seed)` gives a job that can be pickled. Raises `SeedFailedError`.
    """
    waiting, running, found = iter(seeds), dict[Future[SeedFigures], int](), dict[int, SeedFigures]()
    while True:
        for seed in waiting:
            running[pool.executor.submit(partial(_named, seed, job_of(seed)))] = seed
            if len(running) >= pool.at_once:
                break
        if not running:
            return [found[seed] for seed in seeds]
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            try:
                found[running[future]] = future.result()
            except BrokenExecutor:
                left = ", ".join(str(seed) for seed in running.values())
                raise SeedFailedError(f"seed {left}: a process was ended from outside; memory may be short") from None
            del running[future]
            done(len(found))


def _named(seed: int, job: Job) -> SeedFigures:
    """Run a job; what goes wrong becomes a text that names the seed and can travel between processes."""
    try:
        return job()
    except Exception as error:
        raise SeedFailedError(f"seed {seed}: {type(error).__name__}: {error}") from None


@contextmanager
def processes(count: int) -> Iterator[Pool]:
    """A pool of that many processes; 1 is this process itself. They end with this one, and at once when the block is left by an
    exception (Ctrl-C is one)."""
    if count <= 1:
        yield Pool(_Here(), 1)
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    executor = _Processes(count, mp_context=context, initializer=_end_with_parent)
    try:
        yield Pool(executor, count + 1)
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        executor.shutdown(cancel_futures=True)
        raise
    executor.shutdown()


@contextmanager
def dask_cluster(address: str) -> Iterator[Pool]:
    """The workers of a dask scheduler. What it has not begun is taken back when the block is left by an exception.

    Raises `ValueError` with the cure where the package is missing, nobody answers, or the workers have another gridtide.
    """
    try:
        distributed: Any = import_module("distributed")
    except ImportError:
        raise ValueError(NO_DASK) from None
    if not _ADDRESS.fullmatch(address):
        raise ValueError(f"no address of a dask scheduler: {address[:60]!r}; give one as tls://host:8786")
    if address.startswith("tls:") and distributed.Security().get_connection_args("client")["ssl_context"] is None:
        raise ValueError(f"{address} needs certificates: name them in dask's configuration, distributed.comm.tls")
    try:
        client = distributed.Client(address, timeout=_CLUSTER_ANSWERS_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"no dask scheduler at {address}: {error or 'it does not answer'}") from None
    quiet = import_module("dask.config").set({"distributed.admin.large-graph-warning-threshold": _LARGEST_INPUTS})
    with client, quiet:
        executor = client.get_executor(pure=False)
        at_once = 2 * _threads_of(client, address)
        try:
            yield Pool(executor, at_once)
        except BaseException:
            executor.shutdown(wait=False)
            raise


def _threads_of(client: Any, address: str) -> int:
    """How many jobs the cluster works on at a time; every worker must have this gridtide."""
    threads = sum(client.nthreads().values())
    if not threads:
        raise ValueError(f"the dask scheduler at {address} has no workers: start some with `dask worker {address}`")
    try:
        versions = set(client.run(_version).values())
    except Exception as error:
        raise ValueError(f"the dask workers cannot use gridtide, install it there: {error}") from None
    if versions != {gridtide.__version__}:
        found = ", ".join(sorted(versions))
        raise ValueError(f"the dask workers have gridtide {found}, here it is {gridtide.__version__}: install the same")
    return int(threads)


def _version() -> str:
    return gridtide.__version__


class _Here(Executor):
    """Runs a job at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except SeedFailedError as error:
            future.set_exception(error)
        return future


class _Processes(ProcessPoolExecutor):
    """A process that this starts never sees Ctrl-C itself: it is ended by the one that started it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        # One that came just before would be raised in the midst of starting a process, which then finds half of its inputs.
        late: list[int] = []
        own = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, lambda number, _: late.append(number)) if own else None
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            if before is not None:
                signal.signal(signal.SIGINT, before)
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            if late:
                raise KeyboardInterrupt


def _end_with_parent() -> None:
    """In a process of the pool: when the one that started it is gone, end."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
