"""Functions that training.yaml names as `package.module:function`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError
from continuous_training.urls import without_password

if TYPE_CHECKING:
    from collections.abc import Callable

PATTERN = r"[\w.]+:\w+"


def import_function(reference: str, key: str) -> Callable[..., Any]:
    """Import a function.

    Args:
        reference: `package.module:function`.
        key: the key of training.yaml that names it, for messages.

    Raises:
        UserError: there is no such function, or its module cannot be imported.
    """
    module, _, attribute = reference.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except AttributeError:
        raise UserError(f"{key}: the module {module} has no function {attribute}") from None
    except Exception as error:  # whatever the import of the team's module raises
        raise UserError(f"{key}: the module {module} cannot be imported: {describe(error)}") from error
    if not callable(function):
        raise UserError(f"{key}: {reference} is a {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]


def describe(error: Exception) -> str:
    """Return what a team's code raised as one line."""
    first = next(iter(str(error).strip().splitlines()), "")
    return without_password(f"{type(error).__name__}: {first}".removesuffix(": "))
