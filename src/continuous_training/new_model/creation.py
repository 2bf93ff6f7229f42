"""`ct new`, step by step."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from continuous_training import extras
from continuous_training.errors import UserError
from continuous_training.formatting.scorers import natural_value, plain_name
from continuous_training.model_packages import SOURCES
from continuous_training.new_model import package, trial
from continuous_training.new_model.frameworks import FRAMEWORKS
from continuous_training.new_model.names import check_name
from continuous_training.new_model.origin import Address, open_origin
from continuous_training.new_model.package import Draft
from continuous_training.new_model.periods import choose_periods, has_scattered_nulls
from continuous_training.new_model.profile import days_of, profile
from continuous_training.new_model.roles import RoleOptions, choose_roles

if TYPE_CHECKING:
    from pathlib import Path

    from continuous_training.new_model.dialogue import Dialogue
    from continuous_training.new_model.roles import Roles

log = logging.getLogger(__name__)


def create(name: str, address: Address, options: RoleOptions, framework: str, dialogue: Dialogue) -> list[Path]:
    """Write the package and the tests of a new model; nothing is written if a step fails.

    Args:
        name: the package's name.
        address: where its rows are.
        options: for the columns' roles.
        framework: the name of a row of `FRAMEWORKS`.
        dialogue: chooses values for missing options.

    Returns:
        The folders that were written.

    Raises:
        UsageError: an option is missing or impossible.
        UserError: the data cannot be read, or no model can be made of them.
    """
    check_name(name)
    draft = make_draft(name, address, options, framework, dialogue)
    test = trial.start(package.settings_of(draft), name)
    if leaks := test.find_leaks():
        draft = draft._replace(roles=_without(draft.roles, leaks))
        test = test._replace(settings=package.settings_of(draft))
    test.check()
    if framework in extras.list_extras():
        extras.install(framework)
    with package.write_temporarily(package.render(draft)) as folder:
        score, constant = test.fit(folder / SOURCES / name / "model.py")
    draft = _with_first_score(draft, score, constant)
    with package.write_temporarily(package.render(draft)) as folder:
        return package.publish(folder, name)


def make_draft(name: str, address: Address, options: RoleOptions, framework: str, dialogue: Dialogue) -> Draft:
    """Look at the data and decide everything that does not need a fit."""
    with open_origin(address) as origin:
        columns = profile(origin)
        log.info("%s has %s rows and %d columns", origin.title, f"{next(iter(columns.values())).rows:,}", len(columns))
        roles = choose_roles(origin, columns, options, dialogue, FRAMEWORKS[framework].max_categories)
        by_class = roles.task == "classification"
        days = days_of(origin, roles.time, roles.target, by_class=by_class)
        periods = choose_periods(days, by_class=by_class)
        end = periods.clock or periods.newest + timedelta(days=1)
        has_nulls = has_scattered_nulls(days, periods.label_delay_days, end)
        for column, reason in roles.unused.items():
            log.info("not a feature: '%s' %s", column, reason)
        return Draft(name, origin, columns, roles, periods, framework, drops_null_targets=has_nulls)


def _without(roles: Roles, leaks: dict[str, float]) -> Roles:
    """Remove features that probably leak the target."""
    reasons = {
        name: f"alone tells the target too well to be known before it (AUC or correlation {score:.2f})"
        for name, score in leaks.items()
    }
    for name, reason in reasons.items():
        log.info("not a feature: '%s' %s", name, reason)
    features = tuple(name for name in roles.features if name not in reasons)
    if not features:
        raise UserError(
            "every feature alone predicts the target too well: the columns are probably known only after it"
        )
    return roles._replace(features=features, unused=roles.unused | reasons)


def _with_first_score(draft: Draft, score: float, constant: float) -> Draft:
    """Require of the first model a score between a constant's and that of the trial's fit."""
    metric = draft.metrics.metric
    fit, dummy = (natural_value(value, metric) for value in (score, constant))
    if score <= constant:
        log.warning(
            "! a first fit is no better than a constant: %s is %.4g, the constant's is %.4g. A run will reject it; "
            "which column that the target depends on is missing?",
            plain_name(metric),
            fit,
            dummy,
        )
    else:
        log.info(
            "A first fit on the training rows: %s is %.4g on the fresh rows, a constant's is %.4g",
            plain_name(metric),
            fit,
            dummy,
        )
    first = float(f"{(constant + max(score, constant)) / 2:.3g}")
    comment = f"{plain_name(metric)} of a constant prediction is {dummy:.3g}, that of a first fit was {fit:.3g}"
    return draft._replace(first=first, first_comment=comment)
