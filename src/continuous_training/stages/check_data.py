"""Check data: whether a snapshot is fit to train on. A failing check ends the run before any money is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuous_training.data.snapshot_rows import SnapshotRows
from continuous_training.stages.data_checks.columns import check_columns, check_values, check_weights
from continuous_training.stages.data_checks.completeness import check_completeness, check_copies
from continuous_training.stages.data_checks.labels import (
    check_fresh_cases,
    check_fresh_classes,
    check_metrics,
    check_training_classes,
)
from continuous_training.stages.data_checks.leaks import check_leaks
from continuous_training.stages.data_checks.volume import (
    check_duplicates,
    check_freshness,
    check_row_counts,
    check_volume,
)

if TYPE_CHECKING:
    from continuous_training.documents import Check, Run, Snapshot
    from continuous_training.settings import Settings


def check(run: Run, settings: Settings, snapshot: Snapshot, champion: dict[str, str] | None) -> list[Check]:
    """Check the snapshot against training.yaml, and its volume against the champion's.

    Args:
        run: its AS_OF is the moment that the age of the newest row is measured from.
        settings: the columns and their limits.
        snapshot: the snapshot.
        champion: the lineage of the champion, empty if it is lost, or None if there is no champion.

    Returns:
        Every check, passed or failed.
    """
    with SnapshotRows(snapshot, settings.data.key) as rows:
        return [
            *check_columns(rows, settings.data),
            *check_values(rows, settings.data),
            check_duplicates(rows),
            *check_copies(rows, settings),
            *check_weights(rows, settings.data),
            check_freshness(run, settings, snapshot),
            *check_row_counts(settings, snapshot),
            *check_completeness(rows, settings, snapshot),
            *check_training_classes(rows, settings),
            *check_fresh_cases(rows, settings),
            *check_fresh_classes(rows, settings),
            *check_metrics(rows, settings),
            check_volume(settings, snapshot, champion),
            *check_leaks(rows, settings),
        ]
