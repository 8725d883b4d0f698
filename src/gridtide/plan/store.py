"""Every vehicle by itself against given prices, exactly: the fleet planner's oracle, in NumPy or (after `warm_up`) compiled by
numba.

Both forms give the same answers. Compiling takes seconds: `warm_up` is called by whoever has the time (a worker, a bench),
never by an event loop, and nothing here compiles by itself.
"""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct

from gridtide.model import taper
from gridtide.plan import store_numpy
from gridtide.plan.horizon import Floats, Horizon, Ints, Vehicles

_compiled: list[Callable[..., Any]] = []


class Stores(Struct, frozen=True, eq=False, kw_only=True):
    """The vehicles as the oracle reads them. A vehicle outside its own bounds widens them: that is a start, not an error."""

    first: Ints
    last: Ints
    table: Floats
    """(N, 12): charge kW, discharge kW, charge and discharge efficiency, capacity, least, energy, required kWh, need price,
    left value, wear price, calendar price."""
    limit_kw: Floats
    """(N, T): charging limit per step."""
    hours: Floats
    price_row: Ints
    """Row of `Tolls.price` that holds: 0 for no group."""
    block: Ints
    """Which sum of plans the vehicle belongs to."""
    blocks: int


class Tolls(Struct, frozen=True, eq=False, kw_only=True):
    """What the vehicles pay."""

    price: Floats
    """(J + 1, T): per kWh; row 0 for vehicles without a group."""
    hold_up: Floats
    """(T,): per kWh held, times the discharge efficiency."""
    hold_down: Floats
    """(T,): per kWh held, over the charge efficiency."""


class Answer(Struct, frozen=True, eq=False, kw_only=True):
    """The vehicles' answer to prices."""

    value: Floats
    """(N,): least cost of each vehicle at these prices; a lower bound where doing both directions at once would pay."""
    own_cost: Floats
    """(B,): wear, ageing and missed need of each block's plans, less the value of what is left; without energy."""
    profile_kw: Floats
    """(B, T): sums of the plans."""
    stored_up: Floats
    """(B, T): sums of energy times discharge efficiency, kWh, at the ends of connected steps; empty unless asked for."""
    stored_down: Floats
    """(B, T): sums of energy over charge efficiency."""


def prepare(horizon: Horizon, vehicles: Vehicles, block: Ints | None = None) -> Stores:
    """The oracle's table; `block` (N,) from 0 without gaps, all in one if none."""
    size = vehicles.size
    least = np.minimum(vehicles.least_kwh, vehicles.energy_kwh)
    capacity = np.maximum(vehicles.capacity_kwh, vehicles.energy_kwh)
    table = np.column_stack([
        vehicles.charge_kw, vehicles.discharge_kw, vehicles.charge_efficiency, vehicles.discharge_efficiency, capacity, least,
        vehicles.energy_kwh, np.clip(vehicles.required_kwh, least, capacity), vehicles.need_price_per_kwh,
        vehicles.left_value_per_kwh, vehicles.wear_price_per_kwh, vehicles.calendar_price_per_kwh_h,
    ])  # fmt: skip
    limit = np.repeat(vehicles.charge_kw[:, None], horizon.steps, axis=1)
    if vehicles.charge_limit_kw is not None:
        limit = np.clip(vehicles.charge_limit_kw, 0.0, limit)
    block = np.zeros(size, dtype=np.int64) if block is None else block
    return Stores(
        first=vehicles.first.astype(np.int64), last=vehicles.last.astype(np.int64), table=np.ascontiguousarray(table),
        limit_kw=limit,
        hours=horizon.hours, price_row=(vehicles.group + 1).astype(np.int64), block=block, blocks=int(block.max(initial=0)) + 1,
    )  # fmt: skip


def tapered_kw(vehicles: Vehicles, hours: Floats, energy_kwh: Floats) -> Floats:
    """(N, S): most charging power, AC, in steps of `hours` (S,) that begin with the battery energy `energy_kwh` (N, S)."""
    shape = energy_kwh.shape
    capacity = np.maximum(vehicles.capacity_kwh, 1e-9)[:, None]
    width = np.broadcast_to(np.maximum(1.0 - vehicles.knee_soc, 1e-9)[:, None], shape)
    full_kw = np.broadcast_to(np.maximum(vehicles.taper_kw, 1e-9)[:, None], shape)
    rated_kw, efficiency = vehicles.charge_kw[:, None], vehicles.charge_efficiency[:, None]
    room = np.clip(1.0 - energy_kwh / capacity, 0.0, 1.0)
    wish = np.broadcast_to(rated_kw * efficiency, shape)
    span = np.broadcast_to(hours, shape)
    moved = taper.energy_kwh(wish, span, room, width, np.broadcast_to(capacity, shape), full_kw)
    limit = np.minimum(moved / (span * efficiency), rated_kw)
    return np.where((vehicles.knee_soc >= 1.0)[:, None], rated_kw, limit)


def numba_there() -> bool:
    """Whether numba (extra `fleet`) is installed; does not import it."""
    return importlib.util.find_spec("numba") is not None


def warm() -> bool:
    """Whether the compiled form is in use."""
    return bool(_compiled)


def warm_up() -> bool:
    """Compile (or load from numba's cache) the oracle; seconds. Returns whether there is a compiled form now. Never on an
    event loop."""
    if _compiled:
        return True
    if not numba_there():
        return False
    numba: Any = importlib.import_module("numba")
    from gridtide.plan import kernel

    flat, table, ints = numba.float64[::1], numba.float64[:, ::1], numba.int64[::1]
    signature = numba.int64(
        ints,
        ints,
        ints,
        ints,
        table,
        table,
        flat,
        table,
        ints,
        flat,
        flat,
        numba.boolean,
        flat,
        flat,
        flat,
        table,
        table,
        table,
        table,
    )
    sweeping = numba.void(
        numba.int64,
        ints,
        ints,
        table,
        table,
        flat,
        flat,
        ints,
        ints,
        ints,
        flat,
        flat,
        flat,
        flat,
        flat,
        table,
        table,
        table,
        flat,
    )
    summing = numba.void(ints, ints, ints, table, table, table, table, table, table)
    for function, types in ((kernel.solve, signature), (kernel.sweep, sweeping), (kernel.block_sums, summing)):
        try:
            _compiled.append(numba.njit(types, cache=True)(function))
        except RuntimeError:  # no place where a cache can be written
            _compiled.append(numba.njit(types)(function))
    return True


def cool_down() -> None:
    """Go back to the NumPy form (tests and benches compare the two)."""
    _compiled.clear()


def solve(
    stores: Stores, tolls: Tolls, *, rows: Ints | None = None, share: Floats | None = None, power_kw: Floats | None = None,
    stored: bool = False,
) -> Answer:  # fmt: skip
    """The best plan of every vehicle of `rows` (all if none) at `tolls`; adds share (N,) times it to `power_kw` (N, T) where
    given.

    Where the price is so negative that charging and discharging at once would pay, the plan clamps the discharge price and the
    value comes from the convex hull of doing one or the other: a bound, whatever the plan.
    """
    run = _compiled[0] if _compiled else store_numpy.solve
    size, steps = stores.limit_kw.shape
    rows = np.arange(size, dtype=np.int64) if rows is None else rows
    share = np.ones(size) if share is None else share
    empty = np.zeros((0, steps))
    shape = (stores.blocks, steps)
    value, own_cost, profile = np.zeros(size), np.zeros(stores.blocks), np.zeros(shape)
    up, down = (np.zeros(shape), np.zeros(shape)) if stored else (empty, empty)
    power = empty if power_kw is None else power_kw
    fixed = (rows, stores.block, stores.first, stores.last, stores.table, stores.limit_kw, stores.hours)
    prices = (np.ascontiguousarray(tolls.price), stores.price_row, tolls.hold_up, tolls.hold_down)
    negative = run(*fixed, *prices, False, share, value, own_cost, profile, up, down, power)
    if negative:
        run(*fixed, *prices, True, share, value, own_cost, profile, up, down, power)
    return Answer(value=value, own_cost=own_cost, profile_kw=profile, stored_up=up, stored_down=down)


class Pull(Struct, frozen=True, eq=False, kw_only=True):
    """The coupling rows as a sweep reads them: each row pulls with max(0, dual + stiffness * violation), at most `most`."""

    begins: Ints
    """Rows of (profile q, step t) are order[begins[q T + t] : begins[q T + t + 1]]."""
    order: Ints
    coef: Floats
    rhs: Floats
    dual: Floats
    stiffness: Floats
    most: Floats


class Fleet(Struct, frozen=True, eq=False, kw_only=True):
    """A fleet's plan while it is swept; changed in place."""

    power_kw: Floats
    """(N, T)."""
    energy_kwh: Floats
    """(N, T), 0 where not connected."""
    own_cost: Floats
    """(N,): wear, ageing and missed need, less the value of what is left."""
    totals: Floats
    """(J + 3, T): the profiles that the rows read."""


def sweep(stores: Stores, import_price: Floats, pull: Pull, fleet: Fleet, batch: int) -> None:
    """Re-plan all vehicles in their order, `batch` at a time, each batch against the totals that the others leave.

    A Gauss-Seidel pass over the augmented Lagrangian, linear for each vehicle, whose own power is small against the fleet's.
    """
    run = _compiled[1] if _compiled else store_numpy.sweep
    run(
        batch, stores.first, stores.last, stores.table, stores.limit_kw, stores.hours, import_price, stores.price_row,
        pull.begins, pull.order, pull.coef, pull.rhs, pull.dual, pull.stiffness, pull.most,
        fleet.totals, fleet.power_kw, fleet.energy_kwh, fleet.own_cost,
    )  # fmt: skip


def sums(stores: Stores, fleet: Fleet, *, stored: bool) -> Answer:
    """A fleet's plan as an answer; its value is empty, since it stands at no one price."""
    run = _compiled[2] if _compiled else store_numpy.sums
    shape = (stores.blocks, stores.hours.size)
    profile, empty = np.zeros(shape), np.zeros((0, shape[1]))
    up, down = (np.zeros(shape), np.zeros(shape)) if stored else (empty, empty)
    run(stores.block, stores.first, stores.last, stores.table, fleet.power_kw, fleet.energy_kwh, profile, up, down)
    own_cost = np.bincount(stores.block, weights=fleet.own_cost, minlength=stores.blocks).astype(np.float64)
    return Answer(value=np.zeros(0), own_cost=own_cost, profile_kw=profile, stored_up=up, stored_down=down)
