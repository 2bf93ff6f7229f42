"""What an instance reports of its memory and its GPUs with each heartbeat.

training 12                 the step, and a number that increases
memory 3174 7812            MB in use, and in all
97, 18231, 23034            for each GPU: use in per cent, MB in use, and in all, as nvidia-smi prints them
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow.entities import Metric

COST = "ec2_cost_usd"  # a metric of an MLflow run: what its instances have cost together
MAX_POINTS = 400  # of a metric over time; MLflow accepts 1000 values in one call
MB_OF_A_GB = 1024


class Share(NamedTuple):
    """How much of a memory is in use, in MB."""

    used_mb: float
    total_mb: float

    def __str__(self) -> str:
        return f"{self.used_mb / MB_OF_A_GB:.1f} of {self.total_mb / MB_OF_A_GB:.1f} GB"


@dataclass(frozen=True)
class Heartbeat:
    """A heartbeat. `gpu_percent` is the mean use of the GPUs, `gpu_memory` their memory together.

    What was not reported is None.
    """

    step: str
    number: int
    memory: Share | None = None
    gpus: int = 0
    gpu_percent: float | None = None
    gpu_memory: Share | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a heartbeat. A line with values that are no numbers, such as nvidia-smi's '[N/A]', is left out."""
        head, *lines = text.splitlines() or [""]
        step, _, number = head.rpartition(" ")
        memory, gpus = None, []
        for line in lines:
            if line.startswith("memory "):
                values = _numbers(line.split()[1:], 2)
                memory = Share(*values) if values else None
            elif values := _numbers(line.split(","), 3):
                gpus.append(values)
        heartbeat = cls(step, int(number) if number.isdecimal() else 0, memory)
        if not gpus:
            return heartbeat
        percent, used, total = map(sum, zip(*gpus, strict=True))
        return replace(heartbeat, gpus=len(gpus), gpu_percent=percent / len(gpus), gpu_memory=Share(used, total))

    def describe_use(self) -> str:
        """Return its use as text, such as ', memory 3.1 of 7.6 GB, GPU 97 %, 17.8 of 22.5 GB'."""
        text = f", memory {self.memory}" if self.memory else ""
        if self.gpu_memory:
            text += f", {'GPU' if self.gpus == 1 else f'{self.gpus} GPUs'} {self.gpu_percent:.0f} %, {self.gpu_memory}"
        return text


class UsageLog:
    """The heartbeats of an attempt, with the times at which they arrived."""

    def __init__(self) -> None:
        self._heartbeats: list[tuple[int, Heartbeat]] = []

    @property
    def last(self) -> Heartbeat | None:
        """The newest heartbeat."""
        return self._heartbeats[-1][1] if self._heartbeats else None

    @property
    def gpu_is_idle(self) -> bool:
        """Whether a GPU was in use at none of three heartbeats or more of the training."""
        use = [heartbeat.gpu_percent for _, heartbeat in self._heartbeats if heartbeat.step == "training"]
        return len(use) > 2 and all(percent == 0 for percent in use)

    def add(self, heartbeat: Heartbeat) -> None:
        """Add a heartbeat that has just arrived."""
        self._heartbeats.append((int(time.time() * 1000), heartbeat))

    def metrics(self) -> list[Metric]:
        """Return MLflow's metrics of the GPUs: their use and memory over time, and the peak of their memory."""
        from mlflow.entities import Metric

        points = [
            (moment, beat.number, beat.gpu_percent or 0.0, beat.gpu_memory.used_mb)
            for moment, beat in self._heartbeats
            if beat.gpu_memory
        ]
        if not points:
            return []
        moment, number, _, peak = max(points, key=lambda point: point[3])
        metrics = [Metric("peak_gpu_memory_mb", peak, moment, number)]
        for moment, number, percent, used in points[:: -(-len(points) // MAX_POINTS)]:
            metrics += [Metric("gpu_percent", percent, moment, number), Metric("gpu_memory_mb", used, moment, number)]
        return metrics


def _numbers(texts: Sequence[str], count: int) -> list[float] | None:
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return None
    return numbers if len(numbers) == count else None
