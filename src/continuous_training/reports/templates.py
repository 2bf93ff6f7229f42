"""The templates of pages: values are escaped, and an undefined variable is an error."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@cache
def template(path: Path, *filters: tuple[str, Callable[..., Any]]) -> Template:
    """Read a template that may use these filters, by their names."""
    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(path.name)
