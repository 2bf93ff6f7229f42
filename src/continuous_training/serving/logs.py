"""The server's log: a JSON object on each line for programs, or plain lines for a person at a terminal."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class Structured(logging.Formatter):
    """One JSON object for each record; what a call passes as `extra` becomes fields of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record, its traceback too if it has one."""
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "pid": record.process,
            "message": record.getMessage(),
        }
        told |= {name: value for name, value in vars(record).items() if name not in STANDARD}
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str, ensure_ascii=False)


def configure(*, debug: bool) -> None:
    """Log to standard error: for a person if that is a terminal, else for programs."""
    handler = logging.StreamHandler(sys.stderr)
    if not sys.stderr.isatty():
        handler.setFormatter(Structured())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("continuous_training").setLevel(logging.DEBUG if debug else logging.INFO)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # MLflow sets its level when it is imported
