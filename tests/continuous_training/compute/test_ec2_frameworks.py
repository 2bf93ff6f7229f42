"""Models of other frameworks than scikit-learn, trained on EC2, against a champion that was trained here."""

from __future__ import annotations

import pytest

from continuous_training.fork_server import client
from continuous_training.registry import connection
from ec2_project import Project
from forked_python import ForkedPython
from framework_models import use
from pipeline import Pipeline


@pytest.mark.integration(seconds=15)
@pytest.mark.parametrize("library", ["lightgbm", "torch"])
def test_a_candidate_is_compared_with_a_champion_of_scikit_learn(
    project: Project, forked_python: ForkedPython, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    pytest.importorskip(library, reason=f"{library} is not installed: scripts/ct test installs it")
    monkeypatch.setattr(client, "command", forked_python.command)
    champion = Pipeline(monkeypatch, BUILD_TAG="ct-1").promote(compare=False)
    use(library, monkeypatch)
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
