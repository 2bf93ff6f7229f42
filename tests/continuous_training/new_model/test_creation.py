"""`ct new` and `ct remove`: what they write from small data, and what they refuse."""

import ast
import logging
import shutil
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from continuous_training.errors import UsageError, UserError
from continuous_training.new_model import creation, removal
from continuous_training.new_model.dialogue import Dialogue
from continuous_training.new_model.frameworks import DEFAULT
from continuous_training.new_model.names import check_name
from continuous_training.new_model.origin import Address
from continuous_training.new_model.package import settings_of
from continuous_training.new_model.periods import choose_periods
from continuous_training.new_model.profile import Day
from continuous_training.new_model.roles import RoleOptions
from continuous_training.new_model.trial import Trial, start
from continuous_training.settings import load_settings
from forked_python import ForkedPython

pytestmark = pytest.mark.file_seconds(90)

ROOT = Path(__file__).resolve().parents[3]
CSV = Address(files="rides.csv")
TABLE = Address(table="rides", warehouse="duckdb://shop.duckdb")


def rides(rows: int = 1500) -> pd.DataFrame:
    random = np.random.default_rng(0)
    temperature = random.normal(12, 8, rows).round(1)
    frame = pd.DataFrame(
        {
            "ride_id": [f"r{number:05d}" for number in range(rows)],
            "started at": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(rows), unit="h"),
            "Station": random.choice(["A", "B", "C"], rows),
            "temp": np.where(random.random(rows) < 0.05, np.nan, temperature),
            "select": random.integers(0, 24, rows),
            'odd "name"': random.random(rows).round(3),
            "country": "DE",
        }
    )
    score = temperature / 8 + frame["select"] / 6 + (frame["Station"] == "A")
    return frame.assign(
        rentals=(score * 10 + random.normal(0, 3, rows)).round(1),
        late=score + random.normal(0, 0.5, rows) > score.median(),
        team=pd.qcut(score, 3, labels=["billing", "hardware", "software"]).astype(str),
    )


def of(target: str) -> pd.DataFrame:
    return rides().drop(columns={"rentals", "late", "team"} - {target})


def wide_rides(columns: int) -> pd.DataFrame:
    """Return few rows of many columns."""
    rows = of("rentals").head(500)
    numbers = np.random.default_rng(1).integers(0, 99, (len(rows), columns - len(rows.columns)))
    return pd.concat([rows, pd.DataFrame(numbers).add_prefix("Column ")], axis=1)


def try_out(address: Address) -> Trial:
    """Read the rows of an address for a trial."""
    options = RoleOptions(target="rentals")
    draft = creation.make_draft("rides", address, options, "scikit-learn", Dialogue(interactive=False))
    return start(settings_of(draft), "rides")


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CT_WAREHOUSE_URL", raising=False)
    monkeypatch.delenv("CT_DATA_URL", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for folder in ("src", "tests", "scripts"):
        Path(folder).mkdir()
    shutil.copy(ROOT / "requirements.lock", "requirements.lock")


def create(name: str = "rides", address: Address = CSV, framework: str = DEFAULT, **options: object) -> list[Path]:
    return creation.create(name, address, RoleOptions(**options), framework, Dialogue(interactive=False))  # type: ignore[arg-type]


def is_untouched() -> bool:
    left = [path for folder in ("src", "tests", ".ct") for path in Path(folder).rglob("*") if path.is_file()]
    return not [path for path in left if "snapshots" not in path.parts]


class TestWhatIsWritten:
    @pytest.mark.parametrize(
        ("framework", "target", "task", "metric"),
        [
            (DEFAULT, "rentals", "regression", "neg_mean_absolute_error"),
            (DEFAULT, "late", "classification", "roc_auc"),
            (DEFAULT, "team", "classification", "neg_log_loss"),
            ("lightgbm", "team", "classification", "neg_log_loss"),
            ("xgboost", "rentals", "regression", "neg_mean_absolute_error"),
            ("catboost", "late", "classification", "roc_auc"),
        ],
    )
    def test_each_task_and_framework_from_a_csv_file(
        self, forked_python: ForkedPython, framework: str, target: str, task: str, metric: str
    ) -> None:
        of(target).to_csv("rides.csv", index=False)
        assert create(framework=framework, target=target) == [Path("tests/rides"), Path("src/rides")]
        settings = load_settings("rides")
        assert (settings.model.task, settings.compare.metric) == (task, metric)
        assert (settings.data.source, settings.data.time, settings.data.key) == ("rides.csv", "started at", ["ride_id"])
        assert settings.data.features == ["Station", "temp", "select", 'odd "name"']
        assert settings.data.clock == date(2024, 3, 4)
        assert settings.data.columns["temp"].max_null_share > 0.05
        assert settings.data.columns["select"].max > 23
        assert set(settings.data.columns) == set(of(target).columns)
        if target == "team":
            assert settings.data.columns["team"].values == ["billing", "hardware", "software"]
        first = Path("src/rides/training.yaml").read_text().splitlines()[0]
        schema = first.removeprefix("# yaml-language-server: $schema=")
        assert (ROOT / "src/rides" / schema).resolve().is_file()
        options = ("-q", "--import-mode=importlib", "-p", "no:cacheprovider")
        environment = {"PYTHONPATH": str(Path("src").resolve()), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        tests = forked_python.run("-m", "pytest", *options, "tests/rides", **environment)
        assert tests.returncode == 0, tests.stdout
        check = [sys.executable, "-m", "ruff", "check", "--isolated", "src/rides", "tests/rides"]
        assert subprocess.run(check, capture_output=True, text=True, check=False).returncode == 0

    @pytest.mark.parametrize(
        ("labels", "kind", "classes"),
        [(("no", "yes"), "category", ["no", "yes"]), ((1, 2), "integer", [1, 2]), ((False, True), "boolean", None)],
    )
    def test_the_two_classes_of_a_csv_file_stay_as_they_are_written(
        self, labels: tuple[object, object], kind: str, classes: list[object] | None
    ) -> None:
        frame = of("late")
        frame.assign(late=np.where(frame["late"], labels[1], labels[0])).to_csv("rides.csv", index=False)
        create(target="late")
        column = load_settings("rides").data.columns["late"]
        assert (column.type, column.values) == (kind, classes)

    def test_names_of_columns_stay_as_the_header_has_them(self) -> None:
        names = ["it's", "x; DROP TABLE rides; --", "two\nlines", " lead", "Größe", "ORDER"]
        random = np.random.default_rng(2)
        odd = pd.DataFrame(random.random((1500, len(names))).round(3), columns=names)
        pd.concat([of("late"), odd], axis=1).to_csv("rides.csv", index=False)
        create(target="late")
        assert set(load_settings("rides").data.features) >= {*names}

    def test_files_of_a_folder_are_read_by_the_names_of_their_columns(self) -> None:
        frame = of("rentals")
        Path("rides").mkdir()
        frame[:700].to_csv("rides/a.csv", index=False)
        frame[700:][frame.columns[::-1]].to_csv("rides/b.csv", index=False, sep=";")
        create(address=Address(files="rides"), target="rentals")
        assert load_settings("rides").data.columns["temp"].max_null_share < 0.2

    def test_a_table_with_dates_and_names_that_need_quotes(self) -> None:
        frame = of("rentals").rename(columns={"started at": "day"})
        with duckdb.connect("shop.duckdb") as connection:
            connection.register("rows", frame)
            connection.execute('CREATE TABLE "my rides" AS SELECT * REPLACE (CAST(day AS DATE) AS day) FROM rows')
        create(address=Address(table="my rides", warehouse="duckdb://shop.duckdb"), target="rentals")
        data = load_settings("rides").data
        assert data.query is not None
        assert 'FROM "my rides"' in data.query
        assert "CAST(day AS TIMESTAMP) AS day" in data.query
        assert '"select"' in data.query
        assert data.columns["day"].type == "timestamp"

    def test_rows_without_a_target_are_left_out_of_a_query(self) -> None:
        frame = of("rentals")
        frame.loc[::10, "rentals"] = np.nan
        with duckdb.connect("shop.duckdb") as connection:
            connection.register("rows", frame)
            connection.execute("CREATE TABLE rides AS FROM rows")
        create(address=Address(query="SELECT * FROM rides;", warehouse="duckdb://shop.duckdb"), target="rentals")
        assert load_settings("rides").data.null_target == "drop"

    def test_rows_without_a_target_are_left_out_of_a_file(self) -> None:
        frame = of("rentals")
        frame.assign(rentals=frame["rentals"].where(frame.index % 9 > 0)).to_csv("rides.csv", index=False)
        create(target="rentals")
        assert load_settings("rides").data.null_target == "drop"

    def test_targets_that_are_missing_lately_are_a_delay(self) -> None:
        frame = of("rentals")
        frame.loc[frame["started at"] >= "2024-02-29", "rentals"] = np.nan
        frame.to_parquet("rides.parquet")
        create(address=Address(files="rides.parquet"), target="rentals")
        assert load_settings("rides").data.label_delay_days == 4

    def test_a_feature_that_contains_the_answer_is_none(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        of("late").assign(minutes=lambda frame: frame["late"] * 30.0).to_csv("rides.csv", index=False)
        create(target="late")
        assert "minutes" not in load_settings("rides").data.features
        assert "not a feature: 'minutes' alone tells the target too well" in caplog.text

    def test_every_behaviour_test_has_an_assertion(self) -> None:
        of("team").to_csv("rides.csv", index=False)
        create(target="team")
        tree = ast.parse(Path("tests/rides/test_behaviour.py").read_text())
        for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            if function.name.startswith("test_"):
                assert "assert" in ast.unparse(function), function.name

    def test_a_csv_file_of_two_thousand_columns_passes_the_checks_of_a_run(self) -> None:
        wide_rides(2000).to_csv("rides.csv", index=False)
        trial = try_out(CSV)
        assert len(trial.snapshot.columns) == 2000
        trial.check()

    def test_a_table_of_more_than_a_thousand_columns_is_read(self) -> None:
        with duckdb.connect("shop.duckdb") as connection:
            connection.register("rows", wide_rides(1200))
            connection.execute("CREATE TABLE rides AS FROM rows")
        assert len(try_out(TABLE).snapshot.columns) == 1200


class TestWhatIsRefused:
    @pytest.fixture(autouse=True)
    def data(self) -> None:
        of("rentals").to_csv("rides.csv", index=False)

    @pytest.mark.parametrize(
        ("answers", "message"),
        [
            ({}, "--target is missing.*possible are ride_id"),
            ({"target": "price"}, "--target price: there is no such column"),
            ({"target": "country"}, "--target country is constant"),
            ({"target": "rentals", "task": "classification"}, "at most 50 classes are supported"),
            ({"target": "Station", "task": "regression"}, "of type text, not a number"),
            ({"target": "rentals", "time": "temp"}, "must be a timestamp or a date"),
            ({"target": "rentals", "key": ("Station",)}, "does not identify a row"),
        ],
    )
    def test_an_answer_that_is_missing_or_impossible(self, answers: dict[str, object], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            create(**answers)
        assert is_untouched()

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("nowhere.csv", "there is no file or folder"),
            ("empty.csv", "is empty: a CSV file begins with a header"),
            ("header.csv", "has no rows"),
            ("cut.parquet", "is the file still being written"),
            ("no_time.csv", "there is no time column"),
            ("german.csv", r"written as 2024-12-31 or 2024-12-31T23:59 .*started at \(text\)"),
            ("epoch.csv", r"there is no time column: .*started at \(integer\)"),
            ("index.csv", "column 1 of 9 has no name: name it, or leave it out"),
            ("latin.csv", "latin.csv is not in UTF-8"),
            ("part", r"part/b.csv has no time column 'started at', which other files have"),
            ("short.csv", "at least two full days are needed"),
            ("few.csv", "too few rows"),
        ],
    )
    def test_files_of_which_no_model_can_be_made(self, path: str, message: str) -> None:
        frame = of("rentals")
        Path("empty.csv").touch()
        frame.head(0).to_csv("header.csv", index=False)
        frame.to_parquet("whole.parquet")
        Path("cut.parquet").write_bytes(Path("whole.parquet").read_bytes()[:5000])
        frame.drop(columns="started at").to_csv("no_time.csv", index=False)
        times = frame["started at"]
        frame.assign(**{"started at": times.dt.strftime("%d.%m.%Y %H:%M")}).to_csv("german.csv", index=False)
        frame.assign(**{"started at": times.astype("int64") // 10**9}).to_csv("epoch.csv", index=False)
        frame.to_csv("index.csv")
        frame.rename(columns={"temp": "Größe"}).to_csv("latin.csv", index=False, encoding="latin-1")
        Path("part").mkdir()
        frame[:700].to_csv("part/a.csv", index=False)
        frame[700:].drop(columns="started at").to_csv("part/b.csv", index=False)
        frame.head(20).to_csv("short.csv", index=False)
        frame.iloc[::40].to_csv("few.csv", index=False)
        with pytest.raises(UserError, match=message):
            create(address=Address(files=path), target="rentals")
        assert is_untouched()

    @pytest.mark.parametrize(
        ("address", "message"),
        [
            (Address(table="orders", warehouse="duckdb://none.duckdb"), "does not exist"),
            (Address(table="orders", warehouse="duckdb://shop.duckdb"), "orders does not exist"),
            (Address(query="SELEC 1", warehouse="duckdb://shop.duckdb"), "syntax error"),
            (Address(table="orders", warehouse="postgres://me:secret@db/shop"), "set CT_WAREHOUSE_URL to"),
        ],
    )
    def test_a_warehouse_without_the_rows(self, address: Address, message: str) -> None:
        duckdb.connect("shop.duckdb").close()
        with pytest.raises(UserError, match=message) as problem:
            create(address=address, target="rentals")
        assert "\n" not in str(problem.value)
        assert "secret" not in str(problem.value)
        assert is_untouched()

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("json", "is a module of Python: choose another name, such as json_model"),
            ("numpy", "is an installed Python module"),
            ("continuous_training", "is an installed Python module"),
            ("MyModel", "such as my_model"),
            ("two words", "such as two_words"),
            ("two-words", "such as two_words"),
            ("a'; DROP--\n", "such as a_drop"),
            ("class", "such as class_model"),
            ("Élan", "such as elan"),
            ("9", "such as my_model"),
            ("tests", "is a folder of the repository"),
            ("plan", "is the name of scripts/plan.py"),
            ("other", "src/other exists already"),
        ],
    )
    def test_a_name_that_is_taken_or_no_identifier(self, name: str, message: str) -> None:
        Path("scripts/plan.py").touch()
        Path("src/other").mkdir()
        with pytest.raises(UsageError, match=message):
            check_name(name)


class TestPeriods:
    TODAY = date(2026, 6, 1)

    def days(self, newest: date, count: int, rows: int = 100) -> list[Day]:
        return [Day(newest - timedelta(days=ago), None, rows, rows) for ago in reversed(range(count))]

    def test_live_data_have_no_clock(self) -> None:
        periods = choose_periods(self.days(date(2026, 5, 31), 400), by_class=False, today=self.TODAY)
        assert (periods.clock, periods.fresh_days, periods.train_days) == (None, 28, 365)

    def test_data_that_have_ended_have_one(self) -> None:
        periods = choose_periods(self.days(date(2024, 5, 31), 50), by_class=False, today=self.TODAY)
        assert (periods.clock, periods.fresh_days, periods.train_days) == (date(2024, 6, 1), 10, 40)

    def test_few_rows_get_a_longer_window_and_a_lower_confidence(self) -> None:
        many, few = (choose_periods(self.days(date(2024, 5, 31), 80, rows), by_class=False) for rows in (2, 1))
        assert (many.fresh_days, many.confidence) == (20, 0.95)
        assert (few.fresh_days, few.confidence) == (20, 0.9)

    def test_rows_of_the_future_are_refused(self) -> None:
        with pytest.raises(UserError, match="all rows are in the future"):
            choose_periods(self.days(date(2030, 5, 31), 80), by_class=False, today=self.TODAY)


class TestRemove:
    @pytest.fixture(autouse=True)
    def repository(self) -> None:
        for path in ("src/rides/training.yaml", "tests/rides/test_model.py", "src/other/model.py"):
            Path(path).parent.mkdir(parents=True)
            Path(path).write_text("# text\n")
        git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.com"]
        for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
            subprocess.run([*git, *arguments], check=True)

    def test_a_committed_model_is_removed(self) -> None:
        assert removal.remove("rides", force=False) == [Path("src/rides"), Path("tests/rides")]
        assert not Path("src/rides").exists()
        assert not Path("tests/rides").exists()
        assert Path("src/other/model.py").exists()

    @pytest.mark.parametrize("path", ["src/rides/new.py", "tests/rides/test_model.py"])
    def test_files_that_git_could_not_restore_are_kept_without_force(self, path: str) -> None:
        Path(path).write_text("# other\n")
        with pytest.raises(UserError, match=f"git could not restore {path}"):
            removal.remove("rides", force=False)
        assert Path("src/rides/training.yaml").exists()
        removal.remove("rides", force=True)
        assert not Path("src/rides").exists()

    def test_what_is_no_model_is_not_removed(self) -> None:
        with pytest.raises(UsageError, match="there is no model 'other'"):
            removal.remove("other", force=True)
        assert Path("src/other/model.py").exists()
