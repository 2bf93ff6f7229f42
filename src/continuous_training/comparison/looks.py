"""Repeated looks: how much of the error rate each of many comparisons may use, so that together they keep it.

Runs of every night judge nearly the same rows again and again. If each one erred as seldom as a single comparison, one
of them would err far more often. So the error rate belongs to a period of new rows: a day of new rows brings its share,
a pause saves up to `MAX_SAVED`, and each look spends of what is there. By the inequality of Bonferroni this holds
however alike the rows and the models of different nights are (alpha spending in the time of the data: Lan and DeMets,
Discrete sequential boundaries for clinical trials, Biometrika 70, 1983; for any number of hypotheses: Tian and Ramdas,
Online control of the familywise error rate, Statistical Methods in Medical Research 30, 2021).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from continuous_training.documents import Look

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from continuous_training.documents import Snapshot
    from continuous_training.settings import Compare


MAX_SAVED = 0.75  # of the rate: with what the period itself brings, less than the 5 % of a two-sided 95 % interval


def next_look(earlier: Sequence[Look], limits: Compare, fingerprint: str, champion: str, snapshot: Snapshot) -> Look:
    """Return the look of a candidate, which has the one of an interrupted run if that was the same.

    A look spends what is there but for a day's share or, if it is less, a half: runs of every night spend a day's share
    each, a single run nearly all of it, and a second run of a day is not without any.

    Args:
        earlier: looks of the model, the last one first.
        limits: the section `compare`.
        fingerprint: the candidate's.
        champion: the number of the champion's version.
        snapshot: with the fresh rows.
    """
    newest = snapshot.newest
    number, spent, left = 1, 1.0, 0.0
    if limits.error_rate_days is not None:
        for look in earlier:
            if (look.fingerprint, look.champion) == (fingerprint, champion):
                return look.model_copy(update={"metric": limits.metric})
        period = timedelta(days=limits.error_rate_days)
        number += sum(look.newest > newest - period for look in earlier)
        budget = _budget(earlier, newest, period)
        spent = max(budget - timedelta(days=1) / period, budget / 2)
        left = budget - spent
    return Look(
        fingerprint=fingerprint,
        champion=champion,
        newest=newest,
        until=snapshot.until,
        days=(snapshot.until - snapshot.fresh_since) / timedelta(days=1),
        number=number,
        spent=spent,
        left=left,
        metric=limits.metric,
    )


def confidence_of(look: Look, limits: Compare) -> float:
    """Return the confidence of the intervals that decide, which is higher if the look has a part of the error rate."""
    return 1 - (1 - limits.confidence) * look.spent


def _budget(earlier: Sequence[Look], newest: datetime, period: timedelta) -> float:
    """Return the share of the error rate that is there: what the last look has left, and what newer rows bring."""
    if not earlier:
        return MAX_SAVED
    new = max(timedelta(0), newest - max(look.newest for look in earlier))
    return min(MAX_SAVED, earlier[0].left + new / period)
