"""The labels: whether a model can be fitted on them, and compared by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from continuous_training.comparison.cases import check_cases
from continuous_training.comparison.ranking import NDCG
from continuous_training.documents import Check
from continuous_training.errors import UserError
from continuous_training.formatting.scorers import DEFINED_FOR, DEFINED_FOR_TWO_CLASSES

if TYPE_CHECKING:
    from continuous_training.data.snapshot_rows import SnapshotRows
    from continuous_training.settings import Settings


LABELS = 10_000  # on which metrics are tried
PERIOD_SECONDS = {"hour": 3600, "day": 86_400, "week": 604_800}
NEED_EVERY_CLASS = {"roc_auc_ovo", "roc_auc_ovo_weighted", "roc_auc_ovr", "roc_auc_ovr_weighted"}  # metrics


def check_training_classes(rows: SnapshotRows, settings: Settings) -> list[Check]:
    """Check that the training rows of a classification have two classes or more."""
    target = settings.data.targets[0]
    if settings.model.task == "regression" or target not in rows.types:
        return []
    classes = rows.classes(target, fresh=False)
    message = f"the training rows have {len(classes):,} classes"
    if len(classes) < 2:
        only = f"are all of the class {classes[0]}" if classes else "have no class"
        message = f"the training rows {only}: a model needs two, so increase train_days or correct the target"
    return [Check(name="training classes", column=target, passed=len(classes) > 1, message=message)]


def check_metrics(rows: SnapshotRows, settings: Settings) -> list[Check]:
    """Check that the metrics are defined for the labels, by predictions that are made up.

    Metrics that are defined for all labels of the task are not tried: scikit-learn takes a second to import. Nor are a
    team's own functions, which may need more than labels.
    """
    target = settings.data.targets[0]
    task, functions = settings.model.task, settings.compare.functions
    if len(settings.data.targets) > 1 or target not in rows.types:
        return []
    classes = rows.classes(target) if task == "classification" else []
    always = DEFINED_FOR[task] | (DEFINED_FOR_TWO_CLASSES if len(classes) == 2 else set())
    names = sorted(settings.compare.scorers - always - functions.keys() - {NDCG})
    if not names or (task == "classification" and len(classes) < 2):
        return []
    from continuous_training.comparison import evaluation

    labels = np.array(rows.sample_labels(target, LABELS))
    predictions: evaluation.Predictions = evaluation.RegressorPredictions(labels)
    if task == "classification":
        labels = np.array([*classes, *labels])  # each class once at least
        values = np.random.default_rng(0).dirichlet(np.ones(len(classes)), len(labels))
        predictions = evaluation.ClassifierPredictions(values, np.array(classes))
    problems = []
    for name in names:
        try:
            evaluation.score(name, predictions, labels)
        except UserError as error:
            problems.append(str(error))
    message = "; ".join(problems) or f"{', '.join(names)} can be computed for these labels"
    return [Check(name="metrics", column=target, passed=not problems, message=message)]


def check_fresh_cases(rows: SnapshotRows, settings: Settings) -> list[Check]:
    """Check that the fresh rows can distinguish models with the confidence that the comparison needs."""
    data, by = settings.data, settings.compare.resample_by
    if not {*data.targets, data.time} <= rows.types.keys():
        return []
    sizes = rows.fresh_class_sizes(data.targets[0]) if settings.model.task == "classification" else None
    groups = None
    if by == "group":
        groups = rows.count_fresh_values(str(data.group)) if data.group in rows.types else 0
    elif by != "row":
        groups = rows.count_fresh_periods(data.time, PERIOD_SECONDS[by])
    rule = check_cases(rows.fresh, sizes, groups, settings.compare)
    return [Check(name=rule.name, column=", ".join(data.targets), passed=rule.passed, message=rule.message)]


def check_fresh_classes(rows: SnapshotRows, settings: Settings) -> list[Check]:
    """Check that the fresh rows have every class, if a metric is not defined without one."""
    metrics = sorted(settings.compare.scorers & NEED_EVERY_CLASS)
    target = settings.data.targets[0]
    if not metrics or settings.model.task == "regression" or target not in rows.types:
        return []
    missing = rows.missing_classes(target)
    message = "the fresh rows have every class"
    if missing:
        message = (
            f"the fresh rows lack the class {', '.join(missing)}, without which {metrics[0]} is not defined: increase "
            "fresh_days, or use neg_log_loss"
        )
    return [Check(name="classes", column=target, passed=not missing, message=message)]
