"""Block I: tariffs, and what a transaction costs by them."""

from typing import Any

from gridtide.run.emulator.core import Actions, Core, Fields, status
from gridtide.run.emulator.transactions import Transaction, Transactions

MAX_PRICES = 10


class Tariffs:
    """Default tariffs by EVSE; the driver's tariff stands at the transaction."""

    def __init__(self, core: Core, transactions: Transactions) -> None:
        self._core, self._transactions = core, transactions
        self._default: dict[int, Any] = {}
        transactions.costs = self.details

    @property
    def actions(self) -> Actions:
        """Answer by action."""
        told: Actions = {"CostUpdated": self.cost_updated}
        if self._core.version == "2.0.1":
            return told
        return {
            **told,
            "SetDefaultTariff": self.set_default,
            "GetTariffs": self.get,
            "ClearTariffs": self.clear,
            "ChangeTransactionTariff": self.change,
        }

    def cost_updated(self, message: Any) -> Fields:
        """I02: the running cost, shown to the driver."""
        now = self._transactions.now
        if now is not None and now.id == message.transactionId:
            now.cost = message.totalCost
        return {}

    def set_default(self, message: Any) -> Fields:
        """I07: for one EVSE, or for all with 0."""
        tariff, evse_id = message.tariff, message.evseId
        if evse_id not in (0, 1):
            return status("Rejected", "UnknownEvse")
        fault = _fault(tariff)
        if fault is not None:
            return status(fault)
        now = self._transactions.now
        if now is not None and now.tariff is not None and now.tariff.tariffId == tariff.tariffId:
            return status("DuplicateTariffId")
        if evse_id == 0:
            self._default.clear()
        self._default[evse_id] = tariff
        return status("Accepted")

    def get(self, message: Any) -> Fields:
        """I09."""
        if message.evseId not in (0, 1):
            return status("Rejected", "UnknownEvse")
        told: list[Fields] = []
        for evse_id, tariff in self._default.items():
            if message.evseId in (0, evse_id) or evse_id == 0:
                told.append(_assignment(tariff, "DefaultTariff") | {"evseIds": [evse_id or 1]})
        now = self._transactions.now
        if now is not None and now.tariff is not None:
            told.append(_assignment(now.tariff, "DriverTariff") | {"evseIds": [1], "idTokens": [now.token.idToken]})
        return {"status": "Accepted", "tariffAssignments": told} if told else status("NoTariff")

    def clear(self, message: Any) -> Fields:
        """I08: by id, by EVSE, or all; a running transaction keeps its tariff."""
        wanted, evse_id = message.tariffIds, message.evseId
        here = {t.tariffId: e for e, t in self._default.items() if evse_id in (None, 0, e)}
        results: list[Fields] = []
        for name in wanted if wanted is not None else sorted(here):
            found = here.pop(name, None)
            if found is not None:
                del self._default[found]
            results.append({"tariffId": name, "status": "NoTariff" if found is None else "Accepted"})
        return {"clearTariffsResult": results or [{"status": "NoTariff"}]}

    def change(self, message: Any) -> Fields:
        """I11."""
        now, tariff = self._transactions.now, message.tariff
        if now is None or now.id != message.transactionId:
            return status("TxNotFound")
        fault = _fault(tariff)
        if fault is not None:
            return status(fault)
        before = self._of(now)
        if before is not None and before.currency != tariff.currency:
            return status("NoCurrencyChange")
        now.tariff = tariff
        self._core.soon(lambda: self._transactions.tell("Updated", "TariffChanged"))
        return status("Accepted")

    def _of(self, now: Transaction) -> Any | None:
        return now.tariff or self._default.get(1) or self._default.get(0)

    def details(self, now: Transaction) -> Fields:
        """costDetails of a transaction by its tariff (I12): energy, time and the fixed fee; {} without a tariff."""
        tariff, reading = self._of(now), self._transactions.reading
        if tariff is None or self._core.version == "2.0.1":
            return {}
        seconds = self._core.clock.monotonic() - now.started_s
        energy_wh = 0.0 if reading is None else (reading.energy_import_kwh or 0.0) * 1000.0
        parts = {
            "energy": _price(tariff.energy, "priceKwh") * energy_wh / 1000.0,
            "chargingTime": _price(tariff.chargingTime, "priceMinute") * seconds / 60.0,
            "fixed": _price(tariff.fixedFee, "priceFixed"),
        }
        total = sum(parts.values())
        low, high = getattr(tariff.minCost, "exclTax", None), getattr(tariff.maxCost, "exclTax", None)
        bounded = min(max(total, low or 0.0), total if high is None else high)
        bound = "NormalCost" if bounded == total else "MinCost" if bounded > total else "MaxCost"
        now.cost = bounded
        cost: Fields = {"currency": tariff.currency, "typeOfCost": bound, "total": {"exclTax": round(bounded, 4)}}
        cost |= {name: {"exclTax": round(value, 4)} for name, value in parts.items() if value}
        usage = {"energy": round(energy_wh, 1), "chargingTime": round(seconds), "idleTime": 0}
        return {"costDetails": {"totalCost": cost, "totalUsage": usage}}


def _prices(tariff: Any) -> list[Any]:
    names = ("energy", "chargingTime", "idleTime", "fixedFee", "reservationTime", "reservationFixed")
    return [price for name in names if (part := getattr(tariff, name)) is not None for price in part.prices]


def _fault(tariff: Any) -> str | None:
    """Prices with conditions are refused: the emulator counts by flat ones and says so."""
    prices = _prices(tariff)
    if len(prices) > MAX_PRICES:
        return "TooManyElements"
    return "ConditionNotSupported" if any(price.conditions is not None for price in prices) else None


def _price(part: Any, name: str) -> float:
    return 0.0 if part is None else float(getattr(part.prices[0], name))


def _assignment(tariff: Any, kind: str) -> Fields:
    told: Fields = {"tariffId": tariff.tariffId, "tariffKind": kind}
    return told if tariff.validFrom is None else told | {"validFrom": tariff.validFrom}
