"""A trial of a new model before it is published: the checks of a run on its data, and one fit."""

from __future__ import annotations

import importlib.util
import platform
from typing import TYPE_CHECKING, Any, NamedTuple

from continuous_training.data.snapshot_rows import SnapshotRows
from continuous_training.data.snapshots import read_snapshot
from continuous_training.documents import Run, Stopwatch
from continuous_training.errors import UserError
from continuous_training.settings import lock_hash, parse_as_of
from continuous_training.stages import check_data
from continuous_training.stages.data_checks import leaks
from continuous_training.stages.snapshot import take_snapshot

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from continuous_training.documents import Snapshot
    from continuous_training.settings import Settings

MAX_ROWS = 50_000  # the newest training rows that the fit uses


class Trial(NamedTuple):
    """The rows that a run would read now."""

    settings: Settings
    run: Run
    snapshot: Snapshot
    train: pd.DataFrame
    fresh: pd.DataFrame

    def find_leaks(self) -> dict[str, float]:
        """Return the features that alone tell the target too well, with their score: see `leaks.score_features`."""
        checks = self.settings.checks
        is_regression = self.settings.model.task == "regression"
        limit = checks.max_single_feature_correlation if is_regression else checks.max_single_feature_auc
        with SnapshotRows(self.snapshot, self.settings.data.key) as rows:
            scores = leaks.score_features(rows, self.settings, self.settings.data.targets[0])
        return {name: score for name, score in scores.items() if score > limit and name in self.settings.data.features}

    def check(self) -> None:
        """Run the checks of the stage Check data.

        Raises:
            UserError: a check fails; all that do are listed.
        """
        checks = check_data.check(self.run, self.settings, self.snapshot, None)
        failures = [
            f"✗ {check.name}{f' of {check.column}' if check.column else ''}: {check.message}"
            for check in checks
            if not check.passed
        ]
        if failures:
            raise UserError("the data do not pass the checks of a run, so nothing is written:", *failures)

    def fit(self, model_file: Path) -> tuple[float, float]:
        """Fit the model once; return its score on the fresh rows, and the score of a constant prediction."""
        from sklearn.dummy import DummyClassifier, DummyRegressor

        from continuous_training.comparison import evaluation
        from continuous_training.training.fitting import fit_estimator
        from continuous_training.versions.frameworks.fitting import LabelledRows

        data, task = self.settings.data, self.settings.model.task
        train = self.train.nlargest(MAX_ROWS, data.time) if len(self.train) > MAX_ROWS else self.train
        build = _load(model_file).build
        estimator = build(data.features_of("category"), data.features_of("number"), **self.settings.model.parameters)
        constant = DummyClassifier(strategy="prior") if task == "classification" else DummyRegressor(strategy="median")
        rows, scores = LabelledRows(train[data.features], train[data.target]), []
        for each in (estimator, constant):
            fitted, _ = fit_estimator(each, self.run.model, rows, None, lambda step, metrics: None)  # noqa: ARG005
            predictions = evaluation.predict(fitted, self.fresh[data.features], task)
            scores.append(evaluation.score(self.settings.compare.metric, predictions, self.fresh[data.target]))
        return scores[0], scores[1]


def start(settings: Settings, name: str) -> Trial:
    """Read the rows that a run would read now; its snapshot is that of the first run.

    Raises:
        UserError: the rows cannot be read.
    """
    timer = Stopwatch(f"new-{name}")
    run = Run(
        **timer.stop(),
        model=name,
        as_of=parse_as_of("", settings.data.clock),
        compute="local",
        force=False,
        promote="never",
        trigger="manual",
        reason="scripts/ct new",
        branch="",
        commit="",
        build_url="",
        lock=lock_hash(name),
        python=platform.python_version(),
    )
    snapshot = take_snapshot(run, settings, timer)
    train, fresh = (read_snapshot(part.path, settings.data) for part in (snapshot.train, snapshot.fresh))
    return Trial(settings, run, snapshot, train, fresh)


def _load(path: Path) -> Any:  # noqa: ANN401 - a module
    spec = importlib.util.spec_from_file_location("new_model_on_trial", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
