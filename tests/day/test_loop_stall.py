"""Around a loop that stood still, and a site on its way out: what is sent, and what flows."""

import numpy as np

from tests.day.wire_site import WireSite, on_wire, world

GIVING = (235.0,) * 8
"""A building that wants what four vehicles can give."""


def test_after_a_stall_the_first_thing_that_leaves_is_zero() -> None:
    async def scenario() -> None:
        here = WireSite(world(4, blocks_kw=GIVING))
        here.start()
        await here.until_giving()
        await here.after(10.0)
        before_kw, words, asked = float(-here.power_kw.sum()), ["It stood still for 3.0 s."], [0]

        def stalled() -> str | None:
            asked[0] += 1
            return words.pop() if words else None

        here.site.stalled = stalled
        cycles = here.site.cycles
        for _ in range(20):
            await here.after(0.05)
            if not here.power_kw.any():
                break
        assert not here.power_kw.any()
        # That cycle decided nothing: it only stopped.
        assert here.site.cycles - cycles == asked[0] - 1
        assert here.codes["loop_stalled"] == 1
        await here.until_giving(least_kw=0.8 * before_kw, within_s=60.0)

    on_wire(scenario)


def test_the_stop_after_a_stall_is_zero_at_every_power_stage() -> None:
    async def scenario() -> None:
        here = WireSite(world(4, blocks_kw=GIVING))
        here.start()
        await here.until_giving()
        await here.after(10.0)
        here.site.stalled = lambda: "It stands still again and again."
        await here.after(1.1)
        assert not here.power_kw.any()
        # Whatever is decided next begins at zero.
        assert not here.site.state.guard.setpoint_kw.any()
        await here.after(5.0)
        assert not here.power_kw.any()

    on_wire(scenario)


def test_lessen_takes_only_discharge_down_and_keeps_to_what_stations_can() -> None:
    async def scenario() -> None:
        here = WireSite(world(4, blocks_kw=GIVING))
        here.start()
        assert here.site.lessen(0.5) is False
        await here.until_giving()
        await here.after(10.0)
        here._tasks.pop("site").cancel()
        decided = here.decision.setpoint_kw.copy()
        assert here.site.lessen(0.5) is True
        await here.after(1.1)
        np.testing.assert_allclose(here.power_kw, decided * 0.5, atol=0.002)
        # 4 % of 10 kW is less than the least power of 0.5 kW.
        here.site.lessen(0.04)
        await here.after(1.1)
        assert not here.power_kw.any()
        here.site.lessen(7.0)
        await here.after(1.1)
        assert np.all(here.power_kw >= decided - 0.002)
        assert here.site.lessen(-3.0)
        await here.after(1.1)
        assert not here.power_kw.any()

    on_wire(scenario)
