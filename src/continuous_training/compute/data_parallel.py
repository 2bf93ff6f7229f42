"""PyTorch's data-parallel training on all GPUs of a machine: torchrun starts a process for each of them.

Each process fits the same estimator on the same rows. The model's class shares the work, by DistributedDataParallel and
DistributedSampler, and PyTorch keeps the weights equal. The first process logs to MLflow and stores the model.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from continuous_training.compute import gpus
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL_RANK = "LOCAL_RANK"  # of the environment of torchrun's processes: the number of its GPU


def is_replica() -> bool:
    """Return whether torchrun has started this process."""
    return LOCAL_RANK in os.environ and "TORCHELASTIC_RUN_ID" in os.environ


def start_replicas() -> None:
    """Replace this process by torchrun with a process for each GPU, if there are several; each runs the same command.

    Raises:
        UserError: PyTorch is not installed.
    """
    if gpus.count() < 2:
        return
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise UserError("compute.data_parallel needs PyTorch, which is not installed: pip install '.[torch]'")
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus.count()}"]
    os.execv(sys.executable, [sys.executable, *torchrun, *sys.argv])  # noqa: S606 - a list, no shell


@contextmanager
def process_group() -> Iterator[int]:
    """Join the other processes, on the GPU of this one if it is usable; yield the number of this process, from 0."""
    import torch

    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(int(os.environ[LOCAL_RANK]))
    torch.distributed.init_process_group("nccl" if has_gpu else "gloo")
    try:
        yield torch.distributed.get_rank()
    finally:
        torch.distributed.destroy_process_group()
