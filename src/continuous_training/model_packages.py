"""The models of a checkout: the packages under src/ that have a training.yaml."""

from __future__ import annotations

import os
from pathlib import Path

from continuous_training.errors import UsageError

SOURCES = Path("src")
SETTINGS_FILE = "training.yaml"


def list_models() -> list[str]:
    """Return the names of all models, sorted."""
    return sorted(path.parent.name for path in SOURCES.glob(f"*/{SETTINGS_FILE}"))


def default_model() -> str:
    """Return the model that MODEL names, or the only one that there is.

    Raises:
        UsageError: MODEL is not set, and there is no model or more than one.
    """
    if model := os.environ.get("MODEL"):
        return model
    models = list_models()
    if len(models) == 1:
        return models[0]
    if not models:
        raise UsageError(
            f"there is no model: no package under {SOURCES}/ has a {SETTINGS_FILE}; see scripts/ct new --help"
        )
    raise UsageError(f"there are {len(models)} models, so MODEL must be set to one of them: {', '.join(models)}")
