"""The deadline of each instance, from the limits on time and cost."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Collection

    from continuous_training.settings import Compute

MIN_MINUTES = 5  # less is not worth a boot
BOOT_MINUTES = 2  # billed before an instance starts its own countdown
SEARCH_PART = 0.5  # of max_cost_usd, for the instances that only search


class Budget:
    """What the tasks of a run may still use: the training, and before it the search of each share of the trials.

    The searches have half of max_cost_usd, in equal parts; the training has what is left. Each task has max_hours for
    itself. Only instances are counted; disks, addresses and traffic add a few per cent.
    """

    def __init__(self, settings: Compute, searches: Collection[str] = ()) -> None:
        """Begin with nothing used.

        Args:
            settings: the limits.
            searches: the names of the tasks that search; any other one is the training.
        """
        self._settings, self._searches = settings, searches
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.usd: defaultdict[str, float] = defaultdict(float)

    def deadline_minutes(self, task: str, price: float) -> int:
        """Return how many minutes a task may use an instance of this price, in USD an hour.

        After an interruption a task has what is left of its part.

        Raises:
            UserError: that is too little to be of use.
        """
        hours = self._settings.max_hours - self.seconds[task] / 3600
        if task in self._searches:
            usd = self._settings.max_cost_usd * SEARCH_PART / len(self._searches) - self.usd[task]
        else:
            usd = self._settings.max_cost_usd - sum(self.usd.values())
        minutes = math.floor(60 * min(hours, usd / price)) - BOOT_MINUTES
        if minutes < MIN_MINUTES:
            raise UserError(
                f"compute.max_hours and max_cost_usd leave {max(minutes, 0)} minutes at {price} USD an hour: "
                f"at least {MIN_MINUTES} are needed"
            )
        return minutes

    def charge(self, task: str, seconds: float, price: float) -> None:
        """Subtract what an instance has used for a task."""
        self.seconds[task] += seconds
        self.usd[task] += seconds / 3600 * price
