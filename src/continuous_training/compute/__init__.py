"""Where the training entry point runs: each module offers `train`, with the same arguments and the same result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

VALIDATION = "validation_"  # before a metric's name: the score by which the best of a grid is chosen


@dataclass(frozen=True)
class Trial:
    """One model to be fitted: the MLflow run that it fills, and the parameters in which it differs."""

    run_id: str
    parameters: dict[str, Any]

    def __str__(self) -> str:
        """Tell it from the others of its grid."""
        told = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in self.parameters.items())
        return " ".join(told) or "the parameters of training.yaml"
