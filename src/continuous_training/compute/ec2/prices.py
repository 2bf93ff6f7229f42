"""What machines cost, and how long they may therefore run."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from typing import TYPE_CHECKING

from continuous_training.compute.ec2.aws import Aws, saying
from continuous_training.problem import Problem

if TYPE_CHECKING:
    from continuous_training.settings import Compute

SHORTEST = 5  # minutes: less is not worth a boot
BOOT = 2  # minutes that are paid before an instance begins to count its own


def an_hour(aws: Aws, kind: str, given: Compute) -> float:
    """Return what an instance type costs in USD an hour on demand: training.yaml's word, or the Pricing API's.

    A spot instance never costs more than that, so the limit holds for it too.

    Raises:
        Problem: neither knows.
    """
    if (price := given.prices.get(kind)) is not None:
        return price
    wanted = {
        "instanceType": kind,
        "regionCode": aws.region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
    with saying(f"tell the price of {kind} (compute.prices in training.yaml may)"):
        found = aws.pricing.get_products(ServiceCode="AmazonEC2", Filters=filters, MaxResults=10)
    prices = [price for product in found["PriceList"] if (price := _on_demand(json.loads(product))) is not None]
    if not prices:
        raise Problem(f"AWS has no price for {kind} in {aws.region}: give one in training.yaml, compute.prices")
    return max(prices)


def _on_demand(product: dict[str, object]) -> float | None:
    terms = product.get("terms")
    offers = terms.get("OnDemand", {}) if isinstance(terms, dict) else {}
    found = [
        float(dimension["pricePerUnit"]["USD"])
        for offer in offers.values()
        for dimension in offer["priceDimensions"].values()
        if dimension["unit"] == "Hrs" and "USD" in dimension["pricePerUnit"]
    ]
    return max(found) if found and max(found) > 0 else None


class Budget:
    """What the trials of a run may still use. They share the money evenly, and each has the whole time.

    The money is that for machines; disks, addresses and traffic, a few per cent of it, are not counted.
    """

    def __init__(self, given: Compute, trials: int) -> None:
        self._given, self._trials = given, trials
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.usd: defaultdict[str, float] = defaultdict(float)

    def minutes(self, trial: str, price: float) -> int:
        """Return for how many minutes a trial may have a machine at this price in USD an hour: its deadline.

        A trial that was interrupted has what it did not use.

        Raises:
            Problem: it is too little to train anything.
        """
        hours = self._given.max_hours - self.seconds[trial] / 3600
        usd = self._given.max_cost_usd / self._trials - self.usd[trial]
        minutes = math.floor(60 * min(hours, usd / price)) - BOOT
        if minutes < SHORTEST:
            raise Problem(
                f"compute.max_hours and max_cost_usd leave {max(minutes, 0)} minutes at {price} USD an hour: "
                f"at least {SHORTEST} are needed"
            )
        return minutes

    def spend(self, trial: str, seconds: float, price: float) -> None:
        """Take off what a machine of a trial has used."""
        self.seconds[trial] += seconds
        self.usd[trial] += seconds / 3600 * price
