"""Leaks: features that know the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuous_training.data.snapshots import ARROW_TYPES
from continuous_training.documents import Check

if TYPE_CHECKING:
    from continuous_training.data.snapshot_rows import SnapshotRows
    from continuous_training.settings import Settings


RANKED_TYPES = {"number", "integer", "boolean"}  # the leak check ranks the target by these


def check_leaks(rows: SnapshotRows, settings: Settings) -> list[Check]:
    """Check that no single numeric feature ranks the target so well that it was probably made from it."""
    aucs = single_feature_aucs(rows, settings)
    if not aucs:
        return []
    limit = settings.checks.max_single_feature_auc
    best = max(aucs, key=lambda name: aucs[name])
    message = f"'{best}' alone ranks the target with AUC {aucs[best]:.2f}; above {limit:g} it probably contains it"
    return [Check(name="leaks", column=best, passed=aucs[best] <= limit, message=message)]


def single_feature_aucs(rows: SnapshotRows, settings: Settings) -> dict[str, float]:
    """Return how well each numeric feature alone ranks a target of two classes, in either direction: 0.5 to 1."""
    data, target = settings.data, settings.data.targets[0]
    if settings.model.task != "classification" or target not in rows.types:
        return {}
    if rows.count_classes(target) != 2:
        return {}
    ranked = [
        name
        for name in data.features
        if data.columns[name].type in RANKED_TYPES and rows.types.get(name) == str(ARROW_TYPES[data.columns[name].type])
    ]
    return {name: max(auc, 1 - auc) for name, auc in rows.aucs(ranked, target).items()}
