"""What machines cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from continuous_training.compute.ec2.aws import Aws, saying
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from continuous_training.settings import Compute


def an_hour(aws: Aws, kind: str, compute: Compute) -> float:
    """Return what an instance type costs in USD an hour on demand: training.yaml's word, or the Pricing API's.

    A spot instance never costs more than that, so the limit holds for it too.

    Raises:
        UserError: neither knows.
    """
    if (price := compute.prices.get(kind)) is not None:
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
        raise UserError(f"AWS has no price for {kind} in {aws.region}: give one in training.yaml, compute.prices")
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
