"""The labels: whether a model can be fitted on them, and compared by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuous_training.comparison.cases import check_cases
from continuous_training.documents import Check

if TYPE_CHECKING:
    from continuous_training.data.snapshot_rows import SnapshotRows
    from continuous_training.settings import Settings


PERIOD_SECONDS = {"hour": 3600, "day": 86_400, "week": 604_800}
NEED_EVERY_CLASS = {"roc_auc_ovo", "roc_auc_ovo_weighted", "roc_auc_ovr", "roc_auc_ovr_weighted"}  # metrics


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
