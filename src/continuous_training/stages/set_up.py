"""Set up: a clean build folder, and the document that says what this run is."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import subprocess
import time

from pydantic import ValidationError

from continuous_training.compute.ec2 import place
from continuous_training.documents import BUILD, Run, Stopwatch, first
from continuous_training.errors import UserError
from continuous_training.model_packages import default_model
from continuous_training.settings import BRANCH, Settings, load_settings, lock_hash, parse_as_of

log = logging.getLogger(__name__)


def begin() -> Run:
    """Clear build/ and return what this run is, from the environment that Jenkins or a person gives it.

    Raises:
        UserError: a parameter has a value that it may not have, or one that does not go with the others.
    """
    shutil.rmtree(BUILD, ignore_errors=True)  # first of all: a wrong parameter must not show another run's report
    timer = Stopwatch(os.environ.get("BUILD_TAG") or f"by-hand-{time.time():.0f}")
    given = {
        name.lower(): os.environ.get(name) or default
        for name, default in {
            "MODEL": default_model(),
            "COMPUTE": "local",
            "FORCE": "false",
            "PROMOTE": "auto",
            "ROLLBACK": "false",
            "TRIGGER": "manual",
        }.items()
    }
    rolls_back = given["rollback"].lower() == "true"  # which must work whatever is wrong with training.yaml
    chosen = None if rolls_back else load_settings(given["model"])
    try:
        run = Run.model_validate(
            timer.stop()
            | given
            | {
                "as_of": parse_as_of(os.environ.get("AS_OF", ""), chosen.data.clock if chosen else None),
                "reason": os.environ.get("REASON", ""),
                "branch": os.environ.get("BRANCH_NAME", ""),
                "commit": os.environ.get("GIT_COMMIT") or _commit(),
                "build_url": os.environ.get("BUILD_URL", ""),
                "lock": lock_hash(),
                "python": platform.python_version(),
            }
        )
    except ValidationError as error:
        raise UserError(f"a parameter of this run is wrong: {first(error)}") from error
    if chosen and run.compute == "ec2":
        _refuse_nowhere(chosen)
    if run.rollback and not run.reason.strip():
        raise UserError("ROLLBACK=true needs a reason: say why in REASON")
    if run.rollback and run.branch not in {"", BRANCH}:
        raise UserError(f"ROLLBACK=true does nothing on branch {run.branch}: start it on {BRANCH}")
    if chosen:
        _refuse_unknown(chosen.compare.scorers)
    asked = f", because {run.reason}" if run.reason else ""
    log.info("Run %s of %s as of %s (%s%s)", run.build_tag, run.model, f"{run.as_of:%Y-%m-%d}", run.trigger, asked)
    return run


def _refuse_nowhere(settings: Settings) -> None:
    """Refuse EC2 where it is not set up, before anything is spent on the way to Train."""
    _ = settings.ec2
    place.Place.find()
    place.tracking_uri()


def _refuse_unknown(scorers: set[str]) -> None:
    """Refuse metrics that scikit-learn does not know, before anything is spent on a model that they cannot judge."""
    from sklearn.metrics import get_scorer_names  # a second that a rollback does not pay

    if unknown := sorted(scorers - set(get_scorer_names())):
        raise UserError(f"training.yaml: compare names the metric {unknown[0]}, which scikit-learn does not know")


def _commit() -> str:
    """Return the commit of the work tree, or nothing outside a repository."""
    asked = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=10)
    return asked.stdout.strip()
