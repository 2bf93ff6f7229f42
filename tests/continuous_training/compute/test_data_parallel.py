"""PyTorch's data-parallel training, with a process for each GPU; here on processors, with Gloo in place of NCCL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, TIMEOUT
from continuous_training.errors import UserError
from continuous_training.registry import runs
from continuous_training.settings import load_settings
from pipeline import Pipeline
from toy import change

NETWORK = """
import json
from pathlib import Path

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


class Network:
    def fit(self, rows, labels):
        self.classes_ = np.unique(labels)
        inputs = torch.tensor(rows[["x"]].to_numpy("float32"))
        dataset = TensorDataset(inputs, torch.tensor(labels.to_numpy() == self.classes_[1]).float())
        torch.manual_seed(0)
        self.module = module = torch.nn.Linear(1, 1)
        sampler = None
        if torch.distributed.is_initialized():
            module, sampler = DistributedDataParallel(module), DistributedSampler(dataset)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
        seen = 0
        for batch, targets in DataLoader(dataset, batch_size=100, sampler=sampler):
            torch.nn.functional.binary_cross_entropy_with_logits(module(batch)[:, 0], targets).backward()
            optimizer.step()
            optimizer.zero_grad()
            seen += len(batch)
        weight = float(self.module.weight)
        Path(f"rank-{torch.distributed.get_rank()}.json").write_text(json.dumps([seen, len(dataset), weight]))
        return self

    def predict_proba(self, rows):
        with torch.inference_mode():
            positive = torch.sigmoid(self.module(torch.tensor(rows[["x"]].to_numpy("float32")))[:, 0]).numpy()
        return np.column_stack([1 - positive, positive])

    def save(self, folder):
        values = [float(self.module.weight), float(self.module.bias)]
        (folder / "network.json").write_text(json.dumps([self.classes_.tolist(), values]))

    @classmethod
    def load(cls, folder):
        classes, (weight, bias) = json.loads((folder / "network.json").read_text())
        network = cls()
        network.classes_, network.module = np.array(classes), torch.nn.Linear(1, 1)
        with torch.no_grad():
            network.module.weight.fill_(weight)
            network.module.bias.fill_(bias)
        return network


def build(categories, numbers, **parameters):
    return Network()
"""


@pytest.mark.integration(seconds=20)
def test_two_processes_share_the_rows_and_one_of_them_stores_the_model(
    mlflow_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="torch is not installed: scripts/ct test installs it")
    Path("src/toy/model.py").write_text(NETWORK)
    pipeline = Pipeline(monkeypatch)
    folder = pipeline.take_snapshot().train.path.parent
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    process = subprocess.run(
        [*torchrun, ROOT / "scripts/fit.py", "--model", "toy", "--snapshot", folder],
        env=os.environ | {"PYTHONPATH": str(mlflow_workspace / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert process.returncode == 0, process.stderr
    (tracked_run,) = pipeline.client.search_runs([runs.experiment_id(pipeline.client, "toy")])
    assert process.stdout.split() == [tracked_run.info.run_id]
    assert tracked_run.data.metrics["roc_auc"] > 0.7
    first, second = (json.loads(Path(f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second  # the same weights, although each has seen other rows
    assert first[0] == first[1] / 2


FAKE_TORCHRUN = """
import os, sys
from continuous_training.compute import data_parallel
os.execv = lambda program, arguments: print(*arguments[1:])
sys.argv = ["scripts/fit.py", "--model", "toy"]
data_parallel.start_replicas()
"""


@pytest.mark.parametrize(
    ("gpus", "output"),
    [
        ("4", "-m torch.distributed.run --standalone --nproc-per-node=4 scripts/fit.py --model toy\n"),
        ("1", ""),
        ("", ""),
    ],
)
def test_a_process_for_each_gpu_is_started_if_there_are_several(gpus: str, output: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed: scripts/ct test installs it")
    process = subprocess.run(
        [sys.executable, "-c", FAKE_TORCHRUN], env={"CT_GPUS": gpus}, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert (process.stdout, process.stderr) == (output, "")


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("other", ["batches: true", "grid: {C: [1]}"])
def test_a_data_parallel_training_in_batches_or_with_a_grid_is_refused(other: str) -> None:
    change("compare:\n", "compute: {data_parallel: true}\ncompare:\n")
    change("model:\n", f"model:\n  {other}\n")
    message = f"compute.data_parallel: a data-parallel training has no model.{other.partition(':')[0]}"
    with pytest.raises(UserError, match=message):
        load_settings("toy")
