"""A champion that cannot be opened: which earlier version can take its place, and the command for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuous_training.errors import UserError
from continuous_training.registry import model_versions
from continuous_training.versions.examination import Policy
from continuous_training.versions.opening import open_version

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Settings


def describe_loss(client: MlflowClient, champion: Version, settings: Settings, error: UserError) -> str:
    """Return in one line why no candidate can be compared with the champion, and the command that ends this.

    Args:
        client: of MLflow.
        champion: the champion.
        settings: the settings of the model.
        error: why it cannot be opened.
    """
    cause = " ".join(str(error).split())
    recovery = _describe_recovery(client, champion, settings)
    return (
        f"the champion, version {champion.number}, cannot be compared with: {cause}; restore it, accept "
        f"the candidate as a first one (a run with ACCEPT='the reason'), or {recovery}"
    )


def _describe_recovery(client: MlflowClient, champion: Version, settings: Settings) -> str:
    previous = model_versions.by_alias(client, champion.name, model_versions.PREVIOUS)
    for version in _earlier_champions(client, champion, previous):
        if _is_intact(version, settings):
            command = (
                f"scripts/ct rollback --model {champion.name} --reason 'version {champion.number} is lost'"
                if previous and previous.number == version.number
                else _alias_command(champion.name, version.number)
            )
            return f"go back to version {version.number}: {command}"
    return (
        "remove its alias, since no earlier version can take its place; the next candidate is then a first one: "
        + _alias_command(champion.name, None)
    )


def _earlier_champions(client: MlflowClient, champion: Version, previous: Version | None) -> list[Version]:
    """Return `previous` and the champions before, the newest first, without versions that were rolled back."""
    versions = {previous.number: previous} if previous else {}
    number = champion.replaced_version
    numbers = {champion.number}
    while number and number not in numbers:  # promotions with FORCE can make a circle
        numbers.add(number)
        version = model_versions.by_number(client, champion.name, number)
        if version is None:
            break
        versions.setdefault(number, version)
        number = version.replaced_version
    return [
        version
        for version in versions.values()
        if version.rollback_reason is None and version.number != champion.number
    ]


def _is_intact(version: Version, settings: Settings) -> bool:
    """Whether a version can be opened and predicts what it did when it was made."""
    try:
        with open_version(version.uri, Policy(version.name, settings.model), version.run_id) as opened:
            opened.check_golden_predictions()
    except UserError:
        return False
    return True


def _alias_command(model: str, number: str | None) -> str:
    """Return the command that moves or removes the alias: a rollback only goes back to `previous`."""
    program = (
        "from continuous_training.registry import alias_moves, connection; "
        f"alias_moves.set_champion(connection.open_client(), {model!r}, {number!r})"
    )
    return f'.venv/bin/python -c "{program}"'
