"""The deadline of each instance, from the limits on time and cost."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from continuous_training.settings import Compute

MIN_MINUTES = 5  # less is not worth a boot
BOOT_MINUTES = 2  # billed before an instance starts its own countdown


class Budget:
    """What the trials of a run may still use. They share max_cost_usd evenly; each has max_hours for itself.

    Only instances are counted; disks, addresses and traffic add a few per cent.
    """

    def __init__(self, settings: Compute, trials: int) -> None:
        self._settings, self._trials = settings, trials
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.usd: defaultdict[str, float] = defaultdict(float)

    def deadline_minutes(self, trial: str, price: float) -> int:
        """Return how many minutes a trial may use an instance of this price, in USD an hour.

        After an interruption a trial has what is left of its share.

        Raises:
            UserError: that is too little to train.
        """
        hours = self._settings.max_hours - self.seconds[trial] / 3600
        usd = self._settings.max_cost_usd / self._trials - self.usd[trial]
        minutes = math.floor(60 * min(hours, usd / price)) - BOOT_MINUTES
        if minutes < MIN_MINUTES:
            raise UserError(
                f"compute.max_hours and max_cost_usd leave {max(minutes, 0)} minutes at {price} USD an hour: "
                f"at least {MIN_MINUTES} are needed"
            )
        return minutes

    def charge(self, trial: str, seconds: float, price: float) -> None:
        """Subtract what an instance of a trial has used."""
        self.seconds[trial] += seconds
        self.usd[trial] += seconds / 3600 * price
