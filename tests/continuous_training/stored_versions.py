"""Versions of the registry, opened in this process: tests compare their predictions with those of a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from continuous_training.settings import load_settings
from continuous_training.versions import opening
from continuous_training.versions.estimator import open_estimator
from continuous_training.versions.examination import Policy
from continuous_training.versions.golden_predictions import FILE
from continuous_training.versions.skops_archive import Trust
from hostile import sign_again


def load_estimator(uri: str, model: str = "toy") -> Any:
    """Return the estimator of a version."""
    with opening.examined_version(uri, Policy(model, load_settings(model).model), None) as (folder, manifest):
        return open_estimator(folder, manifest.framework, Trust(manifest.model, manifest.trusted_types))


def read_golden_predictions(uri: str, model: str = "toy") -> tuple[dict[str, Any], np.ndarray]:
    """Return the golden rows of a version, and their predictions."""
    return opening.read_golden_predictions(uri, Policy(model, load_settings(model).model), None)


def change_golden_prediction(model_uri: str) -> None:
    """Change a golden prediction of a stored model and sign it, as if its code or packages had changed."""
    (path,) = Path(".ct/artifacts").rglob(f"{model_uri.removeprefix('models:/')}/artifacts/{FILE}")
    document = json.loads(path.read_text())
    document["predictions"][0][0] += 0.001
    path.write_text(json.dumps(document))
    sign_again(path.parent)
