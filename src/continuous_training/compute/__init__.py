"""Where the training entry point runs. Each module offers `train`, with the same arguments and the same result.

`local` runs it on this machine, `ec2.training` on EC2 instances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from continuous_training.formatting import format_parameters

PEAK_MEMORY = "peak_memory_mb"  # a metric: the memory that the fit needed, by which people choose a machine


@dataclass(frozen=True)
class Trial:
    """One model to fit: the MLflow run that it logs to, and the parameters that distinguish it in a grid."""

    run_id: str
    parameters: dict[str, Any]

    def __str__(self) -> str:
        """Return the parameters as text, such as 'C=0.1 max_iter=200'."""
        return format_parameters(self.parameters)
