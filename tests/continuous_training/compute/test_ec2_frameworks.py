"""Models of other frameworks than scikit-learn, trained on EC2, against a champion that was trained here."""

from __future__ import annotations

from pathlib import Path

import pytest

from continuous_training.fork_server import client
from continuous_training.registry import connection
from ec2_project import Project
from forked_python import ForkedPython
from pipeline import Pipeline
from toy import change, import_again

pytestmark = pytest.mark.integration(seconds=10)


def test_a_booster_is_compared_with_a_champion_of_scikit_learn(
    project: Project, forked_python: ForkedPython, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lightgbm", reason="lightgbm is not installed: scripts/ct test installs it")
    monkeypatch.setattr(client, "command", forked_python.command)
    champion = Pipeline(monkeypatch, BUILD_TAG="ct-1").promote(compare=False)
    path = Path("src/toy/model.py")
    change(
        "LogisticRegression(**parameters)", "LGBMClassifier(n_estimators=20, num_leaves=4, verbose=-1, n_jobs=1)", path
    )
    change("from sklearn.linear_model import LogisticRegression", "from lightgbm import LGBMClassifier", path)
    import_again(monkeypatch)
    candidate = project.set_up("ct-2")
    with project.machines():
        verdict = candidate.compare()
    assert verdict.champion == champion.number
    (auc,) = [metric for metric in verdict.metrics if metric.name == "roc_auc"]
    assert auc.champion is not None
    assert min(auc.candidate, auc.champion) > 0.7
    tracked_run = connection.open_client().get_run(candidate.candidate.run_id)
    assert {"ec2_cost_usd", "peak_memory_mb", "fit_seconds"} <= tracked_run.data.metrics.keys()
    assert len(project.launched_instances()) == 1
