"""The sample data and the query on it: real flights, nothing from the future, nothing known only afterwards."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pytest
import sqlglot

from conftest import ROOT
from continuous_training.data.snapshots import content_hash, read_snapshot
from continuous_training.data.sources.query import bind_window
from continuous_training.documents import Snapshot
from continuous_training.settings import load_settings
from continuous_training.stages import check_data
from pipeline import Pipeline
from postgresql import Postgresql, needs_postgresql
from toy import change

TRAINING = Path("src/flight_delays/training.yaml")


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fill the sample warehouse once."""
    import ibis

    from flight_delays import sample

    path = tmp_path_factory.mktemp("warehouse") / "warehouse.duckdb"
    connection = ibis.duckdb.connect(path)
    sample.load(connection)
    connection.disconnect()
    return path


@pytest.fixture(autouse=True)
def _flights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warehouse: Path) -> None:
    """Enter a workspace with the example model and its warehouse."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "src/flight_delays", "src/flight_delays")
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    monkeypatch.setenv("CT_WAREHOUSE_URL", f"duckdb://{warehouse}")


@pytest.fixture
def april(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Begin a run as of 1 April 2013."""
    return Pipeline(monkeypatch, AS_OF="2013-04-01")


def failures(run: Pipeline) -> dict[str, str]:
    return {check.name: check.message for check in run.checks() if not check.passed}


def rows(run: Pipeline, taken: Snapshot) -> pd.DataFrame:
    return pd.concat([read_snapshot(part.path, run.given.data) for part in (taken.train, taken.fresh)])


def test_the_warehouse_holds_the_flights_of_a_year(warehouse: Path) -> None:
    with duckdb.connect(warehouse, read_only=True) as connection:
        counts = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("flights", "weather", "planes")
        }
    assert counts == {"flights": 336_776, "weather": 26_115, "planes": 3_322}


def test_the_snapshot_is_the_same_on_every_machine(april: Pipeline) -> None:
    assert april.snapshot().hash[:16] == "8875cc85584e4b0e"


def test_the_data_of_the_sample_is_fit_to_train_on(april: Pipeline) -> None:
    assert failures(april) == {}


@pytest.mark.parametrize("as_of", ["2013-07-01", "2014-01-01"])
def test_it_is_so_in_every_season(monkeypatch: pytest.MonkeyPatch, as_of: str) -> None:
    assert failures(Pipeline(monkeypatch, AS_OF=as_of)) == {}


def test_nothing_after_as_of_can_change_a_snapshot(
    monkeypatch: pytest.MonkeyPatch, warehouse: Path, tmp_path: Path
) -> None:
    """Erase everything that was not known on 1 April 2013: the snapshot is the same."""
    before = Pipeline(monkeypatch, AS_OF="2013-04-01").snapshot().hash
    past = tmp_path / "past.duckdb"
    shutil.copy(warehouse, past)
    with duckdb.connect(past) as connection:
        connection.execute("DELETE FROM flights WHERE time_hour >= TIMESTAMP '2013-04-01'")
        connection.execute("DELETE FROM weather WHERE time_hour >= TIMESTAMP '2013-04-01'")
    monkeypatch.setenv("CT_WAREHOUSE_URL", f"duckdb://{past}")
    assert Pipeline(monkeypatch, AS_OF="2013-04-01").snapshot().hash == before


def test_no_feature_of_a_flight_depends_on_what_happened_after_it_left(
    monkeypatch: pytest.MonkeyPatch, warehouse: Path, tmp_path: Path
) -> None:
    """Falsify all that became known of flights from some hour on: the features of that hour's flights stay."""
    hour = pd.Timestamp("2013-03-15 20:00")
    run = Pipeline(monkeypatch, AS_OF="2013-04-01")
    before = rows(run, run.snapshot())
    other = tmp_path / "other.duckdb"
    shutil.copy(warehouse, other)
    with duckdb.connect(other) as connection:
        # Whether a flight of the two hours before left late may not be known yet either.
        connection.execute(
            "UPDATE flights SET dep_time = 1, dep_delay = 999, arr_time = 2, air_time = 1, "
            "arr_delay = CASE WHEN arr_delay IS NOT NULL THEN 999 END "
            "WHERE time_hour > ?",
            [(hour - timedelta(hours=2)).to_pydatetime()],
        )
        connection.execute("UPDATE weather SET temp = 0, visib = 0 WHERE time_hour >= ?", [hour.to_pydatetime()])
    monkeypatch.setenv("CT_WAREHOUSE_URL", f"duckdb://{other}")
    run = Pipeline(monkeypatch, AS_OF="2013-04-01")
    after = rows(run, run.snapshot())
    asked = [*run.given.data.key, *run.given.data.features]
    of_the_hour = [frame.loc[frame["time_hour"] == hour, asked].reset_index(drop=True) for frame in (before, after)]
    assert len(of_the_hour[0]) > 30
    pd.testing.assert_frame_equal(*(frame.loc[:, ~frame.columns.duplicated()] for frame in of_the_hour))


def test_columns_known_only_afterwards_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when someone adds them to the query and declares them as features."""
    known = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]
    change(
        "      flights.distance,",
        "      flights.distance,\n" + "".join(f"      flights.{name},\n" for name in known),
        TRAINING,
    )
    declared = "".join(f"    {name}: {{type: number, max_null_share: 1}}\n" for name in known)
    change("    dest: {type", f"{declared}    dest: {{type", TRAINING)
    found = failures(Pipeline(monkeypatch, AS_OF="2013-04-01"))
    assert found["known afterwards"] == (
        "known only afterwards, so no server could be asked with it: "
        "«dep_time», «dep_delay», «arr_time», «arr_delay», «air_time»"
    )


def test_it_does_so_under_another_name_too(monkeypatch: pytest.MonkeyPatch) -> None:
    change("      flights.distance,", "      flights.distance,\n      flights.dep_delay AS hold,", TRAINING)
    change("    dest: {type", "    hold: {type: number, max_null_share: 1}\n    dest: {type", TRAINING)
    found = failures(Pipeline(monkeypatch, AS_OF="2013-04-01"))
    assert "«hold» alone ranks the target" in found["leaks"]


def test_the_sample_is_filled_when_the_default_warehouse_is_missing(
    monkeypatch: pytest.MonkeyPatch, warehouse: Path
) -> None:
    from flight_delays import sample

    monkeypatch.delenv("CT_WAREHOUSE_URL")
    monkeypatch.setattr(
        sample, "load", lambda to: to.raw_sql(f"ATTACH '{warehouse}' AS made; COPY FROM DATABASE made TO warehouse")
    )
    assert Pipeline(monkeypatch, AS_OF="2013-04-01").snapshot().hash[:16] == "8875cc85584e4b0e"
    assert [path.name for path in Path(".ct").glob("*warehouse*")] == ["warehouse.duckdb"]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, warehouse: Path) -> Path:
    """Make a warehouse of a week's flights."""
    path = tmp_path_factory.mktemp("few") / "warehouse.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute(f"ATTACH '{warehouse}' AS year (READ_ONLY)")
        for table in ("flights", "weather"):
            connection.execute(f"CREATE TABLE {table} AS FROM year.{table} WHERE time_hour < DATE '2013-01-08'")
        connection.execute("CREATE TABLE planes AS FROM year.planes SEMI JOIN flights USING (tailnum)")
    return path


@needs_postgresql
def test_the_snapshot_is_the_same_from_every_warehouse(monkeypatch: pytest.MonkeyPatch, few: Path) -> None:
    import ibis

    monkeypatch.setenv("CT_WAREHOUSE_URL", f"duckdb://{few}")
    change("fresh_days: 28", "fresh_days: 3", TRAINING)
    here = Pipeline(monkeypatch, AS_OF="2013-01-10").snapshot()
    assert min(here.train.rows, here.fresh.rows) > 1000
    with Postgresql() as server, duckdb.connect(few, read_only=True) as connection:
        filled = ibis.connect(server.url)
        for table in ("flights", "weather", "planes"):
            filled.create_table(table, connection.table(table).to_arrow_table())
        filled.disconnect()
        monkeypatch.setenv("CT_WAREHOUSE_URL", server.url)
        assert Pipeline(monkeypatch, AS_OF="2013-01-10").snapshot().hash == here.hash


@pytest.mark.parametrize("dialect", ["postgres", "redshift", "snowflake", "bigquery"])
def test_the_query_means_the_same_in_every_dialect(tmp_path: Path, few: Path, dialect: str) -> None:
    """As far as one translator can tell: into the dialect and back, it gives the same rows."""
    asked = bind_window(load_settings("flight_delays").data.query, datetime(2013, 1, 2), datetime(2013, 1, 7))
    [there] = sqlglot.transpile(asked, read="duckdb", write=dialect)
    [back] = sqlglot.transpile(there, read=dialect, write="duckdb")
    with duckdb.connect(few, read_only=True) as connection:
        for name, query in (("asked", asked), ("back", back)):
            connection.execute(f"COPY ({query}) TO '{tmp_path}/{name}.parquet' (FORMAT parquet)")
    assert content_hash(tmp_path / "back.parquet") == content_hash(tmp_path / "asked.parquet")


@pytest.mark.parametrize(
    ("dialect", "double", "moment"),
    [
        ("postgres", "DOUBLE PRECISION", "TIMESTAMP"),
        ("redshift", "DOUBLE PRECISION", "TIMESTAMP"),
        ("snowflake", "DOUBLE", "TIMESTAMPNTZ"),
        ("bigquery", "FLOAT64", "DATETIME"),
    ],
)
def test_the_query_divides_in_doubles_and_cuts_at_moments(dialect: str, double: str, moment: str) -> None:
    """What each warehouse would round in its own way is a double first; what a session's zone could move has none."""
    asked = bind_window(load_settings("flight_delays").data.query, datetime(2013, 1, 2), datetime(2013, 1, 7))
    [statement] = sqlglot.transpile(asked, read="duckdb", write=dialect)
    assert statement.count(f"CAST(SUM(past.late) AS {double}) / NULLIF(SUM(past.departures), 0)") == 2
    assert f"CAST('2013-01-02 00:00:00' AS {moment})" in statement


def test_every_feature_has_limits_or_is_a_category() -> None:
    data = load_settings("flight_delays").data
    for name in data.features_of("number"):
        assert data.columns[name].min is not None, name
        assert data.columns[name].max is not None, name


def test_a_failing_check_shows_the_rows_that_failed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    change("distance: {type: number, min: 50", "distance: {type: number, min: 90", TRAINING)
    found = [check for check in Pipeline(monkeypatch, AS_OF="2013-04-01").checks() if not check.passed]
    assert [check.column for check in found] == ["distance"]
    assert 0 < len(found[0].rows) <= check_data.EXAMPLES
    assert found[0].rows[0]["distance"] == pytest.approx(80)
