"""Training rows that are larger than memory: batches, which are read again each time that they are iterated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from continuous_training.errors import UserError
from continuous_training.versions.frameworks.fitting import LabelledRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray


class LabelledBatches:
    """Batches of rows with their labels; of the features, only those of one batch are in memory.

    Attributes:
        columns: the columns of the features; None once they are what the steps of a pipeline have made of them.
        sizes: the number of rows of each batch.
        labels: of all rows in the order of the batches, of shape (rows,).
        weights: of shape (rows,), if training.yaml names a column of weights.
    """

    def __init__(
        self,
        read: Callable[[int], Any],
        columns: Sequence[str] | None,
        sizes: Sequence[int],
        labels: pd.Series,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Describe batches.

        Args:
            read: returns the features of a batch, by its number from 0, of shape (rows, features).
            columns: their columns.
            sizes: the number of rows of each batch.
            labels: of all rows.
            weights: of all rows.
        """
        self.columns = None if columns is None else list(columns)
        self.sizes, self.labels, self.weights = list(sizes), labels, weights
        self._read = read
        self._ends = np.cumsum(self.sizes)
        self._last: tuple[int, Any] = (-1, None)

    def __iter__(self) -> Iterator[LabelledRows]:
        """Read the batches, one after the other."""
        for number, (size, end) in enumerate(zip(self.sizes, self._ends, strict=True)):
            rows = slice(end - size, end)
            weights = None if self.weights is None else self.weights[rows]
            yield LabelledRows(self._read(number), self.labels.iloc[rows], weights)

    def features(self, number: int) -> Any:  # noqa: ANN401
        """Return the features of a batch; those that were read last stay in memory."""
        if self._last[0] != number:
            self._last = (-1, None)  # first: two batches would need twice the memory
            self._last = (number, self._read(number))
        return self._last[1]

    def transform(self, function: Callable[[Any], Any]) -> LabelledBatches:
        """Return batches of the same rows with the features that a function makes of theirs."""
        return LabelledBatches(lambda number: function(self._read(number)), None, self.sizes, self.labels, self.weights)

    def encode(self) -> tuple[LabelledBatches, NDArray[Any]]:
        """Return the batches with the number of each label among the sorted classes, and these."""
        classes, codes = np.unique(self.labels.to_numpy(), return_inverse=True)
        labels = pd.Series(codes.astype(np.int32))
        return LabelledBatches(self._read, self.columns, self.sizes, labels, self.weights), classes


def to_numbers(features: Any) -> NDArray[np.float64]:  # noqa: ANN401
    """Return features as an array, as boosters read them.

    Raises:
        UserError: they are sparse, or contain texts.
    """
    if hasattr(features, "toarray"):
        raise UserError(
            "the steps before the estimator return sparse features, which model.batches does not allow: set "
            "sparse_output=False, or encode categories as numbers"
        )
    if isinstance(features, pd.DataFrame):
        texts = [str(name) for name, kind in features.dtypes.items() if kind.kind not in "biuf"]
        if texts:
            raise UserError(
                f"the estimator needs numbers, and {', '.join(texts)} are none: encode them in a step before it"
            )
    return np.asarray(features, dtype=np.float64)


def refuse(parameters: dict[str, Any]) -> None:
    """Refuse parameters of an estimator that only its fit in memory has.

    Raises:
        UserError: one of them is set.
    """
    for name, value in parameters.items():
        if value:
            raise UserError(f"{name} cannot be used with model.batches: remove one of them")
