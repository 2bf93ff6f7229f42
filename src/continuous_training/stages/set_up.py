"""Set up: an empty build folder, and the document that identifies the run."""

from __future__ import annotations

import logging
import os
import platform
import shutil

from pydantic import ValidationError

from continuous_training.comparison.metric_functions import load_metric_functions
from continuous_training.comparison.ranking import NDCG
from continuous_training.compute.ec2 import account
from continuous_training.documents import BUILD, Acceptance, Run, Stopwatch, first_error
from continuous_training.errors import UserError
from continuous_training.formatting.scorers import DEFINED_FOR, DEFINED_FOR_TWO_CLASSES, ERROR
from continuous_training.git import current_commit
from continuous_training.model_packages import default_model
from continuous_training.settings import BRANCH, Compare, Settings, load_settings, lock_hash, parse_as_of
from continuous_training.stages import person

log = logging.getLogger(__name__)


def begin() -> Run:
    """Clear build/ and read the run's parameters from the environment.

    Raises:
        UserError: a parameter has an invalid value, or contradicts another.
    """
    shutil.rmtree(BUILD, ignore_errors=True)  # first: an invalid parameter must not leave an earlier run's report
    timer = Stopwatch.of_environment()
    parameters = {
        name.lower(): os.environ.get(name) or default
        for name, default in {
            "MODEL": default_model(),
            "COMPUTE": "local",
            "FORCE": "false",
            "PROMOTE": "auto",
            "ROLLBACK": "false",
            "HOLD": "",
            "TRIGGER": "manual",
        }.items()
    }
    trains = parameters["rollback"].lower() != "true" and not parameters["hold"]
    settings = load_settings(parameters["model"]) if trains else None  # others must work even if they are invalid
    try:
        run = Run.model_validate(
            timer.stop()
            | parameters
            | {
                "as_of": parse_as_of(os.environ.get("AS_OF", ""), settings.data.clock if settings else None),
                "acceptance": _read_acceptance(),
                "reason": os.environ.get("REASON", ""),
                "branch": os.environ.get("BRANCH_NAME", ""),
                "commit": current_commit(),
                "build_url": os.environ.get("BUILD_URL", ""),
                "lock": lock_hash(parameters["model"]),
                "python": platform.python_version(),
            }
        )
    except ValidationError as error:
        raise UserError(f"a parameter of this run is invalid: {first_error(error)}") from error
    if settings and run.compute == "ec2":
        _check_ec2(settings)
    _check_only_command(run)
    if settings:
        _check_metrics(settings.compare)
        if len(settings.data.targets) > 1:
            _check_metrics_of_targets(settings.compare)
    reason = f": {run.reason}" if run.reason else ""
    log.info("Run %s of %s as of %s (%s%s)", run.build_tag, run.model, f"{run.as_of:%Y-%m-%d}", run.trigger, reason)
    return run


def _read_acceptance() -> Acceptance | None:
    """Return the acceptance of the parameter ACCEPT, if there is one."""
    reason = os.environ.get("ACCEPT", "").strip()
    return Acceptance(reason=reason, by=person.name()) if reason else None


def _check_only_command(run: Run) -> None:
    """Check a run that trains nothing."""
    if run.only_command is None:
        return
    parameter = "ROLLBACK=true" if run.rollback else f"HOLD={run.hold}"
    if run.rollback and run.hold:
        raise UserError(f"ROLLBACK=true and HOLD={run.hold} exclude each other: a rollback holds by itself")
    if run.acceptance:
        raise UserError(f"{parameter} and ACCEPT exclude each other: there is no candidate to accept")
    if run.only_command != "release" and not run.reason.strip():
        raise UserError(f"{parameter} needs a reason: set REASON")
    if run.branch not in {"", BRANCH}:
        raise UserError(f"{parameter} has no effect on branch {run.branch}: start it on {BRANCH}")


def _check_ec2(settings: Settings) -> None:
    """Check that EC2 is configured, before any time is spent on the stages before Train."""
    _ = settings.ec2
    account.Account.from_environment()
    account.read_tracking_uri()


def _check_metrics(limits: Compare) -> None:
    """Check that all metrics exist, before any time is spent on training."""
    functions = load_metric_functions(limits) if limits.functions else {}
    common = DEFINED_FOR_TWO_CLASSES.union(*DEFINED_FOR.values())
    others = limits.scorers - common - functions.keys() - {NDCG}
    if not others and not functions:
        return
    from sklearn.metrics import get_scorer_names  # takes a second to import

    scorers = set(get_scorer_names())
    if unknown := sorted(others - scorers):
        error = f"{ERROR}{unknown[0]}"
        known = scorers | functions.keys()
        advice = f"; for an error, whose scorer has a minus, write {error}" if error in known else ""
        raise UserError(
            f"training.yaml: compare names the metric {unknown[0]}, which is no scorer of scikit-learn and no "
            f"function of compare.functions{advice}"
        )
    if double := sorted(functions.keys() & {*scorers, NDCG}):
        raise UserError(f"training.yaml: compare.functions.{double[0]}: there is a metric of that name already")


def _check_metrics_of_targets(limits: Compare) -> None:
    """Check that all scorers take several targets, by a score of two rows."""
    import numpy as np

    from continuous_training.comparison import evaluation  # with scikit-learn it takes a second to import

    values = np.array([[1.0, 2.0], [2.0, 1.0]])
    for name in sorted(limits.scorers - limits.functions.keys()):
        try:
            evaluation.score(name, evaluation.RegressorPredictions(values), values)
        except UserError as error:
            raise UserError(f"training.yaml: data.target is a list: {error}") from error
