"""A source: a connector, its configuration and its streams, from a YAML file in jenkins/ingest/."""

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
SECRET = "secret_reference::"  # noqa: S105 - PyAirbyte's notation for the value of an environment variable


class Stream(Value):
    """What the connector does not declare for a stream: its primary key, and its cursor column."""

    key: tuple[str, ...] = ()
    cursor: str | None = None


class Source(Value):
    """The content of the file. `environment` is a folder beside it with the lock of the connector's packages."""

    connector: str
    environment: str | None = None
    config: dict[str, JsonValue] = Field(default_factory=dict)
    streams: dict[str, Stream] = Field(min_length=1)
    into: str | None = None

    @property
    def secrets(self) -> dict[str, str]:
        """The values of the environment variables that the configuration refers to.

        Raises:
            UserError: one of them is not set.
        """
        names = list(dict.fromkeys(_secret_names(self.config)))
        if missing := [name for name in names if not os.environ.get(name)]:
            raise UserError(f"{self.connector} needs {', '.join(missing)}: set it in the environment")
        return {name: os.environ[name] for name in names}

    @property
    def executable(self) -> Path:
        """The connector's executable; its environment is created first if necessary.

        Raises:
            UserError: there is no such executable, or its environment cannot be created.
        """
        if self.environment is None:
            path = shutil.which(self.connector)
            if path is None:
                raise UserError(f"there is no executable {self.connector}: install it, or name its environment")
            return Path(path).absolute()
        lock = FOLDER / self.environment / environments.LOCK
        executable = environments.ensure_python(lock).parent / self.connector
        if not executable.exists():
            raise UserError(f"the environment of {lock} has no executable {self.connector}")
        return executable


def load_source(name: str) -> Source:
    """Read jenkins/ingest/<name>.yaml.

    Raises:
        UsageError: there is no such file.
        UserError: it is malformed.
    """
    path = FOLDER / f"{name}.yaml"
    names = sorted(file.stem for file in FOLDER.glob("*.yaml"))
    if name not in names:
        raise UsageError(f"there is no source {name}; the sources in {FOLDER} are: {', '.join(names) or 'none'}")
    try:
        return Source.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        raise UserError(f"{path}: {first_error(error)}") from error


def insert_secrets(config: JsonValue, secrets: dict[str, str]) -> JsonValue:
    """Return a configuration with the secrets' values in place of their references."""
    if isinstance(config, dict):
        return {name: insert_secrets(part, secrets) for name, part in config.items()}
    if isinstance(config, list):
        return [insert_secrets(part, secrets) for part in config]
    return secrets[config.removeprefix(SECRET)] if isinstance(config, str) and config.startswith(SECRET) else config


def _secret_names(config: JsonValue) -> Iterator[str]:
    """Yield the names of the environment variables that a configuration refers to."""
    if isinstance(config, str) and config.startswith(SECRET):
        yield config.removeprefix(SECRET)
    elif isinstance(config, dict | list):
        for part in config.values() if isinstance(config, dict) else config:
            yield from _secret_names(part)
