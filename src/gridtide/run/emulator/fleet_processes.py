"""A fleet spread over processes: one event loop cannot use a second core."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

import msgspec

from gridtide.run.clock import WallClock
from gridtide.run.emulator.fleet import Count, Fleet, FleetPlan, shares, watched
from gridtide.run.loops import run_program

EVERY_S = 1.0
"""How often a process tells how it stands."""
END_LIMIT_S = 10.0


def run_here(plan: FleetPlan, tell: Callable[[Count], None], exit_after_s: float | None) -> Count:
    """Run a plan in this process until a signal or the time ends it; returns the last count."""
    return run_program(_run(plan, tell, exit_after_s))


def run_spread(plan: FleetPlan, processes: int, tell: Callable[[Count], None], exit_after_s: float | None) -> Count:
    """Run a plan over several processes; returns the sum of their last counts. `OSError` if one of them failed."""
    parts = shares(plan, processes)
    if len(parts) == 1:
        return run_here(plan, tell, exit_after_s)
    context = multiprocessing.get_context("spawn")
    pipes, workers = [], []
    for part in parts:
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=_worker, args=(msgspec.msgpack.encode(part), theirs, exit_after_s), daemon=True)
        worker.start()
        theirs.close()
        pipes.append(ours)
        workers.append(worker)
    previous = {number: signal.signal(number, lambda *_: _end(workers)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        last = _gather(pipes, tell)
    finally:
        for number, what in previous.items():
            signal.signal(number, what)
        for worker in workers:
            worker.join(END_LIMIT_S)
    failed = [worker.pid for worker in workers if worker.exitcode != 0]
    if failed:
        raise OSError(f"{len(failed)} of {len(workers)} processes of the fleet failed; their words stand above")
    return last


def _gather(pipes: list[Connection], tell: Callable[[Count], None]) -> Count:
    """Add up what the processes tell until all have ended."""
    newest = [Count() for _ in pipes]
    open_pipes = dict(enumerate(pipes))
    while open_pipes:
        heard = multiprocessing.connection.wait(list(open_pipes.values()), timeout=EVERY_S)
        for number, pipe in tuple(open_pipes.items()):
            if pipe not in heard:
                continue
            try:
                newest[number] = msgspec.msgpack.decode(pipe.recv_bytes(), type=Count)
            except EOFError:
                del open_pipes[number]
        tell(_sum(newest))
    return _sum(newest)


def _sum(counts: list[Count]) -> Count:
    total = Count()
    for count in counts:
        total = total.plus(count)
    return total


def _end(workers: Sequence[multiprocessing.process.BaseProcess]) -> None:
    """Pass the wish to end on to our own children; each ends its fleet in order."""
    for worker in workers:
        if worker.is_alive() and worker.pid is not None:
            os.kill(worker.pid, signal.SIGTERM)


def _worker(plan: bytes, pipe: Connection, exit_after_s: float | None) -> None:
    """One process's fleet; tells its counts through `pipe`."""

    def tell(count: Count) -> None:
        pipe.send_bytes(msgspec.msgpack.encode(count))

    last = run_program(_run(msgspec.msgpack.decode(plan, type=FleetPlan), tell, exit_after_s))
    tell(last)
    pipe.close()


async def _run(plan: FleetPlan, tell: Callable[[Count], None], exit_after_s: float | None) -> Count:
    clock, stop = WallClock(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if exit_after_s is not None:
        loop.call_later(exit_after_s, stop.set)
    return await watched(Fleet(plan, clock), clock, tell, EVERY_S, stop)
