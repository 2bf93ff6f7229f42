"""The watermark: the row counts of a version's snapshot, stored in its MLflow run when it is trained."""

from __future__ import annotations

import hashlib
import tempfile
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import ibis
from pydantic import AliasChoices, Field, ValidationError

from continuous_training.documents import Value, first_error
from continuous_training.errors import UserError
from continuous_training.monitoring.new_data.row_counts import DayCount, count_rows
from continuous_training.registry import connection

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.documents import Snapshot
    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Data

FILE = "watermark.json"


class Watermark(Value):
    """The rows of a snapshot by day; `query_hash` identifies the query and the columns that they were counted with."""

    query_hash: str = Field(validation_alias=AliasChoices("query_hash", "by"))
    since: datetime
    until: datetime
    newest: datetime
    days: dict[date, DayCount]

    @property
    def rows(self) -> int:
        """The number of all rows."""
        return sum(day.rows for day in self.days.values())


def compute_watermark(snapshot: Snapshot, data: Data) -> Watermark:
    """Count the rows of a snapshot: the training rows and the fresh rows."""
    database = ibis.duckdb.connect()
    try:
        rows = database.read_parquet([snapshot.train.path, snapshot.fresh.path])
        counts = count_rows(rows, data, snapshot.until)
    finally:
        database.disconnect()
    return Watermark(
        query_hash=hash_query(data),
        since=snapshot.since,
        until=snapshot.until,
        newest=snapshot.newest,
        days=counts.before,
    )


def hash_query(data: Data) -> str:
    """Return the hash of the query, of the columns' names and types, and of the targets whose nulls are left out."""
    columns = [(name, column.type) for name, column in data.columns.items()]
    dropped = data.targets if data.null_target == "drop" else ()
    return hashlib.sha256(repr((data.query or data.source, data.time, columns, *dropped)).encode()).hexdigest()


def save_watermark(client: MlflowClient, run_id: str, watermark: Watermark) -> None:
    """Log the watermark to a candidate's MLflow run."""
    client.log_text(run_id, watermark.model_dump_json(), FILE)


def load_watermark(client: MlflowClient, version: Version) -> Watermark | None:
    """Return the watermark of a version, or None if it has none.

    Raises:
        UserError: it exists and cannot be read.
    """
    run = f"MLflow run {version.run_id}"
    files = connection.none_if_missing(lambda: client.list_artifacts(version.run_id), run) or []
    if FILE not in {file.path for file in files}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            text = Path(client.download_artifacts(version.run_id, FILE, folder)).read_bytes()
            return Watermark.model_validate_json(text)
        except ValidationError as error:
            raise UserError(
                f"the watermark of version {version.number} has an unsupported format: {first_error(error)}"
            ) from error
        except Exception as error:
            raise UserError(f"the watermark of version {version.number} cannot be read: {error}") from error
