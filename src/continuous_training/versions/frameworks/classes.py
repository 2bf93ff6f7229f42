"""A classifier's classes as a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FILE = "classes.json"


def write_classes(classes: NDArray[Any], folder: Path) -> None:
    """Write the classes."""
    content = {"classes": classes.tolist(), "dtype": str(classes.dtype)}
    (folder / FILE).write_text(json.dumps(content), encoding="utf-8")


def read_classes(folder: Path) -> NDArray[Any] | None:
    """Read the classes; None if there are none, as of a regressor."""
    if not (folder / FILE).exists():
        return None
    content = json.loads((folder / FILE).read_bytes())
    dtype = np.dtype(content["dtype"])
    return np.array(content["classes"], dtype=dtype)
