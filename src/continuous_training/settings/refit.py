"""How a better candidate is fitted once more, on the fresh rows too."""

from __future__ import annotations

from pydantic import Field

from continuous_training.settings.section import Section


class Refit(Section):
    """How far the model that is fitted on all rows may differ from the one that was judged.

    A candidate that is to be promoted is fitted once more with the same parameters, on the training rows and the fresh
    rows. The new model must pass the candidate's behaviour tests and the limits of `compare` on size and time, have the
    same signature, and agree with the candidate on the training rows, which both know. If it does not, the candidate
    itself is promoted.
    """

    min_gain: float | None = Field(default=0.0, examples=[0.001])
    """By how much more recent rows must have improved `compare.metric` at least. This compares the candidate on the
    fresh rows with a fit of the same parameters that lacks the newest training rows, as many days as `fresh_days` or
    half of all. `null` fits no such model."""

    min_correlation: float = Field(default=0.8, ge=-1, le=1, examples=[0.9])
    """The least rank correlation of both models' predictions: of each class' probabilities, or of each target."""

    max_changed_decisions: float = Field(default=0.1, ge=0, le=1, examples=[0.05])
    """The largest share of rows for which the most probable class may differ. Classification only."""

    max_calibration_increase: float = Field(default=0.02, ge=0, examples=[0.01])
    """By how much the calibration error may be larger than the candidate's. Classification only."""

    max_difference: float = Field(default=0.5, ge=0, examples=[0.2])
    """The largest mean absolute difference of both models' predictions, in standard deviations of the candidate's.
    Regression only."""
