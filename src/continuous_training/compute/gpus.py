"""Whether the libraries that a model imports can use the GPUs of its instance."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

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


LIBRARIES: dict[str, Callable[[Any], int]] = {  # how many GPUs a library can use; LightGBM does not tell
    "catboost": _catboost,
    "tensorflow": _tensorflow,
    "torch": _torch,
    "xgboost": _xgboost,
}


def count() -> int:
    """Return how many GPUs the type of this instance has."""
    return int(os.environ.get(COUNT_VARIABLE) or 0)


def check_libraries() -> None:
    """Check that, if there are GPUs, one of the libraries that this process has imported can use them.

    Raises:
        UserError: none of them can; the training would be paid for a GPU that it does not use.
    """
    if not count():
        return
    imported = {name: sys.modules[name] for name in LIBRARIES if name in sys.modules}
    usable = {name: LIBRARIES[name](module) for name, module in imported.items()}
    if usable and not any(usable.values()):
        names = " and ".join(f"{name} {getattr(imported[name], '__version__', '')}".strip() for name in usable)
        raise UserError(
            f"the instance has {count()} GPU, which {names} cannot use: install a build with CUDA for the drivers of "
            "the image, or use an instance type without a GPU"
        )
