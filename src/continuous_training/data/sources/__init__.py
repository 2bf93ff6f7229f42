"""Sources: where a model's rows come from, behind one interface.

`data.query` in training.yaml is an SQL query on the warehouse; `data.source` is files or a Python function. The
snapshot, the monitor, the watermark and the replay read all of them in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuous_training.data.sources.base import Source, read_table

if TYPE_CHECKING:
    from continuous_training.settings import Settings

__all__ = ["Source", "open_source", "read_table"]


def open_source(settings: Settings) -> Source:
    """Open the source of a model's rows.

    Raises:
        ConnectionLostError: the warehouse does not respond, or rejects the user: some drivers do not distinguish these.
        UserError: the source does not exist or cannot be opened.
    """
    data = settings.data
    if data.query is not None:
        from continuous_training.data.sources.query import open_query

        return open_query(settings, data.query)
    name = str(data.source)
    if data.source_is_function:
        from continuous_training.data.sources.function import FunctionSource

        return FunctionSource(name, data.time)
    from continuous_training.data.sources.files import FileSource

    return FileSource(name, data)
