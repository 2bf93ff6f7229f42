"""A file of a snapshot that is larger than memory: its row groups, of which one at a time is in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from continuous_training.data.snapshots import check_exists, to_frame

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from continuous_training.settings import Data


class RowGroups:
    """The row groups of a file, in the order in which Snapshot wrote them.

    Attributes:
        sizes: the number of rows of each.
    """

    def __init__(self, path: Path, data: Data) -> None:
        """Open a file.

        Raises:
            UserError: it does not exist.
        """
        check_exists(path)
        self._path, self._data = path, data
        metadata = pq.read_metadata(path)
        self.sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    def read(self, number: int, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read a row group, or some of its columns, in the types of `snapshots.read_snapshot`."""
        with pq.ParquetFile(self._path) as file:
            return to_frame(file.read_row_group(number, columns=columns and [*columns]), self._data)

    def read_column(self, name: str) -> pd.Series[Any]:
        """Read one column of all rows."""
        return to_frame(pq.read_table(self._path, columns=[name]), self._data)[name]

    def sample(self, rows: int, by_value: str | None) -> pd.DataFrame:
        """Return about so many rows, evenly spread over all: the same each time.

        Args:
            rows: their number.
            by_value: a column, of each value of which the sample gets a row.
        """
        chosen = np.zeros(sum(self.sizes), dtype=bool)
        chosen[:: max(1, len(chosen) // rows)] = True
        if by_value is not None:
            chosen |= ~self.read_column(by_value).duplicated().to_numpy()
        masks = np.split(chosen, np.cumsum(self.sizes)[:-1])
        return pd.concat([self.read(number)[mask] for number, mask in enumerate(masks)], ignore_index=True)
