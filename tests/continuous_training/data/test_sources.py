"""Sources other than a query: files and functions give the same snapshot, watermark and monitoring as the query."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cloud.server import Moto, Server
from continuous_training.data import sources
from continuous_training.data.duckdb_connection import literal
from continuous_training.errors import UserError
from continuous_training.monitoring import warehouse_rows
from continuous_training.monitoring.new_data.row_counts import count_rows
from continuous_training.new_model.origin import Address, open_origin
from continuous_training.new_model.profile import profile
from continuous_training.replay import workspace as replay_workspace
from continuous_training.settings import load_settings, source_hash
from pipeline import Pipeline
from toy import change, events, store

pytestmark = [pytest.mark.usefixtures("workspace"), pytest.mark.file_seconds(50)]

QUERY = "query: SELECT id, seen, shade, x, y, late FROM events WHERE seen >= $since AND seen < $until"
KINDS = {"id": "integer", "seen": "timestamp", "shade": "text", "x": "number", "late": "boolean"}
BEGIN, END = datetime(2020, 1, 1), datetime(2020, 2, 1)
FUNCTION = """
import duckdb

def read(since, until):
    with duckdb.connect(".ct/warehouse.duckdb", read_only=True) as connection:
        rows = connection.execute("FROM events WHERE seen >= ? AND seen < ?", [since, until])
        return {result}
"""

LOST_CONNECTION = """
def read(since, until):
    def batches():
        yield pa.record_batch({'seen': pa.array([since], pa.timestamp('us'))})
        raise OSError('the connection was reset')
    return pa.RecordBatchReader.from_batches(pa.schema({'seen': pa.timestamp('us')}), batches())
"""


def use_source(source: str) -> None:
    """Replace the query in training.yaml."""
    change(QUERY, f"source: {json.dumps(source)}")


def write_events(path: str, options: str = "", condition: str = "true") -> None:
    """Write events of the warehouse to a file; its name determines the format."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(".ct/warehouse.duckdb", read_only=True) as connection:
        connection.execute(f"COPY (FROM events WHERE {condition}) TO {literal(path)} {options}")


def write_function(result: str = "rows.to_arrow_table()", body: str | None = None) -> None:
    """Write the module of the function `toy.features:read`, and make it the source."""
    Path("src/toy/features.py").write_text(body or FUNCTION.replace("{result}", result))
    use_source("toy.features:read")


def parquet_file() -> None:
    write_events("data/events.parquet")
    use_source("data/events.parquet")


def parquet_folder() -> None:
    write_events("data/events/2020/january.parquet", condition="seen < '2020-02-01'")
    write_events("data/events/2020/later.pq", "(FORMAT parquet)", condition="seen >= '2020-02-01'")
    Path("data/events/_SUCCESS").touch()
    Path("data/events/.later.parquet.unfinished").write_text("not Parquet")
    use_source("data/events/")


def parquet_pattern() -> None:
    write_events("data/one of 'many'.parquet")
    write_events("data/other.parquet", condition="id < 0")
    use_source("data/*many*.parquet")


def csv_file() -> None:
    write_events("data/events.csv")
    use_source("data/events.csv")


def csv_pattern() -> None:
    write_events("data/a.csv.gz", "(FORMAT csv, COMPRESSION gzip)", condition="id % 2 = 0")
    write_events("data/b.csv.gz", "(FORMAT csv, COMPRESSION gzip, DELIMITER ';')", condition="id % 2 = 1 AND id < 0")
    write_events("data/c.csv.gz", "(FORMAT csv, COMPRESSION gzip)", condition="id % 2 = 1")
    use_source("data/[ac].csv.gz")


def function_table() -> None:
    write_function()


def function_reader() -> None:
    write_function("rows.to_arrow_table().to_reader(1000)")


def function_dataframe() -> None:
    write_function("rows.df().set_index('id', drop=False)")


def function_capsule() -> None:
    """Return an object with only Arrow's PyCapsule protocol, like Polars' data frames."""
    frame = "class Frame:\n    def __init__(self, table):\n        self.__arrow_c_stream__ = table.__arrow_c_stream__\n"
    write_function(body=frame + FUNCTION.replace("{result}", "Frame(rows.to_arrow_table())"))


SOURCES = [
    parquet_file,
    parquet_folder,
    parquet_pattern,
    csv_file,
    csv_pattern,
    function_table,
    function_reader,
    function_dataframe,
    function_capsule,
]
ALL_SOURCES = pytest.mark.parametrize("prepare", SOURCES, ids=lambda prepare: prepare.__name__)
ONE_OF_EACH = pytest.mark.parametrize(
    "prepare", [parquet_folder, csv_file, function_table], ids=lambda prepare: prepare.__name__
)


def error_of(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the error of a snapshot: one line, and nothing is stored."""
    with pytest.raises(UserError) as error:
        Pipeline(monkeypatch).take_snapshot()
    message = str(error.value)
    assert "\n" not in message
    snapshots = Path(".ct/snapshots")
    assert not snapshots.exists() or [*snapshots.iterdir()] == []
    return message


class TestAllSources:
    @ALL_SOURCES
    def test_all_sources_have_the_snapshot_of_the_query(
        self, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[], None]
    ) -> None:
        expected = Pipeline(monkeypatch).take_snapshot()
        prepare()
        snapshot = Pipeline(monkeypatch).take_snapshot()
        assert (snapshot.hash, snapshot.columns.keys()) == (expected.hash, expected.columns.keys())

    @ONE_OF_EACH
    def test_other_sources_pass_the_data_checks(
        self, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[], None]
    ) -> None:
        prepare()
        assert [check for check in Pipeline(monkeypatch).check_data() if not check.passed] == []

    @ONE_OF_EACH
    def test_other_sources_have_the_watermark_of_the_query(self, prepare: Callable[[], None]) -> None:
        expected = count_rows(
            sources.open_source(load_settings("toy")).table(BEGIN, END), load_settings("toy").data, END
        )
        prepare()
        settings = load_settings("toy")
        assert count_rows(sources.open_source(settings).table(BEGIN, END), settings.data, END) == expected
        assert sum(day.rows for day in expected.before.values()) == 31 * 40

    @ONE_OF_EACH
    def test_the_monitor_reads_the_newest_rows_of_other_sources(self, prepare: Callable[[], None]) -> None:
        with sources.open_source(load_settings("toy")) as source:
            expected = warehouse_rows.read_window(source, load_settings("toy"), END)
            sample = expected.sample(50)
        prepare()
        with sources.open_source(load_settings("toy")) as source:
            window = warehouse_rows.read_window(source, load_settings("toy"), END)
            assert window.sample(50).equals(sample)
        assert window.rows == expected.rows == 7 * 40
        assert window.findings == expected.findings == []

    @ONE_OF_EACH
    def test_a_source_without_rows_in_the_windows_is_reported(
        self, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[], None]
    ) -> None:
        prepare()
        monkeypatch.setenv("AS_OF", "2019-06-01")
        message = error_of(monkeypatch)
        assert "there are no rows from 2019-03-" in message
        assert "the data runs from 2020-01-01 to 2020-03-30" in message or "call toy.features:read" in message

    @ONE_OF_EACH
    def test_an_empty_source_is_reported(self, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[], None]) -> None:
        store(events().head(0))
        prepare()
        assert "there are no rows from" in error_of(monkeypatch)


class TestSettings:
    def test_a_query_or_a_source_is_required(self) -> None:
        change(QUERY, "known_afterwards: []")
        change("  known_afterwards: [regret]\n", "")
        with pytest.raises(UserError, match="give query or source"):
            load_settings("toy")

    def test_query_and_source_exclude_each_other(self) -> None:
        change(QUERY, f"{QUERY}\n  source: data/events.parquet")
        with pytest.raises(UserError, match="query and source exclude each other"):
            load_settings("toy")


class TestFiles:
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("data/none.parquet", "there is no file or folder data/none.parquet"),
            ("data/empty/", "data/empty/ has no data files; their names must end with one of .parquet"),
            ("data/*.parquet", "data/*.parquet has no data files"),
            ("data/notes.txt", "data/notes.txt has no data files"),
            ("data/mixed/", "data/mixed/ has files of several formats, parquet and csv: name one"),
            ("data/broken.pq", "data/broken.pq"),
            ("data/empty.csv", "data/empty.csv is empty: a CSV file begins with a header"),
            ("data/twice.csv", "data/twice.csv has two columns 'x': rename one"),
            ("data/capitals.csv", "two columns whose names differ in capitals only, 'x' and 'X': rename one"),
            ("data/nameless.csv", "data/nameless.csv: column 1 of 2 has no name"),
            ("data/text.csv.gz", "data/text.csv.gz has no readable header: Not a gzipped file"),
        ],
    )
    def test_missing_and_unreadable_files_are_named(
        self, monkeypatch: pytest.MonkeyPatch, source: str, message: str
    ) -> None:
        Path("data/empty").mkdir(parents=True)
        Path("data/notes.txt").write_text("notes")
        Path("data/broken.pq").touch()
        Path("data/empty.csv").touch()
        Path("data/twice.csv").write_text("x,x\n1,2\n")
        Path("data/capitals.csv").write_text("x,X\n1,2\n")
        Path("data/nameless.csv").write_text(",x\n1,2\n")
        Path("data/text.csv.gz").write_text("x,y\n1,2\n")
        write_events("data/mixed/a.parquet")
        write_events("data/mixed/b.csv")
        use_source(source)
        assert message in error_of(monkeypatch)

    def test_an_incomplete_parquet_file_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        parquet_folder()
        path = Path("data/events/2020/january.parquet")
        path.write_bytes(path.read_bytes()[:-100])
        message = error_of(monkeypatch)
        assert "january.parquet" in message
        assert message.endswith("(is the file still being written?)")

    def test_an_incomplete_last_line_of_a_csv_file_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        csv_file()
        path = Path("data/events.csv")
        complete, _, last = path.read_text().rstrip().rpartition("\n")
        path.write_text(f"{complete}\n{last[:12]}")
        message = error_of(monkeypatch)
        assert "data/events.csv, line 3601: Expected Number of Columns: 6 Found: " in message
        assert message.endswith("(is the file still being written?)")

    def test_a_line_of_a_csv_file_with_a_value_of_another_type_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        csv_file()
        lines = Path("data/events.csv").read_text().splitlines()
        lines[1000] = lines[1000].replace(",true", ",perhaps").replace(",false", ",perhaps")
        Path("data/events.csv").write_text("\n".join(lines))
        message = error_of(monkeypatch)
        assert 'data/events.csv, line 1001: Error when converting column "late"' in message

    def test_a_file_without_read_permission_is_named(self, monkeypatch: pytest.MonkeyPatch, workspace: Path) -> None:
        parquet_folder()
        for folder in (workspace, *workspace.parents[:2]):
            folder.chmod(0o755)
        pipeline = Pipeline(monkeypatch)
        Path("data/events/2020/january.parquet").chmod(0)
        user = os.geteuid()
        if user == 0:  # root can read all files
            os.seteuid(65534)
        try:
            with pytest.raises(UserError, match=r"january\.parquet.*[Pp]ermission") as error:
                sources.open_source(pipeline.settings)
        finally:
            os.seteuid(user)
        assert "\n" not in str(error.value)

    def test_a_folder_without_read_permission_is_named(self, monkeypatch: pytest.MonkeyPatch, workspace: Path) -> None:
        parquet_folder()
        for folder in (workspace, *workspace.parents[:2]):
            folder.chmod(0o755)
        settings = Pipeline(monkeypatch).settings
        Path("data/events/2020").chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(UserError, match="data/events/ cannot be read: Permission denied"):
                sources.open_source(settings)
        finally:
            os.seteuid(user)
            Path("data/events/2020").chmod(0o755)

    @pytest.mark.parametrize("kind", ["parquet", "csv"])
    def test_files_without_a_declared_column_fail_the_data_check(
        self, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        events().drop(columns="y").to_csv("events.csv", index=False)
        pq.write_table(pa.Table.from_pandas(events().drop(columns="y")), "events.parquet")
        use_source(f"events.{kind}")
        failed = {check.name: check.message for check in Pipeline(monkeypatch).check_data() if not check.passed}
        assert failed == {"columns missing": "the data does not have 'y'"}

    @pytest.mark.parametrize("kind", ["parquet", "csv"])
    def test_a_file_without_the_time_column_that_others_have_is_named(
        self, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        write_events(f"data/a.{kind}", condition="id % 2 = 0")
        events().drop(columns="seen").to_csv("data/b.csv", index=False)
        if kind == "parquet":
            Path("data/b.csv").unlink()
            pq.write_table(pa.Table.from_pandas(events().drop(columns="seen")), "data/b.parquet")
        use_source("data/")
        assert f"data/b.{kind} has no time column 'seen', which other files have" in error_of(monkeypatch)

    def test_undeclared_columns_of_files_are_not_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pq.write_table(pa.Table.from_pandas(events().assign(regret=1.0)), "events.parquet")
        use_source("events.parquet")
        assert "regret" not in Pipeline(monkeypatch).take_snapshot().columns

    def test_parquet_files_may_differ_in_the_order_of_columns_and_the_width_of_integers(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = Pipeline(monkeypatch).take_snapshot().hash
        table = pa.Table.from_pandas(events(), preserve_index=False)
        ids = table["id"].cast(pa.int32())
        Path("data").mkdir()
        pq.write_table(table.slice(0, 1000).set_column(0, "id", ids.slice(0, 1000)), "data/a.parquet")
        pq.write_table(table.slice(1000).select(table.schema.names[::-1]), "data/b.parquet")
        use_source("data/")
        assert Pipeline(monkeypatch).take_snapshot().hash == expected

    def test_csv_files_may_differ_in_the_order_of_columns_and_the_delimiter(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = Pipeline(monkeypatch).take_snapshot().hash
        Path("data").mkdir()
        frame = events()
        frame[:1000].to_csv("data/a.csv", index=False, sep=";")
        frame[1000:][frame.columns[::-1]].to_csv("data/b.csv", index=False, encoding="utf-8-sig")
        use_source("data/")
        assert Pipeline(monkeypatch).take_snapshot().hash == expected

    @pytest.mark.parametrize(
        ("rename", "message"),
        [
            ("moment", "there is no time column 'seen': the data has 'id', 'moment'"),
            ("Seen", "there is no time column 'seen': the data has 'id', 'Seen'"),
        ],
    )
    def test_files_without_the_time_column_are_reported(
        self, monkeypatch: pytest.MonkeyPatch, rename: str, message: str
    ) -> None:
        pq.write_table(pa.Table.from_pandas(events().rename(columns={"seen": rename})), "events.parquet")
        use_source("events.parquet")
        assert message in error_of(monkeypatch)

    def test_files_with_a_time_column_of_strings_are_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pq.write_table(pa.Table.from_pandas(events().assign(seen=events()["seen"].astype(str))), "events.parquet")
        use_source("events.parquet")
        assert "the time column 'seen' is of type string" in error_of(monkeypatch)

    def test_files_may_have_times_with_offsets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = Pipeline(monkeypatch).take_snapshot().hash
        kiritimati = events()["seen"].dt.tz_localize("UTC").dt.tz_convert("Pacific/Kiritimati")
        frame = events().assign(seen=kiritimati)
        frame.to_csv("events.csv", index=False)
        pq.write_table(pa.Table.from_pandas(frame), "events.parquet")
        use_source("events.csv")
        assert Pipeline(monkeypatch).take_snapshot().hash == expected
        change("events.csv", "events.parquet")
        assert Pipeline(monkeypatch).take_snapshot().hash == expected

    @pytest.mark.parametrize("kind", ["parquet", "csv"])
    def test_files_may_have_columns_of_any_name(self, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        names = ["a b", 'quo"te', "it's", "SELECT", "Größe", "rows"]
        frame = events().assign(**{name: events()["x"] for name in names})
        if kind == "csv":
            frame.to_csv("events.csv", index=False)
        else:
            pq.write_table(pa.Table.from_pandas(frame), "events.parquet")
        use_source(f"events.{kind}")
        declared = "".join(f"    {json.dumps(name, ensure_ascii=False)}: {{type: number}}\n" for name in names)
        change("    x: {type", f"{declared}    x: {{type")
        checks = Pipeline(monkeypatch).check_data()
        assert [check for check in checks if not check.passed] == []
        assert {check.column for check in checks} >= {*names}

    def test_relative_paths_start_at_ct_data_url(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        expected = Pipeline(monkeypatch).take_snapshot().hash
        parquet_file()
        Path("data").rename(tmp_path / "other")
        change("data/events.parquet", "events.parquet")
        monkeypatch.setenv("CT_DATA_URL", str(tmp_path / "other"))
        assert Pipeline(monkeypatch).take_snapshot().hash == expected

    def test_files_are_read_in_the_workspace_of_a_replay(self) -> None:
        parquet_file()
        with replay_workspace.enter_workspace("toy", "replay", "duckdb://.ct/warehouse.duckdb", fresh=True):
            assert not Path("data").exists()
            with sources.open_source(load_settings("toy")) as source:
                assert source.read(BEGIN, END).read_all().num_rows == 31 * 40


class TestS3:
    @pytest.fixture(autouse=True)
    def _server(self, monkeypatch: pytest.MonkeyPatch, workspace: Path) -> Iterator[None]:  # noqa: ARG002
        """Start moto's S3, with the events as Parquet and as CSV in a bucket."""
        import boto3

        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        with Server(Moto()) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
            client = boto3.client("s3")
            client.create_bucket(Bucket="shop-events")
            for name in ("events/a.parquet", "events/b.parquet", "tables/events.csv"):
                condition = "true" if name.startswith("tables") else "id % 2 = " + str(int("b." in name))
                write_events(name, condition=condition)
                client.upload_file(name, "shop-events", name)
            client.put_object(Bucket="shop-events", Key="events/_SUCCESS", Body=b"")
            yield

    @pytest.mark.parametrize(
        "source",
        ["s3://shop-events/events/", "s3://shop-events/events/*.parquet", "s3://shop-events/tables/events.csv"],
    )
    def test_objects_have_the_snapshot_of_the_query(self, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
        expected = Pipeline(monkeypatch).take_snapshot().hash
        use_source(source)
        assert Pipeline(monkeypatch).take_snapshot().hash == expected

    def test_relative_paths_start_at_ct_data_url(self, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = Pipeline(monkeypatch).take_snapshot().hash
        monkeypatch.setenv("CT_DATA_URL", "s3://shop-events")
        use_source("events/")
        assert Pipeline(monkeypatch).take_snapshot().hash == expected

    def test_a_new_model_has_the_columns_of_objects(self) -> None:
        for name in ("tables/events.csv", "events/"):
            with open_origin(Address(files=f"s3://shop-events/{name}")) as origin:
                columns = profile(origin)
            assert {name: column.kind for name, column in columns.items() if name in KINDS} == KINDS
            assert columns["id"].rows == len(events())

    def test_a_new_model_of_a_missing_object_is_refused(self) -> None:
        with (
            pytest.raises(UserError, match="there is no object s3://shop-events/none/"),
            open_origin(Address(files="s3://shop-events/none/")),
        ):
            pass

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("s3://shop-events/none/", "there is no object s3://shop-events/none/"),
            ("s3://shop-events/events/*.csv", "there is no object s3://shop-events/events/*.csv"),
            ("s3://no-such-bucket/events/", "s3://no-such-bucket/events/"),
        ],
    )
    def test_missing_objects_are_named(self, monkeypatch: pytest.MonkeyPatch, source: str, message: str) -> None:
        use_source(source)
        assert message in error_of(monkeypatch)


class TestFunctions:
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("toy.nothing:read", "the module toy.nothing cannot be imported: ModuleNotFoundError"),
            ("toy.features:write", "the module toy.features has no function write"),
            ("toy.features:NUMBER", "toy.features:NUMBER is a int, not a function"),
            ("toy.broken:read", "the module toy.broken cannot be imported: SyntaxError"),
        ],
    )
    def test_missing_functions_and_modules_are_named(
        self, monkeypatch: pytest.MonkeyPatch, source: str, message: str
    ) -> None:
        Path("src/toy/broken.py").write_text("def read(:\n")
        Path("src/toy/features.py").write_text("NUMBER = 1\n")
        use_source(source)
        assert message in error_of(monkeypatch)

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("def read(since, until):\n    raise ValueError('no\\nrows')", "toy.features:read raised ValueError: no"),
            ("def read(since):\n    pass", "toy.features:read raised TypeError: read() takes 1 positional argument"),
            ("def read(since, until):\n    return [1]", "toy.features:read returned a list, not an Arrow table"),
            ("def read(since, until):\n    return None", "toy.features:read returned a NoneType, not an Arrow table"),
            (
                "def read(since, until):\n    return pa.table({'id': [1]})",
                "there is no time column 'seen': the data has 'id'",
            ),
            (
                "def read(since, until):\n    return pa.table({'seen': [since, until], 'id': [1, 2]})",
                "returned 1 rows outside of its window, 2019-12-17 00:00 to 2020-02-29 00:00, for example of 2020",
            ),
            (
                "def read(since, until):\n    return pa.table({'seen': [since], 'x': [1.0], 'X': [1.0]})",
                "two columns differ in capitals only, or not at all, 'x' and 'X'",
            ),
            (
                "def read(since, until):\n    return pd.DataFrame({'seen': [since] * 2, 'x': [1, 'a']})",
                "toy.features:read raised ArrowInvalid: (\"Could not convert 'a'",
            ),
            (LOST_CONNECTION, "toy.features:read raised OSError: the connection was reset"),
        ],
    )
    def test_failing_functions_are_reported(self, monkeypatch: pytest.MonkeyPatch, body: str, message: str) -> None:
        write_function(body=f"import pandas as pd\nimport pyarrow as pa\n{body}")
        assert message in error_of(monkeypatch)

    def test_functions_may_return_types_of_pandas(self, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = Pipeline(monkeypatch).take_snapshot().hash
        write_function(
            "rows.df().astype({'shade': 'category', 'seen': 'datetime64[s]', 'late': 'boolean', 'id': 'Int32'})"
        )
        assert Pipeline(monkeypatch).take_snapshot().hash == expected

    def test_functions_are_part_of_the_fingerprint(self) -> None:
        write_function()
        before = source_hash("toy")
        Path("src/toy/features.py").write_text(Path("src/toy/features.py").read_text() + "\nSCALE = 2\n")
        assert source_hash("toy") != before
