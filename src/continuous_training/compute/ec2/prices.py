"""Prices of instance types."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from continuous_training.compute.ec2.aws import Aws, translate_errors
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from continuous_training.settings import Compute


def find_hourly_price(aws: Aws, instance_type: str, settings: Compute) -> float:
    """Return the on-demand price of an instance type in USD an hour: from training.yaml, else the Pricing API.

    A spot instance never costs more than that, so the cost limit holds for it too.

    Raises:
        UserError: neither has a price.
    """
    if (price := settings.prices.get(instance_type)) is not None:
        return price
    attributes = {
        "instanceType": instance_type,
        "regionCode": aws.region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in attributes.items()]
    with translate_errors(f"find the price of {instance_type} (or set compute.prices in training.yaml)"):
        response = aws.pricing.get_products(ServiceCode="AmazonEC2", Filters=filters, MaxResults=10)
    prices = [
        price for product in response["PriceList"] if (price := _on_demand_price(json.loads(product))) is not None
    ]
    if not prices:
        raise UserError(
            f"AWS has no price for {instance_type} in {aws.region}: set it in training.yaml, compute.prices"
        )
    return max(prices)


def _on_demand_price(product: dict[str, object]) -> float | None:
    """Return the highest hourly price of a product of the price list, None if it has none above 0."""
    terms = product.get("terms")
    offers = terms.get("OnDemand", {}) if isinstance(terms, dict) else {}
    prices = [
        float(dimension["pricePerUnit"]["USD"])
        for offer in offers.values()
        for dimension in offer["priceDimensions"].values()
        if dimension["unit"] == "Hrs" and "USD" in dimension["pricePerUnit"]
    ]
    return max(prices) if prices and max(prices) > 0 else None
