"""How long machines may run, for what they cost: from it each instance has its deadline."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from continuous_training.settings import Compute

SHORTEST = 5  # minutes: less is not worth a boot
BOOT = 2  # minutes that are paid before an instance begins to count its own


class Budget:
    """What the trials of a run may still use. They share the money evenly, and each has the whole time.

    The money is that for machines; disks, addresses and traffic, a few per cent of it, are not counted.
    """

    def __init__(self, compute: Compute, trials: int) -> None:
        self._given, self._trials = compute, trials
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.usd: defaultdict[str, float] = defaultdict(float)

    def minutes(self, trial: str, price: float) -> int:
        """Return for how many minutes a trial may have a machine at this price in USD an hour: its deadline.

        A trial that was interrupted has what it did not use.

        Raises:
            UserError: it is too little to train anything.
        """
        hours = self._given.max_hours - self.seconds[trial] / 3600
        usd = self._given.max_cost_usd / self._trials - self.usd[trial]
        minutes = math.floor(60 * min(hours, usd / price)) - BOOT
        if minutes < SHORTEST:
            raise UserError(
                f"compute.max_hours and max_cost_usd leave {max(minutes, 0)} minutes at {price} USD an hour: "
                f"at least {SHORTEST} are needed"
            )
        return minutes

    def spend(self, trial: str, seconds: float, price: float) -> None:
        """Take off what a machine of a trial has used."""
        self.seconds[trial] += seconds
        self.usd[trial] += seconds / 3600 * price
