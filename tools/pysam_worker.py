"""Bills of NREL PySAM, in its own environment: cases come as lines of JSON on standard input, bills go out the same way.

URDB goes through PySAM's own converter, so that nothing but the load is ours.
"""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

import PySAM  # type: ignore[import-not-found]
from PySAM import Utilityrate5
from PySAM.UtilityRateTools import URDBv8_to_ElectricityRates  # type: ignore[import-not-found]


def bills(case: dict[str, Any]) -> list[float]:
    """The 12 monthly bills of the first year."""
    model = Utilityrate5.new()
    rates = URDBv8_to_ElectricityRates(copy.deepcopy(case["rate"]))
    if rates["ur_enable_billing_demand"]:
        # The converter's second column is 0: it would leave the month's own peak out of its billed demand.
        rates["ur_billing_demand_lookback_percentages"] = [
            [share, 1] for share, _ in rates["ur_billing_demand_lookback_percentages"]
        ]
        rates["ur_yearzero_usage_peaks"] = case["prior_peaks_kw"]
    model.ElectricityRates.assign(rates)
    model.ElectricityRates.rate_escalation = [0]
    model.ElectricityRates.ur_nm_yearend_sell_rate = case["surplus_per_kwh"]
    model.Lifetime.assign({"analysis_period": 1, "system_use_lifetime_output": 0, "inflation_rate": 0})
    model.SystemOutput.assign({"gen": case["generation"], "degradation": [0]})
    model.Load.assign({"load": case["load"], "load_escalation": [0]})
    model.execute(0)
    return list(model.Outputs.year1_monthly_utility_bill_w_sys)


def main() -> None:
    """Answer every line."""
    sys.stdout.write(json.dumps({"version": PySAM.__version__}) + "\n")
    sys.stdout.flush()
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        answers.write(json.dumps(bills(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
