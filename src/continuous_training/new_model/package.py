"""The files of a new model: its package and its tests, written as a whole or not at all."""

from __future__ import annotations

import json
import math
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from continuous_training.data.duckdb_connection import quote
from continuous_training.model_packages import SETTINGS_FILE, SOURCES
from continuous_training.new_model.frameworks import FRAMEWORKS
from continuous_training.new_model.origin import is_simple
from continuous_training.new_model.periods import round_down
from continuous_training.new_model.work_folder import work_folder
from continuous_training.settings import TESTS, parse_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from continuous_training.new_model.origin import Origin
    from continuous_training.new_model.periods import Periods
    from continuous_training.new_model.profile import ColumnProfile
    from continuous_training.new_model.roles import Roles
    from continuous_training.settings import Settings

TYPES = {
    "boolean": "boolean",
    "integer": "number",
    "number": "number",
    "text": "category",
    "date": "timestamp",
    "timestamp": "timestamp",
}
MARGIN = 0.5  # of the range of a column's values, by which its limits are wider


class Metrics(NamedTuple):
    """How a task's models are compared."""

    metric: str
    comment: str
    report: tuple[str, ...]


METRICS = {
    "binary": Metrics(
        "roc_auc", "a scorer of scikit-learn, where more is better", ("average_precision", "neg_log_loss")
    ),
    "multi-class": Metrics("neg_log_loss", "a scorer of scikit-learn, where more is better", ("balanced_accuracy",)),
    "regression": Metrics(
        "neg_mean_absolute_error", "a scorer of scikit-learn: the error with a minus, so that more is better", ("r2",)
    ),
}


class Draft(NamedTuple):
    """All that is decided about a new model."""

    name: str
    origin: Origin
    columns: dict[str, ColumnProfile]
    roles: Roles
    periods: Periods
    framework: str
    first: float = 0.0  # what the first model must reach
    first_comment: str = "better than nothing"
    drops_null_targets: bool = False

    @property
    def metrics(self) -> Metrics:
        """How the model is compared."""
        kind = (
            "regression"
            if self.roles.task == "regression"
            else "binary"
            if len(self.roles.classes) == 2
            else "multi-class"
        )
        return METRICS[kind]


def render(draft: Draft) -> dict[Path, str]:
    """Return the files of a model by their paths in the repository."""
    loader = FileSystemLoader(Path(__file__).with_name("templates"))
    environment = Environment(  # noqa: S701 - Python and YAML
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    framework, context = FRAMEWORKS[draft.framework], _context(draft)
    source, tests = SOURCES / draft.name, TESTS / draft.name
    templates = {
        source / "__init__.py": "__init__.py.j2",
        source / "model.py": framework.template,
        source / SETTINGS_FILE: "training.yaml.j2",
        tests / "conftest.py": "conftest.py.j2",
        tests / "test_behaviour.py": "test_behaviour.py.j2",
        tests / "test_model.py": "test_model.py.j2",
    }
    return {path: environment.get_template(template).render(context) for path, template in templates.items()}


def settings_of(draft: Draft) -> Settings:
    """Return the settings that the model's training.yaml has."""
    path = SOURCES / draft.name / SETTINGS_FILE
    return parse_settings(render(draft)[path], path)


@contextmanager
def write_temporarily(files: dict[Path, str]) -> Iterator[Path]:
    """Write files below a temporary folder of the repository, which is removed at the end."""
    with work_folder() as folder:
        for path, text in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        yield folder


def publish(folder: Path, name: str) -> list[Path]:
    """Move a model's folders from a temporary folder to their places; if one cannot be moved, none is."""
    places: list[Path] = []
    try:
        for place in (TESTS / name, SOURCES / name):  # the package last: a model is what has a training.yaml there
            (folder / place).rename(place)
            places.append(place)
    except OSError:
        for place in places:
            shutil.rmtree(place)
        raise
    return places


def _context(draft: Draft) -> dict[str, Any]:
    roles, periods, framework = draft.roles, draft.periods, FRAMEWORKS[draft.framework]
    classification = roles.task == "classification"
    read = {name: column for name, column in draft.columns.items() if column.kind != "other" and column.values}
    nullable = [name for name in roles.features if draft.columns[name].null_share > 0]
    return {
        "name": draft.name,
        "title": draft.origin.title,
        "rows": next(iter(draft.columns.values())).rows,
        "periods": periods,
        "warehouse": draft.origin.settings.get("warehouse"),
        "source": _in_flow(draft.origin.settings["source"]) if "source" in draft.origin.settings else None,
        "query": _query(draft, list(read)),
        "time": _in_flow(roles.time),
        "target_name": _in_flow(roles.target),
        "drops_null_targets": draft.drops_null_targets,
        "key": f"[{', '.join(map(_in_flow, roles.key))}]",
        "columns": [_column_line(column, roles) for column in read.values()],
        "left_out": {_in_flow(name): roles.unused.get(name, "") for name in draft.columns if name not in read},
        "min_train_rows": round_down(periods.train_rows / 2),
        "min_fresh_rows": round_down(periods.fresh_rows / 2),
        "min_new_rows": round_down(7 * periods.rows_per_day),
        "window_days": 7,
        "min_window_rows": min(500, max(30, round_down(3.5 * periods.rows_per_day))),
        "task": roles.task,
        "parameters": framework.parameters,
        "metric": draft.metrics.metric,
        "metric_comment": draft.metrics.comment,
        "report": draft.metrics.report,
        "first": f"{draft.first:g}",
        "first_comment": draft.first_comment,
        "library": framework.library,
        "estimator": framework.classifier if classification else framework.regressor,
        "dummy": "DummyClassifier" if classification else "DummyRegressor",
        "loss": "log_loss" if classification else "mean_squared_error",
        "target": json.dumps(roles.target),
        "class_count": len(roles.classes),
        "feature_count": len(roles.features),
        "categories": [json.dumps(name) for name in roles.features if draft.columns[name].kind == "text"],
        "nullable": [json.dumps(name) for name in nullable],
    }


def _query(draft: Draft, names: list[str]) -> str:
    """Return the query of training.yaml; a column of dates is read as moments."""
    relation, roles = draft.origin.relation, draft.roles
    if relation is None or draft.origin.is_query_bound:
        return relation or ""
    columns = [
        f"CAST({_sql(name)} AS TIMESTAMP) AS {_sql(name)}" if draft.columns[name].kind == "date" else _sql(name)
        for name in names
    ]
    lines = [
        "SELECT",
        ",\n".join(f"  {column}" for column in columns),
        f"FROM {relation}",
        f"WHERE {_sql(roles.time)} >= $since AND {_sql(roles.time)} < $until",
    ]
    return "\n".join(lines)


def _sql(name: str) -> str:
    return name if is_simple(name) else quote(name)


def _column_line(column: ColumnProfile, roles: Roles) -> str:
    """Return the line of training.yaml that declares a column, its limits wider than its values."""
    settings: dict[str, Any] = {"type": TYPES[column.kind]}
    is_feature = column.name in roles.features
    comment = roles.unused.get(column.name, "")
    if column.kind == "integer" and (column.name in roles.key or (column.name == roles.target and roles.classes)):
        settings["type"] = "integer"
    if not is_feature:
        settings["feature"] = False
    if column.name == roles.target and roles.classes and column.kind != "boolean":
        settings["values"] = list(roles.classes)
        comment = f"{_in_flow(roles.classes[1])} is the positive class" if len(roles.classes) == 2 else ""
    elif column.null_share and column.name not in {roles.time, roles.target, *roles.key}:
        settings["max_null_share"] = min(1.0, math.ceil(100 * (1.5 * column.null_share + 0.05)) / 100)
    if is_feature and settings["type"] == "number":
        settings["min"], settings["max"] = _limits(float(column.min), float(column.max))
    if is_feature and column.kind == "text":
        comment = f"about {column.distinct:,} categories"
    line = f"{_in_flow(column.name)}: {{{', '.join(f'{key}: {_in_flow(value)}' for key, value in settings.items())}}}"
    return f"{line} # {comment}" if comment else line


def _limits(low: float, high: float) -> tuple[float, float]:
    """Return limits with a margin, of two significant digits; 0 and 1 are kept as natural limits."""
    margin = MARGIN * (high - low)
    lower = 0.0 if low >= 0 else _round_out(low - margin, math.floor)
    upper = 1.0 if lower == 0 and high <= 1 else _round_out(high + margin, math.ceil)
    return lower, upper


def _round_out(value: float, rounding: Any) -> float:  # noqa: ANN401 - math.floor or math.ceil
    if not value or not math.isfinite(value):
        return value
    scale = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return float(f"{rounding(value / scale) * scale:.12g}")


def _in_flow(value: Any) -> str:  # noqa: ANN401 - a scalar or a list of them
    """Write a value as YAML inside braces or brackets."""
    if isinstance(value, list):
        return f"[{', '.join(map(_in_flow, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if not isinstance(value, str):
        return str(value)
    plain = re.fullmatch(r"[\w./-][\w ./*-]*", value) and value == value.strip() and yaml.safe_load(value) == value
    return value if plain else json.dumps(value, ensure_ascii=False)
