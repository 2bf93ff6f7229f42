"""A source: which connector is asked for which streams, in a YAML file of jenkins/ingest/."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import Field, JsonValue, ValidationError

from continuous_training import environments
from continuous_training.documents import Value, first_error
from continuous_training.errors import UsageError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path("jenkins", "ingest")
SECRET = "secret_reference::"  # noqa: S105 - as PyAirbyte writes that a value is in the variable of this name


class Stream(Value):
    """What the connector does not say of a stream itself: the columns that tell a row, and the one that grows."""

    key: tuple[str, ...] = ()
    cursor: str | None = None


class Source(Value):
    """The whole of the file. `environment` is a folder beside it with the lock of the connector's packages."""

    connector: str
    environment: str | None = None
    config: dict[str, JsonValue] = Field(default_factory=dict)
    streams: dict[str, Stream] = Field(min_length=1)
    into: str | None = None

    @property
    def secrets(self) -> dict[str, str]:
        """What stands in the variables that the config names.

        Raises:
            UserError: one of them is not set.
        """
        names = list(dict.fromkeys(_named(self.config)))
        if missing := [name for name in names if not os.environ.get(name)]:
            raise UserError(f"{self.connector} wants {', '.join(missing)}: set it in the environment")
        return {name: os.environ[name] for name in names}

    @property
    def executable(self) -> Path:
        """Where the connector is; its environment is made first if need be.

        Raises:
            UserError: it is not there, or its environment cannot be made.
        """
        if self.environment is None:
            found = shutil.which(self.connector)
            if found is None:
                raise UserError(f"there is no executable {self.connector}: install it, or name its environment")
            return Path(found).absolute()
        lock = FOLDER / self.environment / environments.LOCK
        executable = environments.python(lock).parent / self.connector
        if not executable.exists():
            raise UserError(f"the environment of {lock} has no executable {self.connector}")
        return executable


def load(name: str) -> Source:
    """Read jenkins/ingest/<name>.yaml.

    Raises:
        UsageError: there is no such file.
        UserError: it is malformed.
    """
    path = FOLDER / f"{name}.yaml"
    known = sorted(found.stem for found in FOLDER.glob("*.yaml"))
    if name not in known:
        raise UsageError(f"there is no source {name}; those in {FOLDER} are: {', '.join(known) or 'none'}")
    try:
        return Source.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        raise UserError(f"{path}: {first_error(error)}") from error


def filled(config: JsonValue, secrets: dict[str, str]) -> JsonValue:
    """Return a config with these values in place of their names."""
    if isinstance(config, dict):
        return {name: filled(part, secrets) for name, part in config.items()}
    if isinstance(config, list):
        return [filled(part, secrets) for part in config]
    return secrets[config.removeprefix(SECRET)] if isinstance(config, str) and config.startswith(SECRET) else config


def _named(config: JsonValue) -> Iterator[str]:
    """Give the names of the variables in a config."""
    if isinstance(config, str) and config.startswith(SECRET):
        yield config.removeprefix(SECRET)
    elif isinstance(config, dict | list):
        for part in config.values() if isinstance(config, dict) else config:
            yield from _named(part)
