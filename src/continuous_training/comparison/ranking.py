"""The quality of a ranking within groups, such as the results of a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NDCG = "ndcg"  # the metric's name in training.yaml


class GroupScores(NamedTuple):
    """The score of each group that has one, and the number of its first row."""

    scores: NDArray[np.float64]
    rows: NDArray[np.intp]


def score_groups(relevance: NDArray[Any], predictions: NDArray[Any], groups: NDArray[Any]) -> GroupScores:
    """Return the normalized discounted cumulative gain of each group with a relevant row.

    Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques (2002), with the gain equal to the
    relevance and the discount log2(rank + 1), as in scikit-learn's `ndcg_score`. Rows of equal predictions are ranked
    in their order.

    Args:
        relevance: the labels, not negative, of shape (rows,).
        predictions: of shape (rows,).
        groups: the group of each row, of shape (rows,).
    """
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    gains = [_gain(relevance, order, group, len(first)) for order in (predictions, relevance)]
    relevant = gains[1] > 0
    return GroupScores(gains[0][relevant] / gains[1][relevant], first[relevant])


def _gain(relevance: NDArray[Any], scores: NDArray[Any], group: NDArray[np.intp], groups: int) -> NDArray[np.float64]:
    """Return the discounted gain of each group, of shape (groups,), if its rows are ranked by scores."""
    order = np.lexsort((-scores.astype(np.float64), group))
    sizes = np.bincount(group, minlength=groups)
    rank = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.bincount(group[order], relevance[order] / np.log2(rank + 2), minlength=groups).astype(np.float64)
