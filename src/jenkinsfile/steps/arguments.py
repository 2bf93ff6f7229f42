"""The evaluated arguments of a step, converted to the types that the step expects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jenkinsfile.builds.results import Result, StepError
from jenkinsfile.expressions.values import Value, to_string, type_name

if TYPE_CHECKING:
    from pathlib import Path

    from jenkinsfile.builds.context import Context

SECONDS_PER_UNIT = {
    "NANOSECONDS": 1e-9,
    "MICROSECONDS": 1e-6,
    "MILLISECONDS": 1e-3,
    "SECONDS": 1,
    "MINUTES": 60,
    "HOURS": 3600,
    "DAYS": 86400,
}


class StepArguments:
    """Evaluated arguments by name. Every method raises StepError if a value is missing or has a wrong type."""

    def __init__(self, step: str, values: dict[str, Value]) -> None:
        self.step = step
        self.values = values

    def text(self, name: str, default: str | None = None) -> str:
        """Return a string. Numbers and booleans are converted."""
        value = self._value(name, default)
        if value is None or isinstance(value, (list, dict)):
            raise self._type_error(name, "a string", value)
        return to_string(value)

    def boolean(self, name: str, *, default: bool = False) -> bool:
        """Return a boolean. The string `true` in any case is true."""
        value = self._value(name, default)
        if isinstance(value, str):
            return value.strip().lower() == "true"
        if not isinstance(value, bool):
            raise self._type_error(name, "a boolean", value)
        return value

    def number(self, name: str, default: int | None = None) -> float:
        """Return a number."""
        value = self._value(name, default)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise self._type_error(name, "a number", value) from None

    def result(self, name: str, default: Result) -> Result:
        """Return a result by its name. Null is SUCCESS."""
        value = self._value(name, default.name)
        try:
            return Result[value or "SUCCESS"]
        except (KeyError, TypeError):
            raise self._type_error(name, f"one of {', '.join(Result.__members__)}", value) from None

    def items(self, name: str) -> list[Any]:
        """Return a list."""
        value = self._value(name, None)
        if not isinstance(value, list):
            raise self._type_error(name, "a list", value)
        return value

    def seconds(self, name: str = "time", default_unit: str = "MINUTES") -> float:
        """Return a duration in seconds, from a number and the argument `unit`."""
        unit = self.text("unit", default_unit)
        if unit not in SECONDS_PER_UNIT:
            raise self._type_error("unit", f"one of {', '.join(SECONDS_PER_UNIT)}", unit)
        return self.number(name) * SECONDS_PER_UNIT[unit]

    def path(self, name: str, context: Context) -> Path:
        """Return a path. A relative one starts at the directory in which the step runs."""
        return context.directory / self.text(name)

    def _value(self, name: str, default: Value) -> Value:
        value = self.values.get(name, default)
        if name not in self.values and default is None:
            raise StepError(f"'{self.step}' needs the argument '{name}'")
        return value

    def _type_error(self, name: str, expected: str, value: Value) -> StepError:
        return StepError(f"the argument '{name}' of '{self.step}' must be {expected}, not {type_name(value)}")
