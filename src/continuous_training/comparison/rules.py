"""The rules that a candidate is held to. Each says in words what it found, with its number and its limit.

A metric of all fresh rows bears the burden of proof: it must surely be better than asked, or surely not worse than
allowed. A slice is smaller and could seldom prove that, so there the harm must be confirmed.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from continuous_training.comparison.cases import check_cases
from continuous_training.documents import Rule

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    import pandas as pd
    from numpy.typing import NDArray

    from continuous_training.documents import Check, Metric
    from continuous_training.settings import Compare

WIDER = {("integer", "double"), ("long", "double"), ("integer", "long"), ("float", "double")}


def behaves(checks: Iterable[Check]) -> list[Rule]:
    """Hold the candidate to its behaviour tests."""
    return [
        Rule(
            name=f"behaviour: {check.name}",
            passed=check.passed,
            value=None,
            limit=None,
            message=check.name if check.passed else f"{check.name}: {check.message}",
        )
        for check in checks
    ]


def enough(classes: pd.Series | None, groups: NDArray[Any] | None, rows: int, limits: Compare) -> Rule:
    """Hold the fresh rows to what the configured confidence needs: a case in each end of the interval, at least.

    Args:
        classes: the truth of a classification, of shape (rows,); None for a regression.
        groups: the label of each row's group, if the bootstrap draws groups.
        rows: how many rows there are.
        limits: the settings.
    """
    sizes = None if classes is None else classes.value_counts().tolist()
    return check_cases(rows, sizes, None if groups is None else len(np.unique(groups)), limits)


def unseen(trained_until: datetime | None, fresh_since: datetime) -> Rule:
    """Check that the champion has not trained on the rows that judge it: time flows forward."""
    passed = trained_until is not None and trained_until <= fresh_since
    until = f"{trained_until:%Y-%m-%d}" if trained_until else "a day that its MLflow run does not tell"
    message = f"the champion was trained on rows before {until}, the fresh start on {fresh_since:%Y-%m-%d}"
    if not passed:
        message += ", so it may have seen some of them: choose a later AS_OF"
    return Rule(name="fresh rows are unseen", passed=passed, value=None, limit=None, message=message)


def answerable(champion_asks: Iterable[str], returned: Collection[str]) -> Rule:
    """Check that the query still returns what the champion asks for, or it cannot be judged."""
    missing = [name for name in champion_asks if name not in returned]
    message = "the query returns all that the champion asks for"
    if missing:
        message = (
            f"the champion asks for {', '.join(missing)}, which the query does not return any more: keep it in the "
            "query, with feature: false, until a champion without it serves"
        )
    return Rule(name="champion can be asked", passed=not missing, value=len(missing), limit=0, message=message)


def accepts(candidate: Mapping[str, str], champion: Mapping[str, str], new_inputs: Collection[str]) -> Rule:
    """Check that whoever asks the champion today may ask the candidate the same tomorrow.

    Args:
        candidate: the types of the candidate's inputs by their names, as in its signature.
        champion: the same of the champion.
        new_inputs: what clients send already although the champion does not ask for it.
    """
    asked = [name for name in candidate if name not in champion and name not in new_inputs]
    changed = [
        f"{name} ({champion[name]} to {kind})"
        for name, kind in candidate.items()
        if name in champion and champion[name] != kind and (champion[name], kind) not in WIDER
    ]
    message = "who asks the champion can ask the candidate the same"
    if asked:
        message = f"servers are not sent {', '.join(asked)} today: name it in compare.new_inputs once clients send it"
    elif changed:
        message = f"the candidate wants other types than servers are sent: {', '.join(changed)}"
    return Rule(
        name="inputs agree", passed=not asked + changed, value=len(asked) + len(changed), limit=0, message=message
    )


def answers_alike(candidate: list[str], champion: list[str]) -> Rule:
    """Check that both answer with the same classes, in the same order."""
    message = f"both answer with {', '.join(candidate)}"
    if candidate != champion:
        message = f"the candidate answers with {', '.join(candidate)}, the champion with {', '.join(champion)}"
    return Rule(name="outputs agree", passed=candidate == champion, value=None, limit=None, message=message)


def reaches(metric: Metric, limit: float) -> Rule:
    """Hold a first model to an absolute limit."""
    message = f"{metric.name} is {metric.candidate:.4f}; a first model needs {limit:g}"
    passed = metric.candidate >= limit
    return Rule(
        name=f"{metric.name} of a first model", passed=passed, value=metric.candidate, limit=limit, message=message
    )


def is_champion() -> Rule:
    """Let a candidate pass that is the champion: an interrupted run promoted it."""
    message = "the candidate is the champion already: an interrupted run promoted it"
    return Rule(name="candidate is the champion", passed=True, value=None, limit=None, message=message)


def improves(metric: Metric, limits: Compare) -> Rule:
    """Hold the lower end of the difference's interval against the margin: an equal model is not promoted, unless asked.

    Without an interval (too few resamples had a score) nothing is sure.
    """
    if metric.difference is None:
        return _undefined(f"{metric.name} improves", metric.name, limits.margin)
    low, high = metric.difference
    passed = low > limits.margin
    found = "is better" if low > 0 else ("is worse" if high < 0 else "is not surely better")
    message = f"the candidate's {metric.name} {found}: {_interval(metric.difference, limits.confidence)}"
    message += f", more than {limits.margin:+g} is asked"
    return Rule(name=f"{metric.name} improves", passed=passed, value=low, limit=limits.margin, message=message)


def guards(metric: Metric, allowed: float, confidence: float) -> Rule:
    """Hold another metric to not worsening by more than is allowed."""
    name = f"{metric.name} does not worsen"
    if metric.difference is None:
        return _undefined(name, metric.name, -allowed)
    low = metric.difference[0]
    passed = low >= -allowed
    kept = "worsens by no more" if passed else "may worsen by more"
    message = f"{metric.name} {kept} than {allowed:g}: {_interval(metric.difference, confidence)}"
    return Rule(name=name, passed=passed, value=low, limit=-allowed, message=message)


def spares(name: str, rows: int, differences: NDArray[np.float64], allowed: float, tail: float) -> Rule:
    """Hold the candidate to not surely worsening in a slice by more than is allowed.

    Args:
        name: the slice.
        rows: how many rows it has.
        differences: the differences on the resamples, of shape (resamples,).
        allowed: by how much it may worsen.
        tail: the probability with which a slice that just reaches the limit may be taken for a worse one: the
            interval's, divided by the number of slices (Bonferroni), or one of many would fail by chance.
    """
    defined = differences[~np.isnan(differences)]
    if len(defined) < len(differences) / 2:
        message = f"{name} ({rows:,} rows): the metric is not defined on most of its resamples"
        return Rule(name=name, passed=False, value=None, limit=-allowed, message=message)
    change, spread = float(defined.mean()), float(defined.std())
    best = change + NormalDist().inv_cdf(1 - tail) * spread  # ends this far out have too few resamples to be counted
    passed = best >= -allowed
    message = f"{name} ({rows:,} rows): {change:+.4f} ± {spread:.4f}"
    if not passed:
        message += f", surely worse by more than {allowed:g}"
    return Rule(name=name, passed=passed, value=best, limit=-allowed, message=message)


def calibrated(candidate: float, champion: float | None, limit: float) -> Rule:
    """Hold the candidate's calibration error to a limit, or to the champion's if that one is further off itself."""
    allowed = max(limit, champion or 0.0)
    beside = "" if champion is None else f" (the champion's by {champion:.4f})"
    message = f"predictions are off by {candidate:.4f} on average{beside}; {allowed:.4g} is allowed"
    return Rule(name="calibration", passed=candidate <= allowed, value=candidate, limit=allowed, message=message)


def quick(candidate: float, limit: float) -> Rule:
    """Hold the time of one answer, in milliseconds, to a limit."""
    message = f"one answer takes {candidate:.3g} ms; {limit:g} ms are allowed"
    return Rule(name="time to answer", passed=candidate <= limit, value=candidate, limit=limit, message=message)


def keeps_pace(candidate: float, champion: float, limit: float) -> Rule:
    """Hold the time of one answer to a multiple of the champion's."""
    ratio = candidate / champion
    message = f"one answer takes {ratio:.2f} times the champion's {champion:.3g} ms; {limit:g} times is allowed"
    return Rule(name="pace", passed=ratio <= limit, value=ratio, limit=limit, message=message)


def small(megabytes: float | None, limit: float) -> Rule:
    """Hold the stored model to a size."""
    passed = megabytes is not None and megabytes <= limit
    takes = "an unknown number of" if megabytes is None else f"{megabytes:.2f}"
    message = f"the model takes {takes} MB; {limit:g} MB are allowed"
    return Rule(name="size", passed=passed, value=megabytes, limit=limit, message=message)


def _interval(ends: tuple[float, float], confidence: float) -> str:
    return f"{ends[0]:+.4f} to {ends[1]:+.4f} with {100 * confidence:g}% confidence"


def _undefined(name: str, metric: str, limit: float) -> Rule:
    message = f"{metric} is not defined on enough resamples of the fresh rows: too few of a class"
    return Rule(name=name, passed=False, value=None, limit=limit, message=message)
