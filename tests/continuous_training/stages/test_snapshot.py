"""Snapshots: the rows of the windows, with a hash of their content."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from continuous_training.data import sources, warehouse
from continuous_training.data.snapshots import content_hash, read_snapshot
from continuous_training.errors import UserError
from continuous_training.stages import snapshot
from pipeline import Pipeline
from toy import change, events, store

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**53, 2**53 + 1]),
            "name": st.none() | st.text("a∅0\\\x1f", max_size=3) | st.text(max_size=5),
            "other": st.none() | st.text("a∅0\\\x1f", max_size=3),
            "size": st.none() | st.floats(allow_nan=False, width=64),
            "at": st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
            "ok": st.none() | st.booleans(),
        }
    ),
    min_size=1,
    max_size=8,
)
SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "name": pa.string(),
        "other": pa.string(),
        "size": pa.float64(),
        "at": pa.timestamp("us"),
        "ok": pa.bool_(),
    }
)


def write_and_hash(rows: list[dict[str, object]], path: Path, schema: pa.Schema = SCHEMA) -> str:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return content_hash(path)


class TestContentHash:
    @given(rows=ROWS, data=st.data())
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_the_order_of_rows_does_not_change_the_hash(
        self, rows: list[dict[str, object]], data: st.DataObject, tmp_path: Path
    ) -> None:
        other = data.draw(st.permutations(rows))
        assert write_and_hash(rows, tmp_path / "a.parquet") == write_and_hash(other, tmp_path / "b.parquet")

    @given(rows=ROWS, others=ROWS)
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_different_rows_have_different_hashes(
        self, rows: list[dict[str, object]], others: list[dict[str, object]], tmp_path: Path
    ) -> None:
        def canonical(rows: list[dict[str, object]]) -> list[str]:
            plain = [{**row, "size": 0.0 if row["size"] == 0 else row["size"]} for row in rows]  # -0.0 is 0.0
            return sorted(repr(sorted(row.items())) for row in plain)

        same = write_and_hash(rows, tmp_path / "a.parquet") == write_and_hash(others, tmp_path / "b.parquet")
        assert same == (canonical(rows) == canonical(others))

    def test_duplicates_change_the_hash(self, tmp_path: Path) -> None:
        row = {"id": 1, "name": "a", "size": 1.0, "at": None, "ok": True}
        three = write_and_hash([row] * 3, tmp_path / "a.parquet")
        assert three != write_and_hash([row], tmp_path / "b.parquet")

    def test_the_width_of_numbers_and_the_order_of_columns_do_not_change_the_hash(self, tmp_path: Path) -> None:
        wide = write_and_hash(
            [{"id": 1, "size": 2.0}], tmp_path / "a.parquet", pa.schema({"id": pa.int64(), "size": pa.float64()})
        )
        narrow = write_and_hash(
            [{"id": 1, "size": 2.0}], tmp_path / "b.parquet", pa.schema({"size": pa.float32(), "id": pa.int16()})
        )
        assert wide == narrow

    def test_a_table_has_the_same_hash_on_every_machine(self, tmp_path: Path) -> None:
        rows = [
            {"id": 1, "name": "Ærø", "size": 0.1, "at": datetime(2013, 4, 1, 5), "ok": True},
            {"id": 2, "name": None, "size": -0.0, "at": None, "ok": None},
        ]
        narrow = pa.schema([field for field in SCHEMA if field.name != "other"])
        assert write_and_hash(rows, tmp_path / "a.parquet", narrow) == EXPECTED_HASH

    @pytest.mark.parametrize(
        ("one", "two"),
        [
            ({"id": 2**53}, {"id": 2**53 + 1}),
            ({"name": None}, {"name": "∅"}),
            ({"name": "a\x1fb", "other": "c"}, {"name": "a", "other": "b\x1fc"}),
            ({"name": "\x1f"}, {"name": "\\31"}),
        ],
    )
    def test_similar_rows_have_different_hashes(
        self, tmp_path: Path, one: dict[str, object], two: dict[str, object]
    ) -> None:
        assert write_and_hash([one], tmp_path / "a.parquet") != write_and_hash([two], tmp_path / "b.parquet")


EXPECTED_HASH = "045e75814bd15015b07a4a7bf8399e64f707d78b64f6f35cb83c002d8d7e3fcf"


@pytest.mark.usefixtures("mlflow_workspace")
class TestTakeSnapshot:
    def test_training_rows_end_before_the_fresh_ones_begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch)
        result = run.take_snapshot()
        train, fresh = (pq.read_table(part.path)["seen"].to_pandas() for part in (result.train, result.fresh))
        assert train.max() < result.fresh_since <= fresh.min()
        assert fresh.max() < result.until <= run.run.as_of

    def test_rows_younger_than_the_label_delay_are_excluded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert Pipeline(monkeypatch, AS_OF="2020-03-01").take_snapshot().until == datetime(2020, 2, 29)

    def test_the_same_rows_give_the_same_snapshot(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = Pipeline(monkeypatch).take_snapshot()
        store(events().sample(frac=1, random_state=1))
        again = Pipeline(monkeypatch).take_snapshot()
        assert (again.hash, again.train.path) == (first.hash, first.train.path)

    def test_a_corrected_row_gives_another_snapshot(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = Pipeline(monkeypatch).take_snapshot()
        with duckdb.connect(".ct/warehouse.duckdb") as connection:
            connection.execute("UPDATE events SET x = x + 0.001 WHERE id = 1000")
        assert Pipeline(monkeypatch).take_snapshot().hash != first.hash

    def test_a_killed_run_leaves_no_snapshot(self, monkeypatch: pytest.MonkeyPatch, workspace: Path) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(snapshot, "content_hash", interrupt)
            with pytest.raises(KeyboardInterrupt):
                Pipeline(monkeypatch).take_snapshot()
        assert list((workspace / ".ct/snapshots").iterdir()) == []

    @pytest.mark.parametrize(
        ("as_of", "message"),
        [
            ("2019-06-01", "the data runs from 2020-01-01 to 2020-03-30"),
            ("2030-01-01", "the data runs from 2020-01-01 to 2020-03-30"),
            ("2020-01-10", "no training rows: all .* rows are after 2019-12-26"),
            ("2020-04-20", "no fresh rows: all .* rows are before 2020-04-05"),
        ],
    )
    def test_the_error_for_an_as_of_outside_the_data_has_the_range_of_the_data(
        self, monkeypatch: pytest.MonkeyPatch, as_of: str, message: str
    ) -> None:
        with pytest.raises(UserError, match=f"AS_OF={as_of}: .*{message}"):
            Pipeline(monkeypatch, AS_OF=as_of).take_snapshot()

    def test_an_empty_warehouse_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store(events().head(0))
        with pytest.raises(UserError, match="no rows from .*; there are none at any other time either"):
            Pipeline(monkeypatch).take_snapshot()

    def test_a_time_column_of_texts_is_rejected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("SELECT id, seen,", "SELECT id, CAST(seen AS VARCHAR) AS seen,")
        with pytest.raises(
            UserError, match="the time column 'seen' is of type string: it must be a date or a timestamp"
        ):
            Pipeline(monkeypatch).take_snapshot()

    def test_rows_are_sorted_by_their_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store(events().sample(frac=1, random_state=1))
        run = Pipeline(monkeypatch)
        assert read_snapshot(run.take_snapshot().train.path, run.settings.data)["id"].is_monotonic_increasing

    def test_a_deleted_snapshot_is_reported_in_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Pipeline(monkeypatch)
        path = run.take_snapshot().train.path
        path.unlink()
        with pytest.raises(UserError, match="does not exist any more: run scripts/ct snapshot again"):
            read_snapshot(path, run.settings.data)


@pytest.mark.usefixtures("workspace")
class TestWarehouse:
    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("SELECT * FROM event WHERE seen >= $since AND seen < $until", "Table with name event does not exist"),
            ("SELECT missing FROM events WHERE seen >= $since AND seen < $until", "missing"),
            ("SELEC * FROM events WHERE seen >= $since AND seen < $until", "is not SQL"),
            ("SELECT 1; SELECT $since, $until", "must be one SELECT statement"),
            ("DELETE FROM events", "must be one SELECT statement"),
            ("''", "must be one SELECT statement"),
            ("SELECT * FROM events WHERE seen < $until", r"never uses \$since"),
            (
                "SELECT * FROM events WHERE seen >= $since AND seen < $until AND id > $least",
                r"has the placeholder \$least",
            ),
        ],
    )
    def test_an_invalid_query_is_explained(self, monkeypatch: pytest.MonkeyPatch, query: str, message: str) -> None:
        change("SELECT id, seen, shade, x, y, late FROM events WHERE seen >= $since AND seen < $until", query)
        with (
            sources.open_source(Pipeline(monkeypatch).settings) as source,
            pytest.raises(UserError, match=message) as error,
        ):
            source.read(datetime(2020, 1, 1), datetime(2020, 2, 1))
        assert "\n" not in str(error.value)

    def test_an_invalid_address_is_explained(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        settings = Pipeline(monkeypatch).settings
        monkeypatch.setenv("CT_WAREHOUSE_URL", f"duckdb://{tmp_path}/nowhere.duckdb")
        with pytest.raises(UserError, match="does not exist: check CT_WAREHOUSE_URL"):
            sources.open_source(settings)

    def test_a_file_that_is_not_a_warehouse_is_explained(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "notes.duckdb").write_text("not a database, but long enough to look like a file of some kind")
        settings = Pipeline(monkeypatch).settings
        monkeypatch.setenv("CT_WAREHOUSE_URL", f"duckdb://{tmp_path}/notes.duckdb")
        with pytest.raises(UserError, match="cannot be opened"):
            sources.open_source(settings)

    def test_the_file_can_be_in_a_concurrent_workspace_of_jenkins(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        store(events(), tmp_path / "model_main@2" / "warehouse.duckdb")
        monkeypatch.setenv("CT_WAREHOUSE_URL", f"duckdb://{tmp_path}/model_main@2/warehouse.duckdb")
        assert "events" in warehouse.connect(Pipeline(monkeypatch).settings).list_tables()

    def test_duckdb_has_little_memory_unless_the_address_sets_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        limits = []
        for options in ("", "?memory_limit=1GiB"):
            monkeypatch.setenv("CT_WAREHOUSE_URL", f"duckdb://.ct/warehouse.duckdb{options}")
            with warehouse.open_duckdb(Pipeline(monkeypatch).settings) as connection:
                limits.append(connection.execute("SELECT current_setting('memory_limit')").fetchone())
        assert limits == [("122.0 MiB",), ("1.0 GiB",)]

    def test_a_query_that_runs_out_of_memory_is_not_repeated(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv(
            "CT_WAREHOUSE_URL", "duckdb://.ct/warehouse.duckdb?memory_limit=8MB&max_temp_directory_size=0KB"
        )
        change("seen < $until", "seen < $until ORDER BY repeat(shade, 2000)")
        with pytest.raises(UserError, match="Out of Memory Error"):
            Pipeline(monkeypatch).take_snapshot()
        assert "fetched again" not in caplog.text

    def test_a_password_is_never_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = Pipeline(monkeypatch).settings
        monkeypatch.setenv("CT_WAREHOUSE_URL", "nosuchwarehouse://me:hunter2@127.0.0.1:1/facts")
        with pytest.raises(UserError) as error:
            sources.open_source(settings)
        assert "hunter2" not in str(error.value)
        assert "me:****@127.0.0.1" in str(error.value)


@pytest.mark.usefixtures("workspace")
def test_an_integer_beyond_64_bits_is_reported_with_its_column(monkeypatch: pytest.MonkeyPatch) -> None:
    change("SELECT id,", "SELECT id::HUGEINT * 10000000000000000000000000 AS id,")
    with pytest.raises(UserError, match="the column 'id' does not fit its type in training.yaml"):
        Pipeline(monkeypatch).take_snapshot()


@pytest.mark.usefixtures("workspace")
def test_integers_can_have_any_width_in_the_warehouse(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Pipeline(monkeypatch).take_snapshot().hash
    change("SELECT id,", "SELECT id::HUGEINT AS id,")
    assert Pipeline(monkeypatch).take_snapshot().hash == first


@pytest.mark.usefixtures("workspace")
def test_columns_have_the_types_of_training_yaml_and_nan_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    store(events().assign(x=lambda rows: rows["x"].round().astype(int), y=float("nan")))
    table = pq.read_table(Pipeline(monkeypatch).take_snapshot().train.path)
    assert table.schema.field("x").type == pa.float64()
    assert table["y"].null_count == table.num_rows
    assert pd.api.types.is_datetime64_any_dtype(table["seen"].to_pandas())
