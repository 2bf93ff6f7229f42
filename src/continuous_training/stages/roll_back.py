"""Roll back: make the previous version the champion again, and put the model on hold.

The other version is not promoted again without FORCE, and nothing like it by a run that trains on the same rows.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import requests

from continuous_training.documents import Rollback, Stopwatch
from continuous_training.errors import UserError
from continuous_training.registry import connection, holds, model_versions, promotion
from continuous_training.registry.alias_moves import Withdrawal
from continuous_training.serving.exposure import end_exposure
from continuous_training.serving.rollout import rollout
from continuous_training.serving.rollout.client import read_server_urls, read_status
from continuous_training.settings import load_settings
from continuous_training.stages.hold import make_hold
from continuous_training.versions.examination import Policy
from continuous_training.versions.opening import read_golden_predictions

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.registry.model_versions import Version

log = logging.getLogger(__name__)

REASON_LENGTH = 1000  # it shares a tag with the rest of the lock's claim


def roll_back(
    client: MlflowClient, model: str, reason: str, timer: Stopwatch, *, hold: bool = True, by: str | None = None
) -> tuple[Rollback, list[str]]:
    """Make `previous` the champion, write the reason on the old champion, and wait until the servers follow.

    Unless `hold` is false, the model is on hold from then on, by the person who started this or by `by`. A hold that it
    has stays.

    No server is started. Servers that do not follow are returned beside the document, one line each: the alias stays
    moved, and they follow when they can.

    Raises:
        UserError: there is no champion, or no version before it; or another run is promoting.
    """
    servers = read_server_urls()
    number = promotion.read_aliases(client, model).champion
    withdrawn = model_versions.by_number(client, model, number) if number else None
    if withdrawn is None:
        raise UserError(f"{model} has no champion, so there is nothing to roll back")
    with promotion.lock(client, model, timer.build_tag, f"rolling back version {withdrawn.number}") as lock:
        restored = _before(client, model, withdrawn)
        earlier = (
            model_versions.by_number(client, model, restored.replaced_version) if restored.replaced_version else None
        )
        end_exposure(client, model)  # of a deployment that was killed: it would serve requests in place of the champion
        lock.write_move(
            Withdrawal(
                version=withdrawn.number,
                run_id=withdrawn.run_id,
                reason=connection.clip(reason, REASON_LENGTH),
                champion=restored.number,
                previous=earlier.number
                if earlier and earlier.rollback_reason is None and earlier.number != withdrawn.number
                else None,
                hold=make_hold(f"version {withdrawn.number} was rolled back: {reason}", by=by) if hold else None,
            )
        )
    log.info(
        "Version %s of %s is champion, in place of version %s: %s", restored.number, model, withdrawn.number, reason
    )
    following, errors = _follow(client, restored, servers)
    rollback = Rollback(
        name=model,
        model_version=restored.number,
        rolled_back_version=withdrawn.number,
        reason=reason,
        servers=following,
        hold=holds.find_if_readable(client, model),
        **timer.stop(),
    )
    return rollback, errors


def _before(client: MlflowClient, model: str, withdrawn: Version) -> Version:
    """Return the version to go back to, while the lock is held.

    It is `previous`, or the champion if acquiring the lock has reverted an interrupted promotion of `withdrawn`.
    """
    aliases = promotion.read_aliases(client, model)
    number = aliases.previous if aliases.champion == withdrawn.number else aliases.champion
    restored = model_versions.by_number(client, model, number) if number else None
    if restored is None or restored.number == withdrawn.number:
        raise UserError(
            f"there is no version of {model} before version {withdrawn.number}: train one, or set its aliases by hand"
        )
    if restored.rollback_reason is not None:
        raise UserError(
            f"version {restored.number} of {model}, the one before version {withdrawn.number}, was rolled back itself "
            f"({restored.rollback_reason}): set the alias champion by hand"
        )
    return restored


def _follow(client: MlflowClient, version: Version, servers: list[str]) -> tuple[list[str], list[str]]:
    """Wait for each server; return the addresses of those that serve the version, and an error for each other one."""
    expected = model_versions.registry_identity(client, version.name)
    following, errors = [], []
    for url in servers:
        try:
            _check(url, version, expected)
        except Exception as error:  # of any kind: the alias has moved, and the other servers still have to be checked
            errors.append(str(error) if isinstance(error, UserError) else f"{url} cannot be checked: {error}")
        else:
            following.append(url)
            log.info("%s serves version %s with the same predictions as offline", url, version.number)
    return following, errors


def _check(url: str, version: Version, expected: str | None) -> None:
    try:
        status = read_status(url)
    except requests.ConnectionError as error:
        raise UserError(f"no server answers at {url}") from error
    if (status["model"], status["registry"]) != (version.name, expected):
        raise UserError(f"{url} is a server of another model or registry")
    policy = Policy(version.name, load_settings(version.name).model)
    rollout.wait_and_verify(url, version.number, *read_golden_predictions(version.uri, policy, version.run_id))
