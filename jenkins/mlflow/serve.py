"""The image's entry point: MLflow's server with authentication, on PostgreSQL and S3.

It prepares the database, creates the users, and executes `mlflow server`. Nothing is stored on this machine's disk,
which a Hugging Face Space loses at each start. All settings come from the environment and are listed in README.md.
"""

from __future__ import annotations

import os
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

DATABASE, ARTIFACTS = "MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"
REQUIRED = {  # each with an example
    DATABASE: "postgresql://user:password@host:5432/database",
    ARTIFACTS: "s3://bucket/folder",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "12 characters or more",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "a long random text",
}
ROLES = ("ADMIN", "USER", "READER")  # MLFLOW_AUTH_<role>_USERNAME and MLFLOW_AUTH_<role>_PASSWORD
MIN_LENGTH = 12  # of a password; MLflow requires it
DEFAULT_PASSWORD = "password1234"  # noqa: S105 - of older MLflow versions; MLflow refuses it

CONFIG = "MLFLOW_AUTH_CONFIG_PATH"
HOSTS, ORIGINS = "MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
DEFAULT_HOSTS = ("mlflow", "localhost", "127.0.0.1")  # `mlflow` is the service in compose.yaml


class User(NamedTuple):
    """A user of MLflow."""

    role: str
    name: str
    password: str


class ConfigurationError(Exception):
    """The server cannot start: one line, without any secret."""


def main() -> None:
    """Execute MLflow's server, or exit with a one-line error."""
    try:
        address, users, port = database_url(os.environ), read_users(os.environ), read_port(os.environ)
        environment = server_environment(os.environ, address)
        write_config(Path(environment[CONFIG]), address, users[0])
        os.environ.update(environment)  # MLflow reads it on import
        prepare_database(address, users)
    except ConfigurationError as error:
        sys.exit(f"mlflow: {error}")
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--serve-artifacts"]
    os.execve(sys.executable, [*command, "--host", "0.0.0.0", "--port", str(port)], environment)  # noqa: S104, S606


def database_url(variables: Mapping[str, str]) -> str:
    """Return the database's URL with the installed driver.

    Raises:
        ConfigurationError: a required variable is missing, or names a store on this machine's disk.
    """
    if missing := [f"{name} ({example})" for name, example in REQUIRED.items() if not variables.get(name)]:
        raise ConfigurationError(f"set {', '.join(missing)}")
    scheme, _, rest = variables[DATABASE].partition("://")
    if scheme.partition("+")[0] not in {"postgres", "postgresql"} or not rest:
        raise ConfigurationError(f"{DATABASE} is not a PostgreSQL URL: write it as {REQUIRED[DATABASE]}")
    if not variables[ARTIFACTS].startswith("s3://"):
        raise ConfigurationError(f"{ARTIFACTS} is not an S3 URL: write it as {REQUIRED[ARTIFACTS]}")
    return f"postgresql+psycopg://{rest}"


def read_users(variables: Mapping[str, str]) -> list[User]:
    """Return the users, the admin first.

    Raises:
        ConfigurationError: a password is missing, too short, a known default or not ASCII; or a name is used twice.
    """
    defaults = {"MLFLOW_AUTH_ADMIN_USERNAME": "admin"}
    users: list[User] = []
    for role in ROLES:
        name_variable, password_variable = f"MLFLOW_AUTH_{role}_USERNAME", f"MLFLOW_AUTH_{role}_PASSWORD"
        name, password = (
            variables.get(name_variable) or defaults.get(name_variable, ""),
            variables.get(password_variable, ""),
        )
        if not name and not password:
            continue
        if not name or ":" in name:  # HTTP separates name and password by a colon
            raise ConfigurationError(f"{password_variable} is set: set {name_variable} to a name without a colon")
        if len(password) < MIN_LENGTH or password == DEFAULT_PASSWORD:
            raise ConfigurationError(
                f"set {password_variable} to {MIN_LENGTH} characters or more, and not to MLflow's old default"
            )
        if not password.isascii() or not password.isprintable():  # MLflow's clients encode others inconsistently
            raise ConfigurationError(f"{password_variable} has characters other than printable ASCII: choose another")
        if name in {user.name for user in users}:
            raise ConfigurationError(f"{name_variable} is the name of another user: choose a different one")
        users.append(User(role, name, password))
    return users


def read_port(variables: Mapping[str, str]) -> int:
    """Return the port.

    Raises:
        ConfigurationError: PORT is not a port number.
    """
    port = variables.get("PORT") or "7860"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigurationError(f"PORT={port} is not a port: set it to a number from 1 to 65535")
    return int(port)


def server_environment(variables: Mapping[str, str], address: str) -> dict[str, str]:
    """Return the server's environment, without the users' passwords, and with the host names that it accepts."""
    environment = {name: value for name, value in variables.items() if not name.startswith("MLFLOW_AUTH_")}
    environment[DATABASE] = address
    environment[CONFIG] = variables.get(CONFIG) or str(Path.home() / ".mlflow" / "basic_auth.ini")
    space = variables.get("SPACE_HOST")  # set by Hugging Face
    hosts = [*DEFAULT_HOSTS, *(f"{host}:*" for host in DEFAULT_HOSTS), *([space] if space else [])]
    environment[HOSTS] = variables.get(HOSTS) or ",".join(hosts)
    if origins := variables.get(ORIGINS) or (
        space and f"https://{space}"
    ):  # MLflow's pages send an Origin header even to themselves
        environment[ORIGINS] = origins
    return environment


def write_config(path: Path, address: str, admin: User) -> None:
    """Write the configuration that MLflow reads from a file. It needs no password, because the users exist already.

    Every user may read everything and write their own entities. Password hashes are slow, so a successful check is
    cached for a minute.
    """
    config = ConfigParser(interpolation=None)
    config["mlflow"] = {
        "default_permission": "READ",
        "database_uri": address.replace("%", "%%"),  # MLflow reads it with interpolation
        "admin_username": admin.name.replace("%", "%%"),
        "auth_cache_ttl_seconds": "60",
    }
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # so that the file gets the mode below
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        config.write(file)


def prepare_database(address: str, users: list[User]) -> None:
    """Upgrade the database's schema to this MLflow version, and create or update the users.

    The tracking store and the users have different tables, including their version tables, so they share one database.
    The tracking store comes first: it treats a database with any tables as its own older schema.

    Raises:
        ConfigurationError: the database's URL is invalid, or the connection is refused.
    """
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        timeout = {"connect_timeout": 30}  # seconds
        engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.NullPool, connect_args=timeout)
        engine.connect().close()
    except (ArgumentError, ValueError):  # their messages may contain the password
        raise ConfigurationError(f"{DATABASE} is not a PostgreSQL URL: write it as {REQUIRED[DATABASE]}") from None
    except SQLAlchemyError as error:
        message = str(getattr(error, "orig", None) or type(error).__name__).strip().splitlines()[-1]
        raise ConfigurationError(f"the database of {DATABASE} cannot be used: {message}") from None

    from mlflow import db
    from mlflow.server.auth import store

    db.upgrade.main([address], standalone_mode=False)  # `mlflow db upgrade`, without the URL on a command line
    store.init_db(address)  # type: ignore[no-untyped-call]
    for user in users:
        is_admin = user.role == "ADMIN"
        if not store.has_user(user.name):
            store.create_user(user.name, user.password, is_admin=is_admin)
        elif not store.authenticate_user(user.name, user.password) or store.get_user(user.name).is_admin != is_admin:
            store.update_user(user.name, user.password, is_admin=is_admin)


if __name__ == "__main__":
    main()
