"""The predictions log as the monitor reads it: what the champion was asked in the last days, counted by DuckDB.

Files that are at their address, and the journals on this machine that are not moved yet, are one table. Its clock is
that of the servers: a window ends now, whatever AS_OF says of the warehouse.
"""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow.parquet as pq

from continuous_training.data import sources
from continuous_training.errors import UserError
from continuous_training.monitoring import asked
from continuous_training.monitoring.asked import PREDICTION, Asked
from continuous_training.monitoring.finding import Finding
from continuous_training.monitoring.profile import plain, quoted
from continuous_training.serving.predictions_log import storage
from continuous_training.serving.predictions_log.journal import read_pending_journals
from continuous_training.serving.rollout.client import OWN_REQUEST_PREFIX
from continuous_training.settings import STATE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from continuous_training.monitoring.live import Window
    from continuous_training.monitoring.reference import Learnt
    from continuous_training.settings import Column, Settings

log = logging.getLogger(__name__)

ADDRESS = "CT_PREDICTIONS"
AHEAD = timedelta(minutes=5)  # that a server's clock may be before this one's
ASKED = "log.role = 'champion' AND log.model_version = $version"
ORDER = "hash(log.request_id, log.row)"
BETWEEN = "log.time >= $since AND log.time < $until"


class Log:
    """All that clients have asked of a model from some day on, as a view of one DuckDB connection."""

    def __init__(self, backend: Any, files: list[str]) -> None:  # noqa: ANN401 - Ibis' backends are made at run time
        self.backend = backend
        self.connection: duckdb.DuckDBPyConnection = backend.con
        self.files = files
        self.fields: dict[str, set[str]] = {"inputs": set(), "keys": set()}
        if not files:
            return
        named = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
        with _said():
            self.connection.execute(
                f"CREATE TEMP VIEW log AS SELECT * FROM read_parquet([{named}], union_by_name=true)"  # noqa: S608
                f" WHERE NOT starts_with(request_id, '{OWN_REQUEST_PREFIX}')"
            )
            for name, kind, *_ in self.connection.execute("DESCRIBE log").fetchall():
                if name in self.fields and kind.startswith("STRUCT"):
                    found = self.connection.execute(f"SELECT unnest({name}) FROM log LIMIT 0").description or []  # noqa: S608
                    self.fields[name] = {one[0] for one in found}

    def rows(self, what: str, **bound: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
        """Ask the connection."""
        with _said():
            return self.connection.execute(what, bound).fetchall()

    def asked(self, settings: Settings, version: str, learnt: Learnt, now: datetime) -> Asked | None:
        """Return what a version was asked as champion in the window that ends now; None if the log is empty.

        Raises:
            UserError: a file cannot be read.
        """
        since = now - timedelta(days=settings.monitor.window_days)
        if not self.files:
            return None
        window: dict[str, Any] = {"version": version, "since": since, "until": now + AHEAD}
        findings = [*self._others(window), *self._ahead(now)]
        columns = {
            name: settings.data.columns[name] for name in settings.data.features if name in self.fields["inputs"]
        }
        redacted = [name for name in settings.data.features if name in settings.serving.redacted]
        if redacted:
            message = f"{', '.join(redacted)} cannot be examined: serving.redacted keeps it from the log"
            findings.append(Finding(kind="note", message=message))
        values = {name: plain(f"inputs.{quoted(name)}", column) for name, column in columns.items()}
        chosen = [f"{value} AS {quoted(name)}" for name, value in values.items()]
        chosen += [f"{_answer(learnt)} AS {quoted(PREDICTION)}", f"{ORDER} AS {quoted(asked.ORDER)}"]
        where = f"{ASKED} AND {BETWEEN}"
        for name, value in window.items():  # a view takes no parameters
            where = where.replace(f"${name}", _literal(value))
        unread = {
            name: f"count(*) FILTER (inputs.{quoted(name)} IS NOT NULL AND {value} IS NULL)"
            for name, value in values.items()
        }
        [[rows, *unreadable]] = self.rows(f"SELECT {', '.join(['count(*)', *unread.values()])} FROM log WHERE {where}")  # noqa: S608
        table = self.backend.sql(f"SELECT {', '.join(chosen)} FROM log WHERE {where}", dialect="duckdb")  # noqa: S608
        return Asked(
            since=since,
            until=now,
            table=table,
            rows=rows,
            findings=findings,
            unreadable=dict(zip(unread, unreadable, strict=True)),
            absent=[name for name in settings.data.features if name not in columns and name not in redacted],
        )

    def labelled(
        self, settings: Settings, windows: Sequence[Window], version: str, as_of: datetime, now: datetime
    ) -> list[pd.DataFrame]:
        """Return what the version answered about rows of windows whose labels are surely known, each row once.

        Of each window so many rows are drawn as are looked at closely, with the columns `answers`, the target and the
        time. What was answered about a row last is what counts.

        Raises:
            UserError: the warehouse or the query fails, or a file cannot be read.
        """
        data, source, found = settings.data, sources.open_source(settings), []
        names = list(dict.fromkeys([*data.key, data.target, data.time]))
        keys = {name: "keys" if name in self.fields["keys"] else "inputs" for name in data.key}
        sides = [(f"log.{where}.{quoted(name)}", f"labels.{quoted(name)}", name) for name, where in keys.items()]
        alike = " AND ".join(
            f"{_key(sent, data.columns[name])} = {_key(known, data.columns[name])}" for sent, known, name in sides
        )
        once = ", ".join(f"labels.{quoted(name)}" for name in data.key)
        bound = {"version": version, "since": now - (as_of - windows[0][0]), "until": now + AHEAD}
        for since, until in windows:
            truth = source.table(since, until)
            reader = sources.read_table(truth[[name for name in names if name in truth.columns]])
            self.connection.register("arriving", reader)
            with _said():
                self.connection.execute("CREATE OR REPLACE TEMP TABLE labels AS SELECT * FROM arriving")
                self.connection.unregister("arriving")
                answered = self.connection.execute(
                    f"""
                    SELECT log.answers, labels.{quoted(data.target)}, labels.{quoted(data.time)}
                    FROM log JOIN labels ON {alike}
                    WHERE {ASKED} AND {BETWEEN} AND labels.{quoted(data.target)} IS NOT NULL
                    QUALIFY row_number() OVER (PARTITION BY {once} ORDER BY log.time DESC, log.request_id, log.row) = 1
                    ORDER BY {ORDER}
                    LIMIT {settings.monitor.sample_rows}
                    """,  # noqa: S608
                    bound,
                )
                found.append(answered.df())
        return found

    def has_keys(self, settings: Settings) -> bool:
        """Say whether clients send what a row is found by in the warehouse."""
        sent = self.fields["keys"] | self.fields["inputs"]
        return bool(self.files) and set(settings.data.key) <= sent

    def _others(self, window: dict[str, Any]) -> Iterator[Finding]:
        """Say what is left out because others answered it, or the version in another role."""
        others = f"FROM log WHERE {BETWEEN} AND NOT ({ASKED}) GROUP BY ALL ORDER BY ALL"
        counted = self.rows(f"SELECT model_version, role, count(*) {others}", **window)
        if counted:
            told = ", ".join(f"{rows:,} of version {version} as {role}" for version, role, rows in counted)
            yield Finding(kind="note", message=f"left out of the window: {told}")

    def _ahead(self, now: datetime) -> Iterator[Finding]:
        """Say what is left out because it was answered in the future."""
        [[rows, newest]] = self.rows("SELECT count(*), max(time) FROM log WHERE time >= $until", until=now + AHEAD)
        if rows:
            message = f"{rows:,} rows were answered in the future, up to {newest:%Y-%m-%d %H:%M} UTC: is a clock wrong?"
            yield Finding(kind="odd", message=f"{message} They are left out")


@contextmanager
def opened(model: str, since: datetime) -> Iterator[Log]:
    """Open the log of a model from a day on; what it needs of another place is fetched first.

    Raises:
        UserError: the address names no place, it cannot be read, or nothing is logged.
    """
    import ibis  # a second

    address = os.environ.get(ADDRESS) or str(STATE / "predictions")
    if address == "none":
        raise UserError(f"{ADDRESS}=none keeps no predictions log: use --source warehouse")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        files = []
        for name, table in read_pending_journals(STATE / "serving" / "journal" / model).items():
            path = folder / "journals" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path)
            files.append(path)
        waiting = {str(path.relative_to(folder / "journals")) for path in files}
        day = f"date={since.astimezone(UTC):%Y-%m-%d}"
        here = _fetched(address, model, day, folder / "fetched")
        files += [path for path in here if f"{path.parent.name}/{path.name}" not in waiting]
        backend = ibis.duckdb.connect()
        backend.raw_sql("SET TimeZone = 'UTC'")
        try:
            yield Log(backend, [str(path) for path in files])
        finally:
            backend.disconnect()


def _fetched(address: str, model: str, since: str, folder: Path) -> list[Path]:
    """Return the files of a model from a day on; those of a bucket are fetched to a folder.

    Raises:
        UserError: the place cannot be read.
    """
    try:
        place = storage.open_storage(address)
        if isinstance(place, storage.FolderStorage):
            days = [day for day in Path(address, model).glob("date=*") if day.name >= since]
            return sorted(path for day in days for path in day.glob("*.parquet"))
        return place.download(f"{model}/", lambda name: name.partition("/")[0] >= since, folder)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the predictions log at {address} cannot be read: {str(error).splitlines()[0]}") from error


@contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise UserError(f"the predictions log cannot be read: {str(error).strip().splitlines()[0]}") from error


def _answer(learnt: Learnt) -> str:
    """Write an answer as it is looked at."""
    if learnt.predicts == "number":
        return "list_extract(answers, 1)"
    if learnt.predicts == "probability":
        return "list_extract(answers, 2)"
    names = ", ".join(_literal(str(name)) for name in learnt.classes or [])
    return f"list_extract([{names}], list_position(answers, list_max(answers)))"


def _key(value: str, column: Column) -> str:
    """Write a part of a key so that both sides of a join have it alike; whole numbers may be large."""
    return f"TRY_CAST({value} AS BIGINT)" if column.type == "integer" else plain(value, column)


def _literal(value: str | datetime) -> str:
    if isinstance(value, datetime):
        return f"TIMESTAMPTZ '{value.astimezone(UTC).isoformat()}'"
    return "'" + value.replace("'", "''") + "'"
