"""The replay's policy 'retrain on drift': its checks and runs, its scores, its state and its texts."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import pytest
import requests
from sklearn.metrics import roc_auc_score

from continuous_training.errors import UserError
from continuous_training.jenkins import ping
from continuous_training.monitoring.state import MonitorState
from continuous_training.registry import connection, model_versions
from continuous_training.registry.runs import experiment_id
from continuous_training.replay import drift_policy, loop, page, ping_receiver, stages, summary, table, workspace
from continuous_training.replay.evaluation import evaluate_deployments
from continuous_training.replay.month_results import (
    DriftMonth,
    Evaluation,
    MonthResult,
    RunResult,
    TrainedModel,
    WeeklyCheck,
)
from continuous_training.replay.months import next_month
from continuous_training.replay.policies import compare_policies
from continuous_training.settings import Compare, load_settings
from pipeline import Pipeline
from stored_versions import load_estimator
from toy import change, events, store

if TYPE_CHECKING:
    from continuous_training.replay.policies import ReplayResult

LIMITS = Compare(metric="roc_auc", resamples=2000, first={"roc_auc": 0.6})
MARCH, APRIL = datetime(2020, 3, 1), datetime(2020, 4, 1)
DRIFT = pd.Timestamp("2020-03-16")
DETECTION = datetime(2020, 3, 22)  # the end of the first week with drift


def make_run(month: str, run_id: str, champion: str | None) -> RunResult:
    """Return a run whose candidate's path is named after its MLflow run."""
    decision: Literal["promoted", "rejected"] = "promoted" if champion == run_id else "rejected"
    candidate = TrainedModel(run_id=run_id, uri=f"/{run_id}")
    return RunResult(
        month=month, decision=decision, message="because", candidate=candidate, champion=champion, log=f"{run_id}.log"
    )


def make_check(end: str, run: RunResult | None = None) -> WeeklyCheck:
    moment = datetime.fromisoformat(end)
    return WeeklyCheck(
        end=moment, verdict="retrain" if run else "none", message="x drifted" if run else "no drift", run=run
    )


class TestChecks:
    def test_there_is_a_check_at_the_end_of_each_week(self) -> None:
        days = [[f"{end:%d}" for end in drift_policy.check_times(MARCH, month)] for month in (MARCH, APRIL)]
        assert days == [["08", "15", "22", "29"], ["05", "12", "19", "26"]]

    def test_a_week_that_ends_with_its_month_is_checked_on_the_first_day_of_the_next(self) -> None:
        february = datetime(2021, 2, 1)
        assert [f"{end:%m-%d}" for end in drift_policy.check_times(february, february)] == ["02-08", "02-15", "02-22"]
        assert next(drift_policy.check_times(february, next_month(february))) == datetime(2021, 3, 1)

    def test_a_model_is_deployed_from_its_promotion_until_the_next_one(self) -> None:
        first = TrainedModel(run_id="a", uri="/a")
        checks = [make_check("2020-03-08"), make_check("2020-03-15", make_run("2020-03", "b", "a"))]
        checks += [make_check("2020-03-22", make_run("2020-03", "c", "c")), make_check("2020-03-29")]
        deployments = drift_policy.list_deployments(first, MARCH, checks)
        assert [(f"{since:%m-%d}", model.run_id) for since, model in deployments] == [("03-01", "a"), ("03-22", "c")]


def run_in_this_process(monkeypatch: pytest.MonkeyPatch, *, fails_at: datetime | None = None) -> list[str]:
    """Run the stages in this process, which is faster; return the list of the names and reasons of the runs."""
    runs = []

    def run(as_of: datetime, _: object, *, name: str, reason: str) -> RunResult:
        runs.append(f"{name}: {reason}")
        if as_of == fails_at:
            raise UserError("the machine is full")
        with pytest.MonkeyPatch.context() as patch:
            pipeline = Pipeline(patch, AS_OF=as_of.isoformat(), BUILD_TAG=f"replay-{name}", REASON=reason)
            pipeline.run.write()
            verdict = pipeline.compare()
            champion = model_versions.by_alias(pipeline.client, "toy", model_versions.CHAMPION)
            assert champion is not None
            candidate = TrainedModel(run_id=pipeline.candidate.run_id, uri=pipeline.candidate.model_uri)
            return RunResult(
                month=f"{as_of:%Y-%m}",
                decision="rejected",
                message=verdict.message,
                candidate=candidate,
                champion=champion.run_id,
                log="a.log",
            )

    monkeypatch.setattr(stages, "run_stages", run)
    return runs


def shift_x() -> None:
    """Store events whose x is shifted from 16 March on, and set a cool-down of three months."""
    change("serving:", "monitor: {min_rows: 100, cool_down_hours: 2000}\nserving:")
    frame = events(days=121)
    frame.loc[frame["seen"] >= DRIFT, "x"] += 3
    store(frame)


@pytest.fixture(scope="module")
def march_and_database(mlflow_workspace_patch: pytest.MonkeyPatch) -> tuple[MonthResult, bytes]:
    """Return March with a champion, and MLflow's database at its end."""
    shift_x()
    run = Pipeline(mlflow_workspace_patch, AS_OF="2020-03-01")
    version = run.promote()
    model = TrainedModel(run_id=version.run_id, uri=run.candidate.model_uri)
    run_result = make_run("2020-03", version.run_id, version.run_id).model_copy(update={"candidate": model})
    month = MonthResult(
        run=run_result, evaluation=Evaluation(rows=1240, scores={version.run_id: 0.8}, resampled_differences={})
    )
    return month, workspace.DATABASE.read_bytes()


@pytest.fixture
def march(
    march_and_database: tuple[MonthResult, bytes], mlflow_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> MonthResult:
    """Start at the end of that March, in a separate workspace."""
    month, database = march_and_database
    shift_x()
    (mlflow_workspace / workspace.DATABASE).write_bytes(database)
    Pipeline(monkeypatch, AS_OF="2020-03-01").run.write()
    workspace.save_month(month)
    return month


def simulate(*months: MonthResult) -> list[MonthResult]:
    """Simulate the drift policy in months, as a replay does after the gate's policy."""
    url = workspace.absolute_url(load_settings("toy").warehouse_url)
    return loop.replay_drift_policy(load_settings("toy"), "toy", url, months)


def april(march: MonthResult) -> MonthResult:
    run = march.run.model_copy(update={"month": "2020-04", "decision": "none", "candidate": None})
    return march.model_copy(update={"run": run})


class TestPolicy:
    def test_drift_triggers_one_training_in_the_week_that_shows_it(
        self, march: MonthResult, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        runs = run_in_this_process(monkeypatch)
        checks = simulate(march)[0].checks
        assert [check.end for check in checks if check.run] == [DETECTION]
        assert [check.verdict for check in checks] == ["none", "none", "retrain", "retrain"]
        assert len(runs) == 1
        assert runs[0].startswith("2020-03-22: version 1: the predictions and x drifted")
        client = connection.open_client()
        version = model_versions.by_alias(client, "toy", model_versions.CHAMPION)
        assert version is not None
        assert MonitorState.of(version) == MonitorState(), "the gate's registry is unchanged"
        assert len(client.search_runs([experiment_id(client, "toy")])) == 1

    def test_without_drift_nothing_is_trained(self, march: MonthResult, monkeypatch: pytest.MonkeyPatch) -> None:
        store(events(days=121))
        runs = run_in_this_process(monkeypatch)
        assert [check.verdict for check in simulate(march)[0].checks] == ["none"] * 4
        assert runs == []

    def test_the_state_is_carried_over_to_the_next_month(
        self, march: MonthResult, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(drift_policy, "CHECK_INTERVAL_DAYS", 28)  # two checks instead of eight
        runs = run_in_this_process(monkeypatch)
        simulate(march)
        march_document = Path("drift/2020-03.json").read_bytes()
        results = simulate(march, april(march))
        assert len(runs) == 1, "the cool-down of the training in March is not over"
        assert results[1].checks[0].verdict == "retrain"
        assert Path("drift/2020-03.json").read_bytes() == march_document

    def test_an_interrupted_month_is_repeated_from_its_start(
        self, march: MonthResult, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(drift_policy, "CHECK_INTERVAL_DAYS", 21)  # one check
        run_in_this_process(monkeypatch, fails_at=DETECTION)
        with pytest.raises(UserError, match="the machine is full"):
            simulate(march)
        runs = run_in_this_process(monkeypatch)
        assert [check.end for check in simulate(march)[0].checks if check.run] == [DETECTION]
        assert len(runs) == 1

    def test_a_failed_check_ends_the_replay_with_an_error(
        self, march: MonthResult, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_in_this_process(monkeypatch)
        Path(".ct/warehouse.duckdb").unlink()
        with pytest.raises(UserError, match=r"could not check the week before 2020-03-08: .* does not exist"):
            drift_policy.simulate_month(
                "toy", "duckdb://.ct/warehouse.duckdb", Path("months/2020-03.db"), {datetime(2020, 3, 8): step}
            )
        assert march.drift is None

    def test_months_before_the_first_champion_are_unchanged(self, march: MonthResult) -> None:
        month = MonthResult(run=march.run.model_copy(update={"champion": None, "candidate": None, "decision": "none"}))
        assert simulate(month) == [month]


def step(_: str) -> Any:
    return nullcontext()


def test_a_model_is_scored_on_the_rows_of_its_deployment(
    monkeypatch: pytest.MonkeyPatch, mlflow_workspace: Path
) -> None:
    models = []
    for as_of, penalty in (("2020-02-01", "C: 1.0"), ("2020-03-01", "C: 1.0e-4")):
        change("C: 1.0", penalty)
        run = Pipeline(monkeypatch, AS_OF=as_of)
        run.run.write()
        run.train()
        models.append(TrainedModel(run_id=run.candidate.run_id, uri=run.candidate.model_uri))
    old, new = models
    promotion_time = datetime(2020, 3, 11, 12)
    deployments = [(datetime(2020, 2, 1), old), (promotion_time, new)]
    score, differences = evaluate_deployments(run.settings, MARCH, old, deployments)

    frame = events()
    rows = frame[(frame["seen"] >= MARCH) & (frame["seen"] < APRIL)]
    predictions = [load_estimator(model.uri).predict_proba(rows[["shade", "x", "y"]])[:, 1] for model in models]
    expected = roc_auc_score(rows["late"], np.where(rows["seen"] < promotion_time, *predictions))
    assert (mlflow_workspace / ".ct/warehouse.duckdb").exists()
    assert score == pytest.approx(expected)
    assert np.mean(np.array(differences)) == pytest.approx(
        roc_auc_score(rows["late"], predictions[0]) - expected, abs=0.01
    )
    assert set(evaluate_deployments(run.settings, MARCH, old, [(MARCH, old)])[1]) == {0.0}


def test_the_ping_receiver_answers_like_jenkins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ping.TOKEN, "replay")
    message = ping.Ping(trigger="drift", reason="x drifted", model="toy", model_version="1", evidence="runs:/1")
    with ping_receiver.receive_pings() as address:
        assert ping.send(address, message) == ["replay"]
    with pytest.raises(requests.ConnectionError):
        requests.post(address, timeout=5)


def result() -> ReplayResult:
    """Return two months with two models; drift triggers a run in each, one is promoted and one has stale data."""
    scores, noise = {"a": 0.70, "b": 0.75}, np.linspace(-0.002, 0.002, LIMITS.resamples)
    stale = make_run("2020-04", "d", "c").model_copy(
        update={"decision": "none", "candidate": None, "message": "it is stale"}
    )
    first = MonthResult(
        run=make_run("2020-03", "a", "a"),
        evaluation=Evaluation(rows=1000, scores={"a": 0.70}, resampled_differences={}),
        drift=DriftMonth(
            checks=[make_check("2020-03-08"), make_check("2020-03-15", make_run("2020-03", "c", "c"))],
            score=0.72,
            resampled_differences=[*(noise - 0.02)],
        ),
    )
    second = MonthResult(
        run=make_run("2020-04", "b", "b"),
        evaluation=Evaluation(rows=1000, scores=scores, resampled_differences={"a": [*(noise + 0.05)]}),
        drift=DriftMonth(checks=[make_check("2020-04-05", stale)], score=0.74, resampled_differences=[*(noise + 0.01)]),
    )
    return compare_policies("toy", [first, second], LIMITS)


class TestResult:
    def test_the_first_training_counts_for_every_policy(self) -> None:
        trainings = result().trainings
        assert (trainings.never, trainings.always, trainings.gate, trainings.drift) == (1, 2, 2, 2)

    def test_the_policy_is_compared_with_the_gate(self) -> None:
        comparison = result()
        assert comparison.means.drift == pytest.approx(0.73)
        assert comparison.over_drift is not None
        assert (comparison.over_drift.value, comparison.over_drift.outcome) == (pytest.approx(-0.005), "worse")

    def test_a_replay_without_the_policy_does_not_mention_it(self) -> None:
        months = [
            MonthResult(
                run=make_run("2020-03", "a", "a"),
                evaluation=Evaluation(rows=9, scores={"a": 0.7}, resampled_differences={}),
            )
        ]
        comparison = compare_policies("toy", months, LIMITS)
        assert (comparison.over_drift, comparison.trainings.drift) == (None, None)
        assert "drift" not in table.format_table(comparison)
        assert "drift" not in page.render_page(comparison)

    def test_the_table_has_the_scores_the_runs_and_the_numbers_of_trainings(self) -> None:
        lines, note = table.format_table(result()).splitlines(), "2020-04-05 no candidate (it is stale)"
        assert lines[:5] == [
            "month      never   always  gate    drift   hindsight  decision  gain or cost                  on drift",
            "2020-03    0.7000  0.7000  0.7000  0.7200  0.7000     promoted" + " " * 32 + "2020-03-15 promoted",
            f"2020-04    0.7000  0.7500  0.7500  0.7400  0.7500     promoted  +0.0500 (+0.0481 to +0.0519)  {note}",
            "mean       0.7000  0.7250  0.7250  0.7300  0.7250",
            "trainings  1       2       2       2       2",
        ]
        assert lines[6:] == summary.summarize(result())

    def test_the_sentences_have_the_score_and_the_number_of_trainings(self) -> None:
        comparison, trainings = summary.summarize(result())[2:4]
        assert comparison.startswith("The gate is significantly worse than retraining on drift: −0.0050 (")
        schedule = "The monthly schedule trained 2 models, retraining on drift 2"
        assert trainings == f"{schedule}: 2 of 3 weekly checks requested a training."

    def test_a_month_is_one_line(self) -> None:
        month = MonthResult(
            run=make_run("2020-03", "a", "a"),
            drift=DriftMonth(checks=[make_check("2020-03-08")], score=0.7, resampled_differences=[]),
        )
        assert (
            summary.describe_drift_month(month, "roc_auc")
            == "2020-03: retraining on drift 0.7000; no training requested"
        )

    def test_the_page_has_a_line_in_the_plot_and_the_numbers_of_trainings(self) -> None:
        html = page.render_page(result())
        assert "On drift: 2020-03-15 promoted." in html
        assert '<th scope="row">Trainings</th><td>1</td><td>2</td><td>2</td><td>2</td><td>2</td>' in html
        labels = [line.get_label() for line in page.plot(result()).axes[0].lines]
        assert "retrain on drift" in labels

    def test_a_stored_month_is_read_unchanged(self) -> None:
        drift_month = DriftMonth(checks=[make_check("2020-03-08")], score=0.7, resampled_differences=[0.1, None])
        month = MonthResult(run=make_run("2020-03", "a", "a"), drift=drift_month)
        assert MonthResult.model_validate_json(month.model_dump_json()) == month
