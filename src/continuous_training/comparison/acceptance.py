"""Changes of form that a person accepts, and what a candidate with such a change is compared by.

The champion may know other classes or targets, or cannot predict at all. The candidate is then judged as a first model.
If only the classes differ, it is also compared with the champion on the rows whose class both know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from continuous_training.comparison.rules import CLASSES
from continuous_training.documents import CHAMPION_OPENS, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from continuous_training.comparison.comparison import Comparison
    from continuous_training.documents import Acceptance, Metric

HINT = "to accept this, start a run with ACCEPT='the reason'"


def accept(rules: Iterable[Rule], acceptance: Acceptance | None) -> list[Rule]:
    """Return the rules; those of form that fail are accepted, if a person has said so."""
    return [
        rule.model_copy(update={"accepted": True, "message": f"{rule.message}; {acceptance.describe()}"})
        if acceptance and rule.form and rule.rejects
        else rule
        for rule in rules
    ]


def explain(rules: list[Rule]) -> str:
    """Return the messages of rules; if all reject for form's sake, with the way to accept that."""
    message = "; ".join(rule.message for rule in rules)
    is_acceptable = all(rule.rejects and rule.form and rule.name != CHAMPION_OPENS for rule in rules)
    return f"{message}; {HINT}" if is_acceptable else message


class Judgement(NamedTuple):
    """How a candidate was judged: the comparison, its metrics, and the rules."""

    comparison: Comparison
    metrics: list[Metric]
    rules: list[Rule]


def judge(comparison: Comparison, preconditions: list[Rule]) -> Judgement:
    """Judge a candidate of which a person has accepted preconditions that fail.

    Args:
        comparison: the comparison with the champion, as if they had not failed.
        preconditions: none of them rejects.
    """
    first = comparison.without_champion()
    first_metrics = first.compute_metrics()
    common = _on_common_classes(comparison, preconditions)
    if common is None:
        return Judgement(first, first_metrics, [*first.check_candidate(first_metrics)])
    metrics, rows = common.compute_metrics(), len(common.fresh)
    basis = f"they are compared on the {rows:,} of {len(comparison.fresh):,} fresh rows whose class both know"
    rules = [
        *common.check_candidate(metrics),
        Rule(name="rows of common classes", passed=True, value=rows, limit=None, message=basis),
        *first.check_first(first_metrics),
    ]
    return Judgement(common, metrics, rules)


def _on_common_classes(comparison: Comparison, preconditions: list[Rule]) -> Comparison | None:
    """Return the comparison on the rows whose class both models know; None if it is not possible.

    It is not if anything but the classes differs, or if those rows are too few.
    """
    if any(rule.accepted and rule.name != CLASSES for rule in preconditions):
        return None
    common = comparison.on_common_classes()
    return common if common and not any(rule.rejects for rule in common.check_preconditions()) else None
