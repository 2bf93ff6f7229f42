"""The replay's policy «retrain on drift»: when it trains, what its models score, what it remembers, how it is told."""

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
from continuous_training.replay import drift_policy as drift
from continuous_training.replay import loop, page, stages, table, workspace
from continuous_training.replay import ping_receiver as webhook
from continuous_training.replay import summary as words
from continuous_training.replay.evaluation import judge_changing
from continuous_training.replay.months import Judged, Made, Model, Month, OnDrift, Week, following
from continuous_training.replay.policies import compare
from continuous_training.settings import Compare, load_settings
from continuous_training.versions import loading
from pipeline import Pipeline
from toy import change, events, store

if TYPE_CHECKING:
    from continuous_training.replay.policies import Result

LIMITS = Compare(metric="roc_auc", resamples=2000, first={"roc_auc": 0.6})
MARCH, APRIL = datetime(2020, 3, 1), datetime(2020, 4, 1)
DRIFT = pd.Timestamp("2020-03-16")
SEEN = datetime(2020, 3, 22)  # the end of the first week that has it


def ran(month: str, run_id: str, champion: str | None) -> Made:
    """Make a run whose candidate lies where its run is called."""
    decision: Literal["promoted", "rejected"] = "promoted" if champion == run_id else "rejected"
    candidate = Model(run_id=run_id, uri=f"/{run_id}")
    return Made(
        month=month, decision=decision, message="because", candidate=candidate, champion=champion, log=f"{run_id}.log"
    )


def week(end: str, made: Made | None = None) -> Week:
    moment = datetime.fromisoformat(end)
    return Week(end=moment, verdict="retrain" if made else "none", message="x moved" if made else "no drift", made=made)


class TestWhen:
    def test_it_looks_at_the_end_of_every_week_of_a_month_and_of_no_other(self) -> None:
        days = [[f"{end:%d}" for end in drift.ends(MARCH, month)] for month in (MARCH, APRIL)]
        assert days == [["08", "15", "22", "29"], ["05", "12", "19", "26"]]

    def test_a_week_that_ends_with_its_month_is_seen_on_the_next_ones_first_day(self) -> None:
        february = datetime(2021, 2, 1)
        assert [f"{end:%m-%d}" for end in drift.ends(february, february)] == ["02-08", "02-15", "02-22"]
        assert next(drift.ends(february, following(february))) == datetime(2021, 3, 1)

    def test_a_model_answers_from_its_promotion_until_the_next_one(self) -> None:
        first = Model(run_id="a", uri="/a")
        weeks = [week("2020-03-08"), week("2020-03-15", ran("2020-03", "b", "a"))]
        weeks += [week("2020-03-22", ran("2020-03", "c", "c")), week("2020-03-29")]
        found = drift.reigns(first, MARCH, weeks)
        assert [(f"{since:%m-%d}", model.run_id) for since, model in found] == [("03-01", "a"), ("03-22", "c")]


def here(monkeypatch: pytest.MonkeyPatch, *, fails_at: datetime | None = None) -> list[str]:
    """Run the stages in this process, for nine others take long; returns the names and reasons of the runs."""
    runs = []

    def run(as_of: datetime, _: object, *, name: str, reason: str) -> Made:
        runs.append(f"{name}: {reason}")
        if as_of == fails_at:
            raise UserError("the machine is full")
        with pytest.MonkeyPatch.context() as patch:
            made = Pipeline(patch, AS_OF=as_of.isoformat(), BUILD_TAG=f"replay-{name}", REASON=reason)
            made.run.write()
            verdict = made.compare()
            champion = model_versions.by_alias(made.client, "toy", model_versions.CHAMPION)
            assert champion is not None
            candidate = Model(run_id=made.candidate.run_id, uri=made.candidate.model_uri)
            return Made(
                month=f"{as_of:%Y-%m}",
                decision="rejected",
                message=verdict.message,
                candidate=candidate,
                champion=champion.run_id,
                log="a.log",
            )

    monkeypatch.setattr(stages, "run", run)
    return runs


def let_x_move() -> None:
    """Have a warehouse whose x moves on 16 March, and settings by which a training a season is enough."""
    change("serving:", "monitor: {min_rows: 100, cool_down_hours: 2000}\nserving:")
    frame = events(days=121)
    frame.loc[frame["seen"] >= DRIFT, "x"] += 3
    store(frame)


@pytest.fixture(scope="module")
def finished(tracked_module: pytest.MonkeyPatch) -> tuple[Month, bytes]:
    """Finish March with a champion; returns the month, and MLflow's database at its end."""
    let_x_move()
    run = Pipeline(tracked_module, AS_OF="2020-03-01")
    version = run.promote()
    model = Model(run_id=version.run_id, uri=run.candidate.model_uri)
    made = ran("2020-03", version.run_id, version.run_id).model_copy(update={"candidate": model})
    month = Month(made=made, judged=Judged(rows=1240, scores={version.run_id: 0.8}, draws={}))
    return month, workspace.DATABASE.read_bytes()


@pytest.fixture
def march(finished: tuple[Month, bytes], tracked: Path, monkeypatch: pytest.MonkeyPatch) -> Month:
    """Begin at the end of that March, in a workspace of this test's own."""
    month, database = finished
    let_x_move()
    (tracked / workspace.DATABASE).write_bytes(database)
    Pipeline(monkeypatch, AS_OF="2020-03-01").run.write()
    workspace.keep(month)
    return month


def lived(*months: Month) -> list[Month]:
    """Live through months, as a replay does once the gate has been through them."""
    url = workspace.absolute(load_settings("toy").warehouse_url)
    return loop.retrained_on_drift(load_settings("toy"), "toy", url, months)


def april(march: Month) -> Month:
    made = march.made.model_copy(update={"month": "2020-04", "decision": "none", "candidate": None})
    return march.model_copy(update={"made": made})


class TestPolicy:
    def test_a_drift_is_answered_by_one_training_in_the_week_that_shows_it(
        self, march: Month, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        runs = here(monkeypatch)
        found = lived(march)[0].weeks
        assert [one.end for one in found if one.made] == [SEEN]
        assert [one.verdict for one in found] == ["none", "none", "retrain", "retrain"]
        assert len(runs) == 1
        assert runs[0].startswith("2020-03-22: version 1: the predictions and x drifted")
        client = connection.open_client()
        version = model_versions.by_alias(client, "toy", model_versions.CHAMPION)
        assert version is not None
        assert MonitorState.of(version) == MonitorState(), "the gate's own registry knows nothing of it"
        assert len(client.search_runs([runs.experiment_id(client, "toy")])) == 1

    def test_without_drift_it_trains_nothing(self, march: Month, monkeypatch: pytest.MonkeyPatch) -> None:
        store(events(days=121))
        runs = here(monkeypatch)
        assert [one.verdict for one in lived(march)[0].weeks] == ["none"] * 4
        assert runs == []

    def test_the_next_month_goes_on_with_what_the_last_one_remembered(
        self, march: Month, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(drift, "DAYS", 28)  # two looks are quicker than eight
        runs = here(monkeypatch)
        lived(march)
        kept = Path("drift/2020-03.json").read_bytes()
        found = lived(march, april(march))
        assert len(runs) == 1, "its one training of the season was in March"
        assert found[1].weeks[0].verdict == "retrain"
        assert Path("drift/2020-03.json").read_bytes() == kept

    def test_a_month_that_was_cut_off_begins_anew_as_if_nothing_of_it_had_been(
        self, march: Month, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(drift, "DAYS", 21)  # so that there is one look
        here(monkeypatch, fails_at=SEEN)
        with pytest.raises(UserError, match="the machine is full"):
            lived(march)
        runs = here(monkeypatch)
        assert [one.end for one in lived(march)[0].weeks if one.made] == [SEEN]
        assert len(runs) == 1

    def test_a_monitor_that_cannot_look_ends_the_replay_and_says_why(
        self, march: Month, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here(monkeypatch)
        Path(".ct/warehouse.duckdb").unlink()
        with pytest.raises(UserError, match=r"could not look at the week before 2020-03-08: .* is not there"):
            drift.live("toy", "duckdb://.ct/warehouse.duckdb", Path("months/2020-03.db"), {datetime(2020, 3, 8): step})
        assert march.drifted is None

    def test_months_before_the_first_champion_are_left_as_they_are(self, march: Month) -> None:
        without = Month(made=march.made.model_copy(update={"champion": None, "candidate": None, "decision": "none"}))
        assert lived(without) == [without]


def step(_: str) -> Any:
    return nullcontext()


def test_a_model_is_judged_by_the_rows_that_came_while_it_was_in_production(
    monkeypatch: pytest.MonkeyPatch, tracked: Path
) -> None:
    models = []
    for as_of, penalty in (("2020-02-01", "C: 1.0"), ("2020-03-01", "C: 1.0e-4")):
        change("C: 1.0", penalty)
        run = Pipeline(monkeypatch, AS_OF=as_of)
        run.run.write()
        run.train()
        models.append(Model(run_id=run.candidate.run_id, uri=run.candidate.model_uri))
    old, new = models
    change_of_models = datetime(2020, 3, 11, 12)
    reigns = [(datetime(2020, 2, 1), old), (change_of_models, new)]
    score, draws = judge_changing(run.settings, MARCH, old, reigns)

    frame = events()
    rows = frame[(frame["seen"] >= MARCH) & (frame["seen"] < APRIL)]
    message = [
        loading.load(one.uri, run.settings.model.trusted_types).predict_proba(rows[["shade", "x", "y"]])[:, 1]
        for one in models
    ]
    expected = roc_auc_score(rows["late"], np.where(rows["seen"] < change_of_models, *message))
    assert (tracked / ".ct/warehouse.duckdb").exists()
    assert score == pytest.approx(expected)
    assert np.mean(np.array(draws)) == pytest.approx(roc_auc_score(rows["late"], message[0]) - expected, abs=0.01)
    assert set(judge_changing(run.settings, MARCH, old, [(MARCH, old)])[1]) == {0.0}


def test_the_replay_takes_a_ping_as_jenkins_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ping.TOKEN, "replay")
    message = ping.Ping(trigger="drift", reason="x moved", model="toy", model_version="1", evidence="runs:/1")
    with webhook.listening() as address:
        assert ping.send(address, message) == ["replay"]
    with pytest.raises(requests.ConnectionError):
        requests.post(address, timeout=5)


def result() -> Result:
    """Two months of two models; drift asks for a training in each, one is promoted and one finds no rows."""
    scores, noise = {"a": 0.70, "b": 0.75}, np.linspace(-0.002, 0.002, LIMITS.resamples)
    stale = ran("2020-04", "d", "c").model_copy(
        update={"decision": "none", "candidate": None, "message": "it is stale"}
    )
    first = Month(
        made=ran("2020-03", "a", "a"),
        judged=Judged(rows=1000, scores={"a": 0.70}, draws={}),
        drifted=OnDrift(
            weeks=[week("2020-03-08"), week("2020-03-15", ran("2020-03", "c", "c"))],
            score=0.72,
            draws=[*(noise - 0.02)],
        ),
    )
    second = Month(
        made=ran("2020-04", "b", "b"),
        judged=Judged(rows=1000, scores=scores, draws={"a": [*(noise + 0.05)]}),
        drifted=OnDrift(weeks=[week("2020-04-05", stale)], score=0.74, draws=[*(noise + 0.01)]),
    )
    return compare("toy", [first, second], LIMITS)


class TestResult:
    def test_a_policy_has_trained_the_models_that_it_made_and_all_share_the_first(self) -> None:
        found = result().trainings
        assert (found.never, found.always, found.gate, found.drift) == (1, 2, 2, 2)

    def test_it_is_held_against_the_gate_month_by_month(self) -> None:
        found = result()
        assert found.means.drift == pytest.approx(0.73)
        assert found.over_drift is not None
        assert (found.over_drift.value, found.over_drift.found) == (pytest.approx(-0.005), "worse")

    def test_a_replay_without_it_says_nothing_of_it(self) -> None:
        months = [Month(made=ran("2020-03", "a", "a"), judged=Judged(rows=9, scores={"a": 0.7}, draws={}))]
        found = compare("toy", months, LIMITS)
        assert (found.over_drift, found.trainings.drift) == (None, None)
        assert "drift" not in table.table(found)
        assert "drift" not in page.render(found)

    def test_the_table_has_its_scores_its_runs_and_every_policys_number_of_trainings(self) -> None:
        shown, refused = table.table(result()).splitlines(), "2020-04-05 no candidate (it is stale)"
        assert shown[:5] == [
            "month      never   always  gate    drift   hindsight  decision  gain or cost                  on drift",
            "2020-03    0.7000  0.7000  0.7000  0.7200  0.7000     promoted" + " " * 32 + "2020-03-15 promoted",
            f"2020-04    0.7000  0.7500  0.7500  0.7400  0.7500     promoted  +0.0500 (+0.0481 to +0.0519)  {refused}",
            "mean       0.7000  0.7250  0.7250  0.7300  0.7250",
            "trainings  1       2       2       2       2",
        ]
        assert shown[6:] == words.sentences(result())

    def test_it_is_said_in_words_what_it_is_worth_and_what_it_spends(self) -> None:
        worth, spent = words.sentences(result())[2:4]
        assert worth.startswith("The gate surely loses to retraining on drift: −0.0050 (")
        assert (
            spent == "The monthly schedule trained 2 models, retraining on drift 2: 2 of 3 weekly looks asked for one."
        )

    def test_a_month_is_told_with_its_runs(self) -> None:
        month = Month(made=ran("2020-03", "a", "a"), drifted=OnDrift(weeks=[week("2020-03-08")], score=0.7, draws=[]))
        assert words.told_of_drift(month) == "2020-03: retraining on drift 0.7000; no training was asked for"

    def test_the_page_has_a_line_of_its_own_and_the_numbers_of_trainings(self) -> None:
        shown = page.render(result())
        assert "On drift: 2020-03-15 promoted." in shown
        assert '<th scope="row">Trainings</th><td>1</td><td>2</td><td>2</td><td>2</td><td>2</td>' in shown
        labels = [line.get_label() for line in page.figure(result()).axes[0].lines]
        assert "retrain on drift" in labels

    def test_a_month_that_was_kept_is_read_as_it_was(self) -> None:
        drifted = OnDrift(weeks=[week("2020-03-08")], score=0.7, draws=[0.1, None])
        month = Month(made=ran("2020-03", "a", "a"), drifted=drifted)
        assert Month.model_validate_json(month.model_dump_json()) == month
