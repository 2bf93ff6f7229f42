"""The arguments that a step was given, by name, as the kind of value that the step wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jenkinsfile.builds.results import Result, StepError
from jenkinsfile.expressions.values import Value, kind, text

if TYPE_CHECKING:
    from pathlib import Path

    from jenkinsfile.builds.context import Context

UNITS = {
    "NANOSECONDS": 1e-9,
    "MICROSECONDS": 1e-6,
    "MILLISECONDS": 1e-3,
    "SECONDS": 1,
    "MINUTES": 60,
    "HOURS": 3600,
    "DAYS": 86400,
}


class Given:
    """Evaluated arguments. Every method raises StepError if the value is missing or of another kind."""

    def __init__(self, step: str, values: dict[str, Value]) -> None:
        self.step = step
        self.values = values

    def text(self, name: str, default: str | None = None) -> str:
        """Give a string; numbers and booleans become one."""
        value = self._value(name, default)
        if value is None or isinstance(value, (list, dict)):
            raise self._wrong(name, "a string", value)
        return text(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Give a boolean."""
        value = self._value(name, default)
        if isinstance(value, str):
            return value.strip().lower() == "true"
        if not isinstance(value, bool):
            raise self._wrong(name, "a boolean", value)
        return value

    def number(self, name: str, default: int | None = None) -> float:
        """Give a number."""
        value = self._value(name, default)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise self._wrong(name, "a number", value) from None

    def result(self, name: str, default: Result) -> Result:
        """Give a result by its name; null is SUCCESS."""
        value = self._value(name, default.name)
        try:
            return Result[value or "SUCCESS"]
        except (KeyError, TypeError):
            raise self._wrong(name, f"one of {', '.join(Result.__members__)}", value) from None

    def items(self, name: str) -> list[Any]:
        """Give a list."""
        value = self._value(name, None)
        if not isinstance(value, list):
            raise self._wrong(name, "a list", value)
        return value

    def seconds(self, name: str = "time", unit: str = "MINUTES") -> float:
        """Give a duration with its `unit`."""
        called = self.text("unit", unit)
        if called not in UNITS:
            raise self._wrong("unit", f"one of {', '.join(UNITS)}", called)
        return self.number(name) * UNITS[called]

    def path(self, name: str, context: Context) -> Path:
        """Give a path, relative ones from where the step runs."""
        return context.directory / self.text(name)

    def _value(self, name: str, default: Value) -> Value:
        value = self.values.get(name, default)
        if name not in self.values and default is None:
            raise StepError(f"«{self.step}» needs its argument «{name}»")
        return value

    def _wrong(self, name: str, wanted: str, value: Value) -> StepError:
        return StepError(f"«{self.step}» takes {wanted} as «{name}», not {kind(value)}")
