"""The result of a replay as a table for a terminal."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from continuous_training.formatting.scorers import format_score
from continuous_training.replay.summary import describe_runs, format_difference, summarize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from continuous_training.replay.policies import MonthRow, ReplayResult, Scores

GAP = "  "
DRIFT_RUNS = "on drift"  # the header of the column with the drift policy's runs


def format_table(result: ReplayResult) -> str:
    """Return a row for each month, the means and the numbers of trainings of the policies, and the sentences."""
    names = result.policies
    rows = [["month", *names, "decision", "gain or cost", *([DRIFT_RUNS] if "drift" in names else [])]]
    rows += [_format_month(month, names, result.metric) for month in result.months]
    rows.append(["mean", *_format_scores(result.means, names, result.metric)])
    if "drift" in names:
        rows.append(["trainings", *(str(getattr(result.trainings, name)) for name in names)])
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    lines = [GAP.join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, "", *summarize(result)])


def _format_month(month: MonthRow, names: Sequence[str], metric: str) -> list[str]:
    scores = _format_scores(month.scores, names, metric) if month.scores else ["–"] * len(names)
    gain = format_difference(month.gain) if month.gain else ""
    return [month.run.month, *scores, month.run.decision, gain, ", ".join(describe_runs(month.checks))]


def _format_scores(scores: Scores, names: Sequence[str], metric: str) -> list[str]:
    return [format_score(getattr(scores, name), metric) for name in names]
