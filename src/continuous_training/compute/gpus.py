"""Whether the libraries that a model imports can use the GPUs of its instance."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError
from continuous_training.extras import imported_modules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNT_VARIABLE = "CT_GPUS"  # of the environment: how many GPUs the instance's type has; none on other machines


def _torch(torch: Any) -> int:  # noqa: ANN401 - a library that may not be installed
    return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0


def _tensorflow(tensorflow: Any) -> int:  # noqa: ANN401
    return len(tensorflow.config.list_physical_devices("GPU"))


def _xgboost(xgboost: Any) -> int:  # noqa: ANN401
    return count() if xgboost.build_info()["USE_CUDA"] else 0


def _catboost(_: Any) -> int:  # noqa: ANN401
    from catboost.utils import get_gpu_device_count

    return int(get_gpu_device_count())


def _keras(keras: Any) -> int:  # noqa: ANN401
    backend = str(keras.backend.backend())
    return LIBRARIES[backend](importlib.import_module(backend)) if backend in LIBRARIES else count()


LIBRARIES: dict[str, Callable[[Any], int]] = {  # how many GPUs a library can use; LightGBM and JAX are not asked
    "catboost": _catboost,
    "keras": _keras,
    "tensorflow": _tensorflow,
    "torch": _torch,
    "xgboost": _xgboost,
}


def count() -> int:
    """Return how many GPUs the type of this instance has."""
    return int(os.environ.get(COUNT_VARIABLE) or 0)


def check_libraries(package: Path) -> None:
    """Check that, if there are GPUs, one of the libraries that a model's package imports can use them.

    Raises:
        UserError: none of them can; the training would be paid for a GPU that it does not use.
    """
    if not count():
        return
    imported = {name: importlib.import_module(name) for name in sorted(imported_modules(package) & LIBRARIES.keys())}
    if imported and not any(LIBRARIES[name](module) for name, module in imported.items()):
        names = " and ".join(
            f"{name} {getattr(module, '__version__', '')}".strip() for name, module in imported.items()
        )
        gpus = "1 GPU" if count() == 1 else f"{count()} GPUs"
        raise UserError(
            f"the instance has {gpus}, which {names} cannot use: install a build with CUDA for the drivers of the "
            "image, or use an instance type without a GPU"
        )
