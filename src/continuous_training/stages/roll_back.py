"""Roll back: the champion gives its place back to the version before it, and is not promoted again by itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import requests

from continuous_training.documents import Rollback, Stopwatch
from continuous_training.errors import UserError
from continuous_training.registry import connection, model_versions, promotion
from continuous_training.registry.alias_moves import Withdrawal
from continuous_training.serving import exposure
from continuous_training.serving.rollout import client as questions
from continuous_training.serving.rollout import rollout
from continuous_training.versions import golden_predictions

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.registry.model_versions import Version

log = logging.getLogger(__name__)

REASON_LENGTH = 1000  # it shares a tag with the rest of an announcement


def roll_back(client: MlflowClient, model: str, reason: str, timer: Stopwatch) -> tuple[Rollback, list[str]]:
    """Make `previous` the champion, say on the version that was it why, and see the servers answer with the old one.

    No server is started here. Those that do not answer are told in a line each, beside the document: the alias stays
    where it was moved to, and they follow when they can.

    Raises:
        UserError: there is no champion, or none before it; or another run is promoting.
    """
    number = promotion.look(client, model).champion
    bad = model_versions.by_number(client, model, number) if number else None
    if bad is None:
        raise UserError(f"{model} has no champion, so there is nothing to roll back")
    with promotion.turn(client, model, timer.build_tag, f"rolling back version {bad.number}") as turn:
        good = _before(client, model, bad)
        older = model_versions.by_number(client, model, good.replaced) if good.replaced else None
        exposure.end(client, model)  # a deployment that was killed may have left one, which would answer in its place
        turn.announce(
            Withdrawal(
                version=bad.number,
                run_id=bad.run_id,
                reason=connection.clip(reason, REASON_LENGTH),
                champion=good.number,
                previous=older.number if older and older.rolled_back is None and older.number != bad.number else None,
            )
        )
    log.info("Version %s of %s is champion, in place of version %s: %s", good.number, model, bad.number, reason)
    answering, silent = _follow(client, good, questions.servers())
    made = Rollback(
        name=model, model_version=good.number, rolled_back=bad.number, reason=reason, servers=answering, **timer.stop()
    )
    return made, silent


def _before(client: MlflowClient, model: str, bad: Version) -> Version:
    """Return the version to go back to, in a turn: `previous`, or the champion if `bad` has lost its place meanwhile.

    That happens when the turn began with undoing the promotion of `bad`, which had been cut off.
    """
    now = promotion.look(client, model)
    number = now.previous if now.champion == bad.number else now.champion
    good = model_versions.by_number(client, model, number) if number else None
    if good is None or good.number == bad.number:
        raise UserError(
            f"there is no version of {model} before version {bad.number}: train one, or set its aliases by hand"
        )
    if good.rolled_back is not None:
        raise UserError(
            f"version {good.number} of {model}, the one before version {bad.number}, was rolled back itself "
            f"({good.rolled_back}): set the alias champion by hand"
        )
    return good


def _follow(client: MlflowClient, version: Version, servers: list[str]) -> tuple[list[str], list[str]]:
    """Wait for each server; return the addresses of those that answer with a version, and what is wrong with others."""
    expected = model_versions.identity(client, version.name)
    answering, wrong = [], []
    for url in servers:
        try:
            _check(url, version, expected)
        except Exception as error:  # whatever it is: the alias has moved, and the next server is waited for too
            wrong.append(str(error) if isinstance(error, UserError) else f"{url} cannot be checked: {error}")
        else:
            answering.append(url)
            log.info("%s answers with version %s, as it did offline", url, version.number)
    return answering, wrong


def _check(url: str, version: Version, expected: str | None) -> None:
    try:
        told = questions.told(url)
    except requests.ConnectionError as error:
        raise UserError(f"no server answers at {url}") from error
    if (told["model"], told["registry"]) != (version.name, expected):
        raise UserError(f"{url} is a server of another model or registry")
    rollout.follow(url, version.number, *golden_predictions.kept(version.run_id))
