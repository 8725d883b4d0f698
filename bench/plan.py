"""How much CPU does a certified plan of a fleet take? Against the whole linear programme, by HiGHS directly and through other
tools.

CPU seconds of this process (`time.process_time`), not wall time: the figure holds on a machine that others use too. Everything
runs in one thread. A figure is the median of the repeats and covers building, solving, leading the plan through the losses and
listing shortfalls. numba's compile time is told apart. `--full` also solves 3,000 vehicles directly (half a minute) and every
hard case at 1,000.
"""

import argparse
import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import plan_cases as cases
import plan_peers as peers

from gridtide.plan import store
from gridtide.plan.coupling import couple
from gridtide.plan.exact import solve_exact
from gridtide.plan.fleet import FleetSettings
from gridtide.plan.horizon import Horizon, Vehicles
from gridtide.plan.optimise import Plan, Planner, Settings, optimise

GAPS = (0.01, 0.005, 0.002)
SIZES = (100, 1_000, 3_000, 10_000)
TARGETS_S = {(1_000, 0.002): 0.5, (10_000, 0.005): 2.0}
TARGET_RATIO = 10.0


def cpu_s(run: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Median CPU seconds of `run`, and its last result."""
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        result = run()
        spent.append(time.process_time() - began)
    return statistics.median(spent), result


def fleet_settings(gap: float) -> Settings:
    """The product's settings at a tolerance; the exact programme stays where the product uses it."""
    return Settings(fleet=FleetSettings(tolerance=gap))


def direct(horizon: Horizon, vehicles: Vehicles, method: str | None = None, *, hull: bool = False) -> float:
    """The optimum of the whole programme by highspy."""
    stores = store.prepare(horizon, vehicles)
    return solve_exact(stores, couple(horizon, vehicles, stores), hull=hull, method=method).objective


def fleet_plan(horizon: Horizon, vehicles: Vehicles, gap: float) -> Plan:
    """The decomposition's plan, however few the vehicles."""
    return optimise(horizon, vehicles, Settings(exact_below=0, fleet=FleetSettings(tolerance=gap)))[0]


def true_gap(plan: Plan, optimum: float | None) -> float | None:
    """(cost - optimum) / |cost|."""
    return None if optimum is None else (plan.costs.total - optimum) / abs(plan.costs.total)


def told(seconds: float, plan: Plan, optimum: float | None) -> dict[str, Any]:
    """One line of the result; `honest` unless the optimum lies outside bound and cost."""
    found = {
        "cpu_s": round(seconds, 4), "certified_gap": plan.gap, "true_gap": true_gap(plan, optimum), "cost": plan.costs.total,
        "bound": plan.bound, "method": plan.method, "rounds": plan.rounds, "shortfalls": len(plan.shortfalls),
    }  # fmt: skip
    if optimum is not None:
        slack = 1e-6 * max(1.0, abs(optimum))
        found["honest"] = bool(plan.bound <= optimum + slack and plan.costs.total >= optimum - slack)
    return found


def size_result(n: int, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """All tolerances, and the direct programme and the peers where feasible."""
    horizon, vehicles = cases.reference(n, seed)
    found: dict[str, Any] = {"vehicles": n, "seed": seed}
    optimum = None
    if n <= args.direct_up_to:
        repeats = args.repeats if n <= 1_000 else 1
        methods = ("simplex", "ipm") if n <= 1_000 else ("ipm",)
        for method in methods:
            run = partial(direct, horizon, vehicles, method)
            found[f"direct_{method}_cpu_s"], optimum = cpu_s(run, repeats)
        found["direct_cpu_s"] = min(found[f"direct_{m}_cpu_s"] for m in methods)
        found["optimum"] = optimum
    if n <= args.peers_up_to:
        found["peers"] = peer_results(horizon, vehicles, optimum)
    for gap in GAPS:
        seconds, plan = cpu_s(_plan_run(horizon, vehicles, gap), args.repeats)
        found[f"gap_{gap:g}"] = told(seconds, plan, optimum)
    found["warm_replan_cpu_s"] = warm_cpu_s(horizon, vehicles)
    return found


def _plan_run(horizon: Horizon, vehicles: Vehicles, gap: float) -> Callable[[], Plan]:
    return lambda: optimise(horizon, vehicles, fleet_settings(gap))[0]


def warm_cpu_s(horizon: Horizon, vehicles: Vehicles) -> float:
    """CPU seconds of the plan a step later, with 2 % more load, from what the first one left."""
    planner = Planner(fleet_settings(0.005), time.process_time)
    first = planner.plan(horizon, vehicles)
    plan = planner.plan(*cases.a_step_later(horizon, vehicles, first.energy_kwh[:, 0]))
    return round(plan.cpu_s or 0.0, 4)


def peer_results(horizon: Horizon, vehicles: Vehicles, optimum: float | None) -> dict[str, Any]:
    """CPU seconds and objective of the other tools, or why they are absent."""
    found: dict[str, Any] = {}
    for name, run, modules in (
        ("cvxpy", peers.cvxpy_highs, ("cvxpy", "scipy.sparse")),
        ("pyomo", peers.pyomo_highs, ("pyomo.environ", "pyomo.contrib.appsi.solvers")),
    ):  # fmt: skip
        if absent := peers.missing(*modules):
            found[name] = f"skipped, {absent}"
            continue
        seconds, value = cpu_s(partial(run, horizon, vehicles))
        objective = float(value)
        found[name] = {"cpu_s": round(seconds, 3), "objective": objective, "version": importlib.metadata.version(name)}
        if optimum is not None:
            found[name]["same_optimum"] = bool(abs(objective - optimum) < 1e-5 * abs(optimum))
    return found


def hard_results(n: int, seeds: tuple[int, ...], gap: float) -> list[dict[str, Any]]:
    """Every hard case with the true optimum beside."""
    found = []
    for name, case in cases.HARD.items():
        for seed in seeds:
            horizon, vehicles = case(n, seed)
            seconds, plan = cpu_s(partial(fleet_plan, horizon, vehicles, gap))
            whole_s, optimum = cpu_s(partial(direct, horizon, vehicles, hull=True))
            line = {"case": name, "vehicles": n, "seed": seed, "direct_cpu_s": round(whole_s, 3)}
            found.append(line | told(seconds, plan, optimum))
    return found


def numpy_result(n: int, seed: int) -> dict[str, Any]:
    """The same plan without numba."""
    was_warm = store.warm()
    store.cool_down()
    horizon, vehicles = cases.reference(n, seed)
    seconds, plan = cpu_s(_plan_run(horizon, vehicles, 0.005))
    if was_warm:
        store.warm_up()
    return {"vehicles": n} | told(seconds, plan, None)


def verdict(result: dict[str, Any]) -> list[str]:
    """Every target that is missed."""
    missed = []
    by_size = {line["vehicles"]: line for line in result["sizes"] if line["seed"] == 0}
    for (n, gap), limit in TARGETS_S.items():
        if n in by_size and by_size[n][f"gap_{gap:g}"]["cpu_s"] > limit:
            missed.append(f"{n} vehicles to {gap:.1%}: more than {limit} s")
    if 1_000 in by_size and by_size[1_000]["direct_over_plan"] < TARGET_RATIO:
        missed.append(f"1000 vehicles: less than {TARGET_RATIO:g} times as fast as HiGHS directly")
    lines = [
        line[f"gap_{g:g}"] | {"wanted": g, "case": f"{line['vehicles']}"} for line in result["sizes"] for g in GAPS
    ]
    lines += [line | {"wanted": result["hard_gap"]} for line in result["hard"]]
    missed += [
        f"{line['case']}: the optimum lies outside bound and cost" for line in lines if not line.get("honest", True)
    ]
    missed += [
        f"{line['case']}: gap above {line['wanted']:.1%}" for line in lines if line["certified_gap"] > line["wanted"]
    ]
    return missed


def main() -> int:
    """Run it; one JSON object as the last line with --json. 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--direct-up-to", type=int, default=1_000)
    parser.add_argument("--peers-up-to", type=int, default=1_000)
    parser.add_argument("--hard", type=int, default=300, help="vehicles of the hard cases; 0 leaves them out")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.full:
        args.direct_up_to, args.hard = max(args.direct_up_to, 3_000), max(args.hard, 1_000)
    compile_s, compiled = cpu_s(store.warm_up)
    result: dict[str, Any] = {
        "numba": compiled, "numba_compile_cpu_s": round(compile_s, 2), "threads": 1, "measure": "CPU s of the process, median",
        "versions": {n: importlib.metadata.version(n) for n in ("highspy", "numpy", *(["numba"] if compiled else []))},
        "hard_gap": 0.002,
    }  # fmt: skip
    if not compiled:
        print(
            "numba is not installed (extra `fleet`): the NumPy form is timed, and the targets are not meant for it",
            file=sys.stderr,
        )
    seeds = tuple(int(s) for s in args.seeds.split(","))
    result["sizes"] = [size_result(n, seed, args) for n in map(int, args.sizes.split(",")) for seed in seeds]
    for line in result["sizes"]:
        if "direct_cpu_s" in line:
            line["direct_over_plan"] = round(line["direct_cpu_s"] / line["gap_0.002"]["cpu_s"], 1)
    result["without_numba"] = numpy_result(1_000, 0)
    result["hard"] = hard_results(args.hard, (0, 1), result["hard_gap"]) if args.hard else []
    result["missed"] = verdict(result)
    if args.json:
        print(json.dumps(result))
    else:
        show(result)
    return 1 if result["missed"] else 0


def show(result: dict[str, Any]) -> None:
    """The result for a reader."""
    print(f"CPU s, one thread; numba compile {result['numba_compile_cpu_s']} s apart\n")
    print(
        f"{'vehicles':>9} {'seed':>4} {'1 %':>8} {'0.5 %':>8} {'0.2 %':>8} {'warm':>8} {'direct':>8}"
        f" {'cvxpy':>8} {'pyomo':>8} {'true gap':>9}"
    )
    for line in result["sizes"]:
        plans = [line[f"gap_{g:g}"] for g in GAPS]
        tools = [line.get("peers", {}).get(name, "") for name in ("cvxpy", "pyomo")]
        peer_s = [f"{tool['cpu_s']:.2f}" if isinstance(tool, dict) else "-" for tool in tools]
        whole = f"{line['direct_cpu_s']:.2f}" if "direct_cpu_s" in line else "-"
        gap = "-" if plans[-1]["true_gap"] is None else f"{plans[-1]['true_gap']:.4%}"
        times = " ".join(f"{p['cpu_s']:8.3f}" for p in plans)
        print(
            f"{line['vehicles']:9} {line['seed']:4} {times} {line['warm_replan_cpu_s']:8.3f} {whole:>8}"
            f" {peer_s[0]:>8} {peer_s[1]:>8} {gap:>9}"
        )
        print("".join(f"{'':10}{n}: {t}\n" for n, t in line.get("peers", {}).items() if isinstance(t, str)), end="")
    print(
        f"\nwithout numba: {result['without_numba']['cpu_s']} s for {result['without_numba']['vehicles']} vehicles to 0.5 %\n"
    )
    for line in result["hard"]:
        print(
            f"{line['case']:>14} {line['vehicles']} {line['seed']} {line['cpu_s']:7.2f} s  certified {line['certified_gap']:8.4%}  "
            f"true {line['true_gap']:8.4%}  direct {line['direct_cpu_s']:7.2f} s  missed {line['shortfalls']}"
        )
    print("\nmissed: " + ("; ".join(result["missed"]) or "nothing"))


if __name__ == "__main__":
    sys.exit(main())
