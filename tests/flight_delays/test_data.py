"""The sample and the query: no leaks from the future, and all values within the limits of training.yaml.

These tests read training.yaml and run its query on DuckDB, in memory.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest
import sqlglot
import yaml
from sklearn.metrics import roc_auc_score

from flight_delays import sample

SETTINGS = yaml.safe_load(Path(sample.__file__).with_name("training.yaml").read_text(encoding="utf-8"))
DATA = SETTINGS["data"]
COLUMNS = DATA["columns"]
FEATURES = [name for name, column in COLUMNS.items() if column.get("feature", True)]
NUMBERS = [name for name in FEATURES if COLUMNS[name]["type"] == "number"]
TABLES = {"flights": 336_776, "weather": 26_115, "planes": 3_322}
SEASONS = [datetime(2013, 4, 1), datetime(2013, 7, 1), datetime(2014, 1, 1)]
APRIL = SEASONS[0]


class Warehouse:
    """The part of an Ibis backend that `sample.load` calls, on a DuckDB connection."""

    def __init__(self, connection):
        self.connection = connection

    def create_table(self, name, frame, *, overwrite):
        self.connection.register("frame", frame)
        self.connection.execute(f"CREATE {'OR REPLACE ' * overwrite}TABLE {name} AS FROM frame")


@pytest.fixture(scope="module")
def warehouse():
    """Load the sample, and run the query on the whole year into the table `year`."""
    with duckdb.connect() as connection:
        sample.load(Warehouse(connection))
        create_rows(connection, "year", *windows(SEASONS[-1])[::2])
        yield connection


def windows(as_of):
    """Return where the training rows start, where the fresh rows start, and where both end."""
    until = as_of - timedelta(days=DATA["label_delay_days"])
    fresh = until - timedelta(days=DATA["fresh_days"])
    return fresh - timedelta(days=DATA["train_days"]), fresh, until


def create_rows(connection, table, since, until):
    connection.execute(f"CREATE OR REPLACE TABLE {table} AS {DATA['query']}", {"since": since, "until": until})


@contextmanager
def temporary_changes(connection):
    """Undo the changes of the block."""
    connection.begin()
    try:
        yield
    finally:
        connection.rollback()


def count_differences(connection, columns, table, other, where="true"):
    """Count the rows that only one of the tables has, in these columns; both must have rows."""
    assert connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0] > 30
    selects = [f"SELECT {', '.join(columns)} FROM {name} WHERE {where}" for name in (table, other)]
    both = f"({selects[0]} EXCEPT ALL {selects[1]}) UNION ALL ({selects[1]} EXCEPT ALL {selects[0]})"
    return connection.execute(f"SELECT count(*) FROM ({both})").fetchone()[0]


def test_the_sample_has_the_flights_of_a_year(warehouse):
    counts = {name: warehouse.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES}
    assert counts == TABLES


def test_the_query_returns_the_same_rows_on_every_machine(warehouse):
    since, _, until = windows(APRIL)
    numbers = ", ".join(
        f"round(avg({name}), 6)" for name in ("distance", "humidity", "late_share_of_carrier", "late::INT")
    )
    row = warehouse.execute(
        f"SELECT count(*), {numbers} FROM year WHERE time_hour >= ? AND time_hour < ?", [since, until]
    ).fetchone()
    assert row == (76154, 1014.436405, 57.675375, 0.189122, 0.231111)


def test_the_query_returns_the_columns_of_training_yaml(warehouse):
    assert {name for name, *_ in warehouse.execute("DESCRIBE year").fetchall()} == set(COLUMNS)


@pytest.mark.parametrize("as_of", SEASONS, ids=lambda as_of: f"{as_of:%B}")
@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_within_their_limits_in_every_season(warehouse, name, as_of):
    since, fresh, until = windows(as_of)
    column = COLUMNS[name]
    values = column.get("values")
    outside = [f"{name} < {column['min']}"] if "min" in column else []
    outside += [f"{name} > {column['max']}"] if "max" in column else []
    outside += [f"{name} NOT IN ({', '.join(map(repr, values))})"] if values else []
    for start, end in ((since, fresh), (fresh, until)):
        nulls, failures = warehouse.execute(
            f"SELECT avg(({name} IS NULL)::INT), count(*) FILTER ({' OR '.join(outside) or 'false'}) FROM year "
            "WHERE time_hour >= ? AND time_hour < ?",
            [start, end],
        ).fetchone()
        assert failures == 0
        assert nulls <= column.get("max_null_share", 0)


def test_the_key_identifies_a_flight(warehouse):
    key = ", ".join(DATA["key"])
    assert warehouse.execute(f"SELECT count(*) - count(DISTINCT ({key})) FROM year").fetchone() == (0,)


@pytest.mark.parametrize("as_of", SEASONS, ids=lambda as_of: f"{as_of:%B}")
def test_there_are_enough_rows_in_every_season(warehouse, as_of):
    since, fresh, until = windows(as_of)
    for start, end, limit in ((since, fresh, "min_train_rows"), (fresh, until, "min_fresh_rows")):
        query = "SELECT count(*) FROM year WHERE time_hour >= ? AND time_hour < ?"
        assert warehouse.execute(query, [start, end]).fetchone()[0] >= SETTINGS["checks"][limit]


def test_rows_do_not_depend_on_data_after_as_of(warehouse):
    """Delete all data after 1 April 2013."""
    since, _, until = windows(APRIL)
    with temporary_changes(warehouse):
        create_rows(warehouse, "before", since, until)
        for table in ("flights", "weather"):
            warehouse.execute(f"DELETE FROM {table} WHERE time_hour >= ?", [APRIL])
        create_rows(warehouse, "after", since, until)
        assert count_differences(warehouse, COLUMNS, "before", "after") == 0


def test_features_do_not_depend_on_data_after_the_departure(warehouse):
    """Change all data that becomes known after some hour: the features of that hour's flights stay the same."""
    hour = datetime(2013, 3, 15, 20)
    with temporary_changes(warehouse):
        # The delays of the two hours before may not be known yet either
        warehouse.execute(
            "UPDATE flights SET dep_time = 1, dep_delay = 999, arr_time = 2, air_time = 1, "
            "arr_delay = CASE WHEN arr_delay IS NOT NULL THEN 999 END WHERE time_hour > ?",
            [hour - timedelta(hours=2)],
        )
        warehouse.execute("UPDATE weather SET temp = 0, visib = 0 WHERE time_hour >= ?", [hour])
        create_rows(warehouse, "after", hour - timedelta(days=1), hour + timedelta(days=1))
        in_the_hour = f"time_hour = TIMESTAMP '{hour}'"
        columns = dict.fromkeys([*DATA["key"], *FEATURES])
        assert count_differences(warehouse, columns, "year", "after", in_the_hour) == 0
        assert count_differences(warehouse, ["late"], "year", "after", in_the_hour) > 0


def test_the_query_returns_no_column_that_is_known_only_afterwards(warehouse):
    assert not {name for name, *_ in warehouse.execute("DESCRIBE year").fetchall()} & set(DATA["known_afterwards"])


@pytest.mark.parametrize("name", NUMBERS)
def test_no_feature_alone_predicts_the_target(warehouse, name):
    """A feature that contains the delay would."""
    frame = warehouse.execute(f"SELECT late, {name} AS x FROM year WHERE {name} IS NOT NULL USING SAMPLE 20000").df()
    auc = roc_auc_score(frame["late"], frame["x"].astype(float))
    assert max(auc, 1 - auc) < SETTINGS["checks"]["max_single_feature_auc"]


@pytest.mark.parametrize("name", NUMBERS)
def test_numeric_features_have_limits(name):
    assert {"min", "max"} <= COLUMNS[name].keys()


@pytest.mark.parametrize("dialect", ["postgres", "redshift", "snowflake", "bigquery"])
def test_the_query_returns_the_same_rows_after_translation_to_another_dialect_and_back(warehouse, dialect):
    query = bound_query(datetime(2013, 1, 2), datetime(2013, 1, 7))
    [translation] = sqlglot.transpile(query, read="duckdb", write=dialect)
    [back_translation] = sqlglot.transpile(translation, read=dialect, write="duckdb")
    with temporary_changes(warehouse):
        for table, statement in (("original", query), ("translated", back_translation)):
            warehouse.execute(f"CREATE TABLE {table} AS {statement}")
        assert count_differences(warehouse, COLUMNS, "original", "translated") == 0


@pytest.mark.parametrize(
    ("dialect", "double", "timestamp"),
    [
        ("postgres", "DOUBLE PRECISION", "TIMESTAMP"),
        ("redshift", "DOUBLE PRECISION", "TIMESTAMP"),
        ("snowflake", "DOUBLE", "TIMESTAMPNTZ"),
        ("bigquery", "FLOAT64", "DATETIME"),
    ],
)
def test_the_query_divides_doubles_and_compares_times_without_a_zone(dialect, double, timestamp):
    """Warehouses round quotients of decimals differently; a session's time zone would shift times that have a zone."""
    [statement] = sqlglot.transpile(
        bound_query(datetime(2013, 1, 2), datetime(2013, 1, 7)), read="duckdb", write=dialect
    )
    assert statement.count(f"CAST(SUM(past.late) AS {double}) / NULLIF(SUM(past.departures), 0)") == 2
    assert f"CAST('2013-01-02 00:00:00' AS {timestamp})" in statement


def bound_query(since, until):
    return DATA["query"].replace("$since", f"'{since}'").replace("$until", f"'{until}'")
