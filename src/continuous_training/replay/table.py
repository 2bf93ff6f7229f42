"""The result of a replay as a table for a terminal."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from continuous_training.replay.summary import difference, runs, sentences
from continuous_training.reports.formatting import format_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from continuous_training.replay.policies import Line, Result, Scores

GAP = "  "
ON_DRIFT = "on drift"


def table(result: Result) -> str:
    """Return a row for each month, the policies' means and numbers of trainings, and what they say."""
    names = result.policies
    rows = [["month", *names, "decision", "gain or cost", *([ON_DRIFT] if "drift" in names else [])]]
    rows += [_row(line, names) for line in result.lines]
    rows.append(["mean", *_scores(result.means, names)])
    if "drift" in names:
        rows.append(["trainings", *(str(getattr(result.trainings, name)) for name in names)])
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    drawn = [GAP.join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*drawn, "", *sentences(result)])


def _row(line: Line, names: Sequence[str]) -> list[str]:
    scores = _scores(line.scores, names) if line.scores else ["–"] * len(names)
    gain = difference(line.gain) if line.gain else ""
    return [line.made.month, *scores, line.made.decision, gain, ", ".join(runs(line.weeks))]


def _scores(scores: Scores, names: Sequence[str]) -> list[str]:
    return [format_number(getattr(scores, name)) for name in names]
