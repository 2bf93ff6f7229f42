"""What all sections of training.yaml have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, get_args

from pydantic import AliasChoices, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from continuous_training.documents import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

Mistake = tuple[str, str]  # the path of a key inside its section, as in data.columns, and what is wrong with it


class Section(Value):
    """A section of training.yaml.

    The text below each attribute is its description in the reference and in the JSON schema: its meaning, its unit and
    its effect.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    def find_mistakes(self) -> Iterator[Mistake]:
        """Yield the values that do not fit each other; each of them by itself is valid."""
        yield from ()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        mistakes = [
            InitErrorDetails(
                type=PydanticCustomError("inconsistent", "{message}", {"message": message}),
                loc=tuple(path.split(".")) if path else (),
                input=None,
            )
            for path, message in self.find_mistakes()
        ]
        if mistakes:
            raise ValidationError.from_exception_data(type(self).__name__, mistakes)
        return self


def keys(section: type[Section]) -> dict[str, FieldInfo]:
    """Return a section's fields by their keys in the file; of a key with several names the first one."""
    return {_key(name, field): field for name, field in section.model_fields.items()}


def section_of(annotation: Any) -> type[Section] | None:  # noqa: ANN401 - a type of any form
    """Return the section that a field's type is, may be, or has as values; None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((section for part in get_args(annotation) if (section := section_of(part))), None)


def _key(name: str, field: FieldInfo) -> str:
    return str(field.validation_alias.choices[0]) if isinstance(field.validation_alias, AliasChoices) else name
