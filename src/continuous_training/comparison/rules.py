"""The rules of the comparison: each function checks one, with its value, its limit and a sentence.

For a metric of all fresh rows the burden of proof is on the candidate: the interval must lie above the margin. A slice
(`slice_rules`) has too few rows for such a proof, so it fails only if the candidate is significantly worse.

Names and values are those that people read (`scorers`): an error is positive, and an improvement is positive whether
higher or lower is better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from continuous_training.documents import CHAMPION_OPENS, Rule
from continuous_training.formatting import format_confidence
from continuous_training.formatting.scorers import format_improvement, format_score, is_error, natural_value, plain_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from continuous_training.documents import Check, Metric

CLASSES = "classes"
WIDENING_CASTS = {("integer", "double"), ("long", "double"), ("integer", "long"), ("float", "double")}


class JudgedTwin(NamedTuple):
    """What is known of the judged model of a champion that is a refit.

    Attributes:
        refit_until: the end of the rows that the champion was fitted on.
        loss: why its judged model cannot take its place; None if it does.
    """

    refit_until: datetime
    loss: str | None = None


def check_behaviour(checks: Iterable[Check]) -> list[Rule]:
    """Return a rule for each behaviour test of the candidate."""
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


def check_trained_until(trained_until: datetime | None, fresh_since: datetime, twin: JudgedTwin | None = None) -> Rule:
    """Check that the champion was not trained on the fresh rows, or that its judged twin was not.

    Args:
        trained_until: the time before which all its training rows lie, or those of its twin if this takes its place.
        fresh_since: the time of the first fresh row.
        twin: the champion's judged twin, if the champion is a refit.
    """
    passed = trained_until is not None and trained_until <= fresh_since
    until = (
        f"{trained_until:%Y-%m-%d}"
        if trained_until
        else "an unknown day (neither its MLflow run nor its manifest has it)"
    )
    message = f"the champion was trained on rows before {until}, the fresh rows start on {fresh_since:%Y-%m-%d}"
    advice = ": choose a later AS_OF"
    if twin:
        refit_until = f"the champion is a refit on rows before {twin.refit_until:%Y-%m-%d}"
        if twin.loss is None:
            message = (
                f"{refit_until}, so its judged model is compared, which was trained on rows before {until}; the fresh "
                f"rows start on {fresh_since:%Y-%m-%d}"
            )
        else:
            message = f"{refit_until}, the fresh rows start on {fresh_since:%Y-%m-%d}, and its judged model {twin.loss}"
            advice = ": restore that model, or choose an AS_OF from which on the fresh rows are later"
    if not passed:
        message += f", so it may have been trained on some of them{advice}"
    return Rule(
        name="champion not trained on fresh rows", passed=passed, value=None, limit=None, message=message, form=True
    )


def reject_lost_champion(message: str) -> Rule:
    """Return the rule that a champion which cannot be opened breaks."""
    return Rule(name=CHAMPION_OPENS, passed=False, value=None, limit=None, message=message, form=True)


def check_champion_columns(input_columns: Iterable[str], query_columns: Collection[str]) -> Rule:
    """Check that the query still returns the champion's input columns, without which it cannot predict."""
    missing = [name for name in input_columns if name not in query_columns]
    message = "the query returns all input columns of the champion"
    if missing:
        message = (
            f"the query does not return {', '.join(missing)}, which the champion needs: keep it in the query, with "
            "feature: false, until a champion without it is in production"
        )
    return Rule(
        name="input columns of the champion",
        passed=not missing,
        value=len(missing),
        limit=0,
        message=message,
        form=True,
    )


def check_input_types(candidate: Mapping[str, str], champion: Mapping[str, str], new_inputs: Collection[str]) -> Rule:
    """Check that clients of the champion can call the candidate with the same columns.

    Args:
        candidate: the type of each of its input columns, as in its signature.
        champion: the same of the champion.
        new_inputs: columns that clients send already although the champion does not need them.
    """
    additional_columns = [name for name in candidate if name not in champion and name not in new_inputs]
    type_changes = [
        f"{name} ({champion[name]} to {kind})"
        for name, kind in candidate.items()
        if name in champion and champion[name] != kind and (champion[name], kind) not in WIDENING_CASTS
    ]
    problems = []
    if additional_columns:
        names = ", ".join(additional_columns)
        problems.append(f"clients do not send {names}: add it to compare.new_inputs once they do")
    if type_changes:
        problems.append(f"the candidate's input columns have other types than clients send: {', '.join(type_changes)}")
    message = "; ".join(problems) or "clients of the champion can call the candidate"
    return Rule(
        name="input columns",
        passed=not additional_columns + type_changes,
        value=len(additional_columns) + len(type_changes),
        limit=0,
        message=message,
        form=True,
    )


def check_classes(candidate: list[str], champion: list[str]) -> Rule:
    """Check that both models have the same classes, in the same order; a regression has none."""
    names = [", ".join(classes) or "numbers" for classes in (candidate, champion)]
    message = f"both models predict {names[0]}"
    if candidate != champion:
        message = f"the candidate predicts {names[0]}, the champion {names[1]}"
    return Rule(name=CLASSES, passed=candidate == champion, value=None, limit=None, message=message, form=True)


def check_targets(candidate: Sequence[str], champion: Sequence[str]) -> Rule:
    """Check that both models predict the same targets, in the same order; an old model has one without a name."""
    passed = tuple(candidate) == tuple(champion)
    names = [", ".join(targets) or "one target" for targets in (candidate, champion)]
    message = f"both models predict {names[0]}"
    if not passed:
        message = f"the candidate predicts {names[0]}, the champion {names[1]}"
    return Rule(name="targets", passed=passed, value=None, limit=None, message=message, form=True)


def check_first_metric(metric: Metric, limit: float) -> Rule:
    """Check a scorer of a first model against an absolute limit."""
    name, scorer = plain_name(metric.name), metric.name
    bound = "at most" if is_error(scorer) else "at least"
    message = f"{name} is {format_score(metric.candidate, scorer)}; a first model needs {bound} "
    return Rule(
        name=f"{name} of a first model",
        passed=metric.candidate >= limit,
        value=natural_value(metric.candidate, scorer),
        limit=natural_value(limit, scorer),
        message=f"{message}{natural_value(limit, scorer):g}",
    )


def accept_champion() -> Rule:
    """Accept a candidate that is the champion: an interrupted run promoted it."""
    message = "the candidate is the champion already: an interrupted run promoted it"
    return Rule(name="candidate is the champion", passed=True, value=None, limit=None, message=message)


def check_improvement(metric: Metric, margin: float, confidence: float) -> Rule:
    """Check that the lower end of the primary metric's interval is above the margin."""
    metric_name = plain_name(metric.name)
    name = f"{metric_name} improves" if margin >= 0 else f"{metric_name} is not inferior"
    if metric.difference is None:
        return _reject_undefined_metric(name, metric_name, margin)
    low, _ = metric.difference
    message = f"the candidate's {metric_name} {_describe_difference(metric.difference, margin)}"
    message += f": {_format_interval(metric.difference, confidence)}"
    if low <= margin:
        message += f"; the lower end must be above {format_improvement(margin)}"
    return Rule(name=name, passed=low > margin, value=low, limit=margin, message=message)


def _describe_difference(difference: tuple[float, float], margin: float) -> str:
    """Return what an interval says of the candidate, in view of the margin that decides."""
    low, high = difference
    passed = low > margin
    if high < 0 and not passed:
        return "is worse"
    if low > 0:
        by = f" by more than {margin:g}" if margin > 0 else ""
        return f"is better{by}" if passed else f"is better, but not surely{by}"
    if margin < 0:
        return f"{'is not' if passed else 'may be'} worse by more than {-margin:g}"
    return "is not significantly better"


def check_guardrail(metric: Metric, max_decrease: float, confidence: float) -> Rule:
    """Check that another metric does not worsen by more than `max_decrease`."""
    metric_name = plain_name(metric.name)
    name = f"{metric_name} does not worsen"
    if metric.difference is None:
        return _reject_undefined_metric(name, metric_name, -max_decrease)
    low = metric.difference[0]
    passed = low >= -max_decrease
    result = "worsens by no more" if passed else "may worsen by more"
    message = f"{metric_name} {result} than {max_decrease:g}: {_format_interval(metric.difference, confidence)}"
    return Rule(name=name, passed=passed, value=low, limit=-max_decrease, message=message)


def check_calibration(candidate: float, champion: float | None, limit: float) -> Rule:
    """Check the candidate's calibration error against the limit, or the champion's error if that is larger."""
    max_error = max(limit, champion or 0.0)
    beside = "" if champion is None else f" (the champion's is {champion:.4f})"
    message = f"the calibration error is {candidate:.4f}{beside}; at most {max_error:.4g} is allowed"
    return Rule(name="calibration", passed=candidate <= max_error, value=candidate, limit=max_error, message=message)


def check_latency(candidate: float, limit: float) -> Rule:
    """Check the time of one prediction in milliseconds."""
    message = f"one prediction takes {candidate:.3g} ms; at most {limit:g} ms are allowed"
    return Rule(name="latency", passed=candidate <= limit, value=candidate, limit=limit, message=message)


def check_slowdown(candidate: float, other: float, limit: float, whose: str = "the champion's") -> Rule:
    """Check the time of one prediction as a multiple of another model's."""
    ratio = candidate / other
    message = f"one prediction takes {ratio:.2f} times {whose} {other:.3g} ms; at most {limit:g} times is allowed"
    return Rule(name="slowdown", passed=ratio <= limit, value=ratio, limit=limit, message=message)


def check_size(megabytes: float | None, limit: float) -> Rule:
    """Check the size of the stored model."""
    passed = megabytes is not None and megabytes <= limit
    size = "the size of the model is not known" if megabytes is None else f"the model has {megabytes:.2f} MB"
    message = f"{size}; at most {limit:g} MB are allowed"
    return Rule(name="size", passed=passed, value=megabytes, limit=limit, message=message)


def _format_interval(ends: tuple[float, float], confidence: float) -> str:
    low, high = map(format_improvement, ends)
    return f"improvement {low} to {high} with {format_confidence(confidence)} confidence"


def _reject_undefined_metric(name: str, metric: str, limit: float) -> Rule:
    message = f"{metric} is not defined on enough resamples of the fresh rows: a class has too few rows"
    return Rule(name=name, passed=False, value=None, limit=limit, message=message)
