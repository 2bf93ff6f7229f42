"""The result of a replay as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuous_training.replay.policies import Scores
from continuous_training.replay.words import difference, sentences
from continuous_training.report.words import number

if TYPE_CHECKING:
    from continuous_training.replay.policies import Line, Result

GAP = "  "


def table(result: Result) -> str:
    """Return a row for each month, the policies' means, and what they say."""
    rows = [["month", *Scores.model_fields, "decision", "gain or cost"]]
    rows += [_row(line) for line in result.lines]
    rows.append(["mean", *_scores(result.means), "", ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    drawn = [GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*drawn, "", *sentences(result)])


def _row(line: Line) -> list[str]:
    scores = _scores(line.scores) if line.scores else ["–"] * len(Scores.model_fields)
    return [line.made.month, *scores, line.made.decision, difference(line.gain) if line.gain else ""]


def _scores(scores: Scores) -> list[str]:
    return [number(value) for value in scores.model_dump().values()]
