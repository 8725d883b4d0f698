"""Virtual time: one seed is one history, hours are free, and nothing of the machine gets in."""

import asyncio
import socket
import subprocess
import sys
import threading

import pytest

from gridtide.run.simloop import SimLoop, SimulationError, Trace, private_api_problem, run_sim

SEEDS = [1, 2, 3, 7, 11, 1234, 2**40]


async def bustle(trace: Trace) -> None:
    """Five actors that meet at the same instants, a queue between them and a group that fails."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def actor(name: str) -> None:
        for step in range(6):
            await asyncio.sleep(0.5 * (step % 2))
            trace.record(loop.time(), name, "step", str(step).encode())
            await queue.put(name)

    async def doomed(name: str) -> None:
        try:
            await asyncio.sleep(1_000.0)
        finally:
            trace.record(loop.time(), name, "cancelled")

    async def failing() -> None:
        await asyncio.sleep(0.7)
        raise ValueError("planted")

    await asyncio.gather(*(actor(f"a{number}") for number in range(5)))
    while not queue.empty():
        trace.record(loop.time(), "reader", await queue.get())

    async def group_of_doomed() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(doomed(f"d{number}"))
            group.create_task(failing())

    with pytest.raises(ExceptionGroup):
        await group_of_doomed()
    done, _ = await asyncio.wait([asyncio.ensure_future(asyncio.sleep(1.0, number)) for number in range(8)])
    trace.record(loop.time(), "set", "order", bytes(task.result() for task in done))


def history(seed: int | None) -> str:
    trace = Trace()
    run_sim(bustle(trace), seed)
    assert trace.count == 5 * 6 * 2 + 8 + 1
    return trace.hexdigest()


@pytest.mark.parametrize("seed", [None, *SEEDS])
def test_same_seed_same_hash(seed: int | None) -> None:
    assert history(seed) == history(seed)


def test_another_seed_another_hash() -> None:
    assert len({history(seed) for seed in [None, *SEEDS]}) == len(SEEDS) + 1


def test_same_hash_in_another_process_with_another_hash_seed() -> None:
    code = "from tests.unit.test_simloop import history; print(history(7), history(None))"
    results = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert results == {f"{history(7)} {history(None)}\n"}


def test_hours_pass_at_once() -> None:
    async def year() -> float:
        for _ in range(365):
            await asyncio.sleep(86_400.0)
        return asyncio.get_running_loop().time()

    assert run_sim(year()) == 365 * 86_400.0


def test_equal_instants_keep_the_order_of_asking() -> None:
    async def main() -> list[int]:
        loop, seen = asyncio.get_running_loop(), list[int]()
        for number in range(300):
            loop.call_at(5.0, seen.append, number)
        for number in range(0, 300, 3):
            # Cancelled timers make the loop rebuild its heap; the order must survive that.
            loop.call_at(4.0, seen.append, -number).cancel()
        await asyncio.sleep(6.0)
        return seen

    assert run_sim(main()) == list(range(300))
    shuffled = run_sim(main(), 1)
    assert sorted(shuffled) == list(range(300))
    assert shuffled != list(range(300))


def test_late_timers_fire_at_their_instant_far_into_the_run() -> None:
    async def main() -> list[float]:
        loop, seen = asyncio.get_running_loop(), list[float]()
        for when in (4e9, 4e9 + 0.1, 4e9 + 0.2):
            loop.call_at(when, lambda: seen.append(loop.time()))
        await asyncio.sleep(4e9 + 1.0)
        return seen

    assert run_sim(main()) == [4e9, 4e9 + 0.1, 4e9 + 0.2]


def test_until_ends_the_run_and_cleans_up() -> None:
    seen = []

    async def forever() -> None:
        try:
            while True:
                await asyncio.sleep(1.0)
                seen.append(asyncio.get_running_loop().time())
        finally:
            seen.append(-1.0)

    assert run_sim(forever(), until_s=3.5) is None
    assert seen == [1.0, 2.0, 3.0, -1.0]
    assert run_sim(asyncio.sleep(2.0, "early"), until_s=3.5) == "early"


def test_what_is_left_behind_is_cancelled_oldest_first() -> None:
    seen = []

    async def left(name: int) -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            seen.append(name)

    async def main() -> None:
        main.tasks = [asyncio.ensure_future(left(number)) for number in range(20)]  # type: ignore[attr-defined]
        await asyncio.sleep(1.0)

    run_sim(main())
    assert seen == list(range(20))


def test_errors_come_out() -> None:
    async def main() -> None:
        await asyncio.sleep(1.0)
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        run_sim(main())


def test_waiting_for_nothing_is_told() -> None:
    async def main() -> None:
        await asyncio.sleep(2.0)
        await asyncio.Event().wait()

    with pytest.raises(SimulationError, match=r"nothing is left to happen at 2\.0 s"):
        run_sim(main())


def test_threads_are_refused() -> None:
    async def executor() -> None:
        await asyncio.to_thread(int)

    async def from_thread() -> str:
        loop, told = asyncio.get_running_loop(), list[str]()

        def call() -> None:
            try:
                loop.call_soon_threadsafe(int)
            except SimulationError as error:
                told.append(str(error))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        return told[0]

    with pytest.raises(SimulationError, match="executor"):
        run_sim(executor())
    assert "another thread" in run_sim(from_thread())


def test_sockets_are_refused() -> None:
    async def main(end: socket.socket) -> None:
        await asyncio.get_running_loop().sock_recv(end, 1)

    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far, pytest.raises(SimulationError, match="socket"):
        run_sim(main(near))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_finite_instants_are_refused(bad: float) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_at(bad, int)

    with pytest.raises(ValueError, match="finite"):
        run_sim(main())
    with pytest.raises(ValueError, match="finite"):
        Trace().record(bad, "a", "b")


def test_private_attributes_are_as_expected_on_this_python() -> None:
    """Fails on a Python whose loop moved what SimLoop leans on: port SimLoop before using that Python."""
    loop = SimLoop()
    assert private_api_problem(loop) is None
    handle = loop.call_soon(int)
    timer = loop.call_at(1.0, int)
    assert list(loop._ready) == [handle]
    assert loop._scheduled == [timer]
    del loop._ready
    assert private_api_problem(loop) == "the loop has no deque _ready"
    loop._ready = type(loop)(None)._ready
    loop.close()


def test_trace_tells_parts_apart() -> None:
    digests = set()
    for t_s, actor, event, payload in [
        (0.0, "ab", "c", b""),
        (0.0, "a", "bc", b""),
        (0.0, "a", "b", b"c"),
        (1.0, "ab", "c", b""),
    ]:
        trace = Trace()
        trace.record(t_s, actor, event, payload)
        digests.add(trace.hexdigest())
    assert len(digests) == 4
    minus, plus = Trace(), Trace()
    minus.record(-0.0, "a", "b")
    plus.record(0.0, "a", "b")
    assert minus.hexdigest() == plus.hexdigest()
