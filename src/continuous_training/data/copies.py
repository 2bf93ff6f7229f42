"""Copies of a snapshot's rows in one file, which are never all in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


def copy_rows(sources: Sequence[Path], path: Path, chosen: NDArray[np.bool_] | None = None) -> None:
    """Write the rows of files into one, in their order.

    Args:
        sources: Parquet files with the same columns.
        path: the new file.
        chosen: which rows are copied, of shape (rows of all files,); None copies all.
    """
    schema = pa.unify_schemas([pq.read_schema(source) for source in sources], promote_options="permissive")
    start = 0
    with pq.ParquetWriter(path, schema) as writer:
        for source in sources:
            with pq.ParquetFile(source) as file:
                for number in range(file.num_row_groups):
                    rows = file.read_row_group(number)
                    part, start = slice(start, start + len(rows)), start + len(rows)
                    if chosen is not None:
                        rows = rows.filter(pa.array(chosen[part]))
                    if len(rows):
                        writer.write_table(rows.cast(schema))


def read_columns(path: Path, names: Sequence[str]) -> Any:  # noqa: ANN401 - a frame
    """Return some columns of a file, in the order of its rows."""
    return pq.read_table(path, columns=[*names]).to_pandas()
