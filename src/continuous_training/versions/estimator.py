"""The estimator of a version in memory. It is opened by what the version's signed manifest says, never by MLflow's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import skops.io

from continuous_training.errors import UserError
from continuous_training.versions import skops_archive

if TYPE_CHECKING:
    from pathlib import Path

    from continuous_training.versions.skops_archive import Trust


def open_estimator(path: Path, trust: Trust) -> Any:  # noqa: ANN401 - any estimator
    """Examine the file of an estimator and open it.

    Raises:
        UserError: it contains something that is not trusted, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            names = skops_archive.examine(file, trust)
    except OSError as error:
        raise UserError(f"its estimator cannot be read: {error}") from None
    try:
        untrusted = sorted(set(skops.io.get_untrusted_types(file=path)) - set(names))
        estimator = None if untrusted else skops.io.load(path, trusted=names)
    except Exception as error:  # whatever a reader of hostile bytes raises
        raise UserError(f"its estimator cannot be opened: {str(error) or type(error).__name__}") from error
    if untrusted:
        raise UserError(describe_untrusted(untrusted))
    return estimator


def describe_untrusted(names: list[str]) -> str:
    """Return a message about classes that are not trusted, and what to do."""
    return (
        f"its estimator contains {', '.join(names)}, not trusted: if these are classes that you trust, add them to "
        "model.trusted_types in training.yaml"
    )
