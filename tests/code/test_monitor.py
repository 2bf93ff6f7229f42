"""The monitor: what it finds in a real log and a real warehouse, what it decides, and what it never passes over."""

from __future__ import annotations

from pathlib import Path

import pytest

import asked
from continuous_training import registry
from continuous_training.monitor import examination, state
from continuous_training.monitor.examination import Examination
from pipeline import Pipeline


@pytest.fixture(scope="module")
def champion(tracked_by_all: pytest.MonkeyPatch) -> Pipeline:
    """Version 1 of the toy model, trained and judged on 60 days of calm events."""
    made = Pipeline(tracked_by_all)
    made.promote()
    return made


@pytest.fixture(autouse=True)
def _remembers_nothing(champion: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CT_PREDICTIONS", str(tmp_path / "predictions"))
    monkeypatch.setenv("AS_OF", "2020-03-01")
    version = registry.holder(champion.client, "toy", registry.CHAMPION)
    if version and state.TAG in version.tags:
        champion.client.delete_model_version_tag("toy", version.number, state.TAG)


def examine(champion: Pipeline, source: str = "log", jenkins: str = "none") -> Examination:
    return examination.of(champion.client, "toy", source, "2020-03-01").examine(jenkins, "2020-03-01")


def test_a_champion_that_is_asked_what_it_learnt_is_left_alone(champion: Pipeline) -> None:
    asked.log(asked.rows())
    found = examine(champion)
    print(found.in_words)
    print(*found.drifts, sep="\n")
    print(found.then, found.now)
    assert found.decision.verdict == "none", found.in_words


def test_it_asks_for_a_training_when_the_champion_is_asked_otherwise(champion: Pipeline) -> None:
    asked.log(asked.rows(shift=2))
    found = examine(champion)
    print(found.in_words)
    print(*found.drifts, sep="\n")
    assert found.decision.verdict == "retrain", found.in_words


def test_wh(champion: Pipeline) -> None:
    found = examine(champion, "warehouse")
    print(found.in_words)
    print(*found.drifts, sep="\n")
    print(found.then, found.now)
    assert 0
