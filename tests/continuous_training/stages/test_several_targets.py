"""A regression of two targets: trained, compared, served, monitored and rolled back; and what is refused on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import root_mean_squared_error

from continuous_training.comparison.acceptance import HINT
from continuous_training.data import sources
from continuous_training.documents import Verdict
from continuous_training.errors import UserError
from continuous_training.monitoring.monitor import ModelMonitor
from continuous_training.monitoring.new_data.row_counts import count_rows
from continuous_training.monitoring.new_data.watermark import compute_watermark
from continuous_training.registry import model_versions
from continuous_training.reports import page
from continuous_training.reports.plots import plots
from continuous_training.serving.following import follower
from continuous_training.serving.prediction.routing import rows_agree
from continuous_training.settings import load_settings
from continuous_training.stages import roll_back, set_up
from continuous_training.versions.examination import Policy
from continuous_training.versions.golden_predictions import describe_difference
from continuous_training.versions.opening import examined_version
from logged_predictions import log_predictions, newest_events
from pipeline import Pipeline
from server import Server
from several_targets import TARGETS, targets_of, use_several_targets
from stored_versions import load_estimator, read_golden_predictions
from toy import change, events, import_again, store

pytestmark = pytest.mark.file_seconds(60)

TRAINING_YAML, MODEL = Path("src/toy/training.yaml"), Path("src/toy/model.py")
AS_OF = datetime(2020, 3, 16)  # two weeks of labels after the fresh rows of version 1 are known
RMSE = "neg_root_mean_squared_error"


@pytest.fixture(scope="module")
def champion(mlflow_workspace_patch: pytest.MonkeyPatch) -> Pipeline:
    """Promote version 1, the first model."""
    use_several_targets(mlflow_workspace_patch)
    change("serving: {watch_seconds: 0}", "serving: {watch_seconds: 0}\nmonitor: {min_rows: 200, columns_share: 1}")
    pipeline = Pipeline(mlflow_workspace_patch)
    pipeline.promote()
    return pipeline


@contextmanager
def changed(old: str, new: str) -> Iterator[None]:
    """Change training.yaml for the duration of a block."""
    text = TRAINING_YAML.read_text()
    change(old, new)
    try:
        yield
    finally:
        TRAINING_YAML.write_text(text)


class TestVerdict:
    def test_the_metric_is_the_mean_over_the_targets_which_are_shown_too(self, champion: Pipeline) -> None:
        verdict = champion.verdict
        assert (verdict.decision, list(verdict.targets)) == ("promote", list(TARGETS))
        bikes, docks = (verdict.targets[name].candidate for name in TARGETS)
        assert (-bikes, -docks) == (pytest.approx(0.5, abs=0.1), pytest.approx(1.0, abs=0.15))
        assert verdict.metrics[0].candidate == pytest.approx((bikes + docks) / 2)
        lines = verdict.summary.splitlines()
        assert [line.split()[:2] for line in lines[2:4]] == [["of", "bikes"], ["of", "docks"]]

    def test_the_report_names_the_target_of_a_number_and_of_a_curve(self, champion: Pipeline) -> None:
        verdict = champion.verdict
        measures = page.list_measures(verdict, {})
        assert [measure.target for measure in measures] == [None, *TARGETS, None]
        assert [(plot.target, plot.kind) for plot in plots(verdict.curves)] == [
            (name, kind) for name in TARGETS for kind in ("predicted", "residuals")
        ]
        champion.run.write()
        verdict.write()
        html = page.write().read_text()
        assert all(f"Residuals over time of {name}" in html and f">of {name}<" in html for name in TARGETS)

    def test_both_are_shown_for_candidate_and_champion(
        self, champion: Pipeline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with changed("alpha: 1.0", "alpha: 5000.0"):
            verdict = Pipeline(monkeypatch, AS_OF="2020-03-01").compare()
        assert verdict.decision == "reject"
        assert {rule.name: rule.passed for rule in verdict.rules}["targets"]
        for name in TARGETS:
            metric = verdict.targets[name]
            assert metric.champion == pytest.approx(champion.verdict.targets[name].candidate)
            assert metric.candidate < metric.champion

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("[docks, bikes]", "the candidate predicts docks, bikes, the champion bikes, docks"),
            ("bikes", "the candidate predicts bikes, the champion bikes, docks"),
        ],
    )
    @pytest.mark.usefixtures("champion")
    def test_a_candidate_of_other_targets_is_not_compared(
        self, target: str, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with changed("target: [bikes, docks]", f"target: {target}"):
            verdict = Pipeline(monkeypatch, AS_OF="2020-03-01").compare()
        assert (verdict.decision, verdict.message, verdict.metrics) == ("reject", f"{message}; {HINT}", [])

    def test_a_verdict_without_targets_is_still_read(self, champion: Pipeline) -> None:
        document = json.loads(champion.verdict.model_dump_json())
        del document["targets"]
        for curve in document["curves"]:
            del curve["target"]
        assert Verdict.model_validate(document).targets == {}


def test_a_version_names_its_targets(champion: Pipeline) -> None:
    uri, run_id = champion.candidate.model_uri, champion.candidate.run_id
    with examined_version(uri, Policy("toy", champion.settings.model), run_id) as (_, manifest):
        assert manifest.targets == TARGETS
        assert manifest.outputs[0]["tensor-spec"]["shape"] == [-1, 2]
    _, golden = read_golden_predictions(uri)
    assert golden.shape == (50, 2)


class TestMonitor:
    @staticmethod
    def check(champion: Pipeline, source: Any = "log") -> Any:
        return ModelMonitor(champion.client, "toy", load_settings("toy"), source, AS_OF).check("none", "2020-03-20")

    @staticmethod
    def log(shift: tuple[float, float] = (0, 0)) -> None:
        frame = newest_events()
        predictions = np.column_stack([3 * frame["x"] + shift[0], 10 - 2 * frame["x"] + shift[1]])
        log_predictions(frame, probabilities=predictions)

    @pytest.fixture(autouse=True)
    def _log(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CT_PREDICTIONS", str(tmp_path / "predictions"))

    def test_logged_predictions_are_joined_with_the_labels_of_all_targets(self, champion: Pipeline) -> None:
        self.log()
        report = self.check(champion)
        assert report.decision.verdict == "none", report.summary
        assert report.current
        rows = targets_of(events())
        rows = rows[(rows["seen"] >= "2020-03-01") & (rows["seen"] < "2020-03-15")]
        predictions = np.column_stack([3 * rows["x"], 10 - 2 * rows["x"]])
        assert report.current.rows == len(rows)
        assert report.current.value == pytest.approx(-root_mean_squared_error(rows[[*TARGETS]], predictions))

    def test_the_drift_of_each_targets_predictions_is_measured(self, champion: Pipeline) -> None:
        self.log(shift=(0, 8))
        report = self.check(champion)
        drifts = {drift.name: drift.drifted for drift in report.drifts}
        assert drifts["the predictions of docks"]
        assert not drifts["the predictions of bikes"]
        assert report.decision.message.startswith("the predictions of docks drifted, no column did; the live")
        assert report.decision.verdict == "retrain"  # by the metric, which has dropped

    def test_the_champion_predicts_the_newest_rows_of_the_warehouse(self, champion: Pipeline) -> None:
        report = self.check(champion, "warehouse")
        assert report.decision.verdict == "none", report.summary
        assert [drift.name for drift in report.drifts][-2:] == [f"the predictions of {name}" for name in TARGETS]
        assert report.current
        assert report.current.value == pytest.approx(-0.8, abs=0.15)

    def test_answers_of_another_shape_are_an_error(self, champion: Pipeline) -> None:
        frame = newest_events()
        log_predictions(frame, probabilities=frame["x"].to_numpy())
        (error,) = self.check(champion).errors
        assert error.endswith("the predictions log has answers of 1 values, where the version returns 2")

    def test_labels_of_other_targets_are_not_compared_with_the_predictions(self, champion: Pipeline) -> None:
        self.log()
        with changed("target: [bikes, docks]", "target: [docks, bikes]"):
            report = self.check(champion)
        assert report.current is None
        message = "version 1 predicts bikes and docks, and data.target is docks and bikes now"
        assert f"the live metric cannot be computed: {message}" in [finding.message for finding in report.findings]


@pytest.mark.parametrize(
    ("second", "agree"), [([[1.0, 100.0]], True), ([[1.05, 95.0]], True), ([[1.2, 100.0]], False), ([[1.0]], False)]
)
def test_versions_agree_on_a_row_if_they_do_on_each_target(second: list[list[float]], agree: bool) -> None:
    assert rows_agree(np.array([[1.0, 100.0]]), np.array(second), are_probabilities=False).tolist() == [agree]


@pytest.mark.usefixtures("mlflow_workspace")
class TestRun:
    def test_it_is_deployed_served_by_both_protocols_and_rolled_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_several_targets(monkeypatch)
        monkeypatch.setattr(follower, "POLL_SECONDS", 0.2)
        change("alpha: 1.0", "alpha: 1000.0")
        run = Pipeline(monkeypatch)
        run.promote()
        change("alpha: 1000.0", "alpha: 1.0")
        run = Pipeline(monkeypatch)
        with Server() as server:
            monkeypatch.setenv("SERVING_URLS", server.url)
            self.check_predictions(server, "1")
            run.deploy()
            assert run.verdict.champion == "1"
            self.check_predictions(server, "2")
            roll_back.roll_back(run.client, "toy", "a test", run.timer)
            self.check_predictions(server, "1")

    @staticmethod
    def check_predictions(server: Server, number: str) -> None:
        """Check that a server serves a version, with its offline predictions, as MLflow's server writes them."""
        server.wait_for_version(number)
        uri = f"models:/toy/{number}"
        rows, golden = read_golden_predictions(uri)
        response = server.invoke(dataframe_split=rows)
        assert response.headers["X-Model-Version"] == number
        assert describe_difference(response.json()["predictions"], golden) is None
        row = {"shade": "red", "x": 1.0, "y": None}
        expected = load_estimator(uri).predict(pd.DataFrame([row | {"y": np.nan}]))[0]
        assert server.predict(row).json()["predictions"] == [{"value": pytest.approx(expected.tolist())}]
        value = server.get("/openapi.json").json()["components"]["schemas"]["Prediction"]["properties"]["value"]
        assert (value["minItems"], value["maxItems"], value["description"]) == (2, 2, "bikes, docks")

    def test_a_champion_of_one_target_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_several_targets(monkeypatch)
        change("target: [bikes, docks]", "target: bikes")
        champion = Pipeline(monkeypatch)
        champion.promote()
        assert champion.verdict.targets == {}
        change("target: bikes", "target: [bikes, docks]")
        verdict = Pipeline(monkeypatch).compare()
        assert verdict.message.startswith("the candidate predicts bikes, docks, the champion bikes; to accept this")
        assert model_versions.by_alias(champion.client, "toy", model_versions.CHAMPION) is not None

    @pytest.mark.parametrize(
        ("estimator", "message"),
        [
            (
                "SVR()",
                "Pipeline cannot be fitted: y should be a 1d array.*as scikit-learn's MultiOutputRegressor around any",
            ),
            ("First()", r"the model returns predictions of shape \(\d+,\), not \(\d+, 2\)"),
            ("Missing()", "the model predicts NaN or infinite values for [0-9,]+ of [0-9,]+ rows"),
        ],
    )
    def test_an_estimator_that_does_not_predict_each_target_ends_the_training(
        self, estimator: str, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use_several_targets(monkeypatch)
        change("parameters: {alpha: 1.0}", "parameters: {}")
        change("Ridge(**parameters)", estimator, MODEL)
        MODEL.write_text(
            MODEL.read_text()
            + """

import numpy as np
from sklearn.svm import SVR


class First(Ridge):
    def predict(self, rows):
        return super().predict(rows)[:, 0]


class Missing(Ridge):
    def predict(self, rows):
        return super().predict(rows) * [1, np.nan]
"""
        )
        import_again(monkeypatch)
        with pytest.raises(UserError, match=message):
            Pipeline(monkeypatch).train()


@pytest.mark.usefixtures("workspace")
class TestData:
    @pytest.fixture(autouse=True)
    def _use(self, monkeypatch: pytest.MonkeyPatch, workspace: Path) -> None:  # noqa: ARG002 - first
        use_several_targets(monkeypatch)
        rows = targets_of(events())
        rows["bikes"] = rows["bikes"].mask(rows["id"] % 10 == 0)
        rows["docks"] = rows["docks"].astype("Int64").mask(rows["id"] % 10 == 1)
        store(rows)

    def test_each_target_is_checked_for_nulls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        failed = [check for check in Pipeline(monkeypatch, AS_OF="2020-02-29").check_data() if not check.passed]
        assert [check.column for check in failed] == [*TARGETS]
        assert all(check.message.endswith("null_target: drop leaves out these 232 rows") for check in failed)

    def test_a_row_is_left_out_if_any_target_is_null(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change("  key: [id]", "  key: [id]\n  null_target: drop")
        pipeline = Pipeline(monkeypatch)
        snapshot, data = pipeline.take_snapshot(), pipeline.settings.data
        assert (snapshot.without_target, snapshot.rows) == (472, 8 * 236)
        watermark = compute_watermark(snapshot, data)
        with sources.open_source(pipeline.settings) as source:
            counts = count_rows(source.table(snapshot.since, snapshot.until), data, snapshot.until)
        assert counts.before == watermark.days

    def test_a_metric_of_one_target_is_refused_before_anything_is_read(self) -> None:
        change("report: [r2]", "report: [neg_max_error]")
        with pytest.raises(
            UserError, match=r"training.yaml: data.target is a list: the metric neg_max_error cannot be"
        ):
            set_up.begin()
