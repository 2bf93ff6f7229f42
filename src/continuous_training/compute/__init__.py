"""Where the training entry point runs: each module offers `train`, with the same arguments and the same result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trial:
    """One model to be fitted: the MLflow run that it fills, and the parameters in which it differs."""

    run_id: str
    parameters: dict[str, Any]
