"""The image's entry point: MLflow's server with passwords, its rows in PostgreSQL and its artifacts on S3.

It prepares the database, makes the users, and then becomes `mlflow server`. Nothing is kept on this machine's disk: on
Hugging Face that is lost at each start. All settings come from the environment; README.md beside this file lists them.
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
NEEDED = {  # each with what it looks like
    DATABASE: "postgresql://user:password@host:5432/database",
    ARTIFACTS: "s3://bucket/folder",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "12 characters or more",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "a long random text",
}
ROLES = ("ADMIN", "USER", "READER")  # MLFLOW_AUTH_<role>_USERNAME and MLFLOW_AUTH_<role>_PASSWORD
SHORTEST = 12  # characters of a password; MLflow takes no shorter one
SHIPPED = "password1234"  # by older MLflows, for every admin; MLflow lets nobody in with it

CONFIG = "MLFLOW_AUTH_CONFIG_PATH"
HOSTS, ORIGINS = "MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
OWN_HOSTS = ("mlflow", "localhost", "127.0.0.1")  # the first is the service's name in compose


class User(NamedTuple):
    """One who may log in."""

    role: str
    name: str
    password: str


class Refusal(Exception):  # noqa: N818 - what it is called for people
    """Why it does not start: one line, without any secret."""


def main() -> None:
    """Become MLflow's server, or say in one line why not."""
    try:
        address, known, port = database(os.environ), users(os.environ), listening(os.environ)
        environment = of_server(os.environ, address)
        write(Path(environment[CONFIG]), address, known[0])
        os.environ.update(environment)  # MLflow reads it when it is imported
        prepare(address, known)
    except Refusal as why:
        sys.exit(f"mlflow: {why}")
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--serve-artifacts"]
    os.execve(sys.executable, [*command, "--host", "0.0.0.0", "--port", str(port)], environment)  # noqa: S104, S606


def database(given: Mapping[str, str]) -> str:
    """Return the database's address with the driver that is installed.

    Raises:
        Refusal: something that is needed is not set, or would be kept on this disk.
    """
    if missing := [f"{name} ({example})" for name, example in NEEDED.items() if not given.get(name)]:
        raise Refusal(f"set {', '.join(missing)}")
    scheme, _, rest = given[DATABASE].partition("://")
    if scheme.partition("+")[0] not in {"postgres", "postgresql"} or not rest:
        raise Refusal(f"{DATABASE} is no address of PostgreSQL: write it as {NEEDED[DATABASE]}")
    if not given[ARTIFACTS].startswith("s3://"):
        raise Refusal(f"{ARTIFACTS} is no address on S3: write it as {NEEDED[ARTIFACTS]}")
    return f"postgresql+psycopg://{rest}"


def users(given: Mapping[str, str]) -> list[User]:
    """Return who may log in, the admin first.

    Raises:
        Refusal: a password is missing, too short, known to everybody or not plain, or a name is another's.
    """
    defaults = {"MLFLOW_AUTH_ADMIN_USERNAME": "admin"}
    found: list[User] = []
    for role in ROLES:
        name_in, password_in = f"MLFLOW_AUTH_{role}_USERNAME", f"MLFLOW_AUTH_{role}_PASSWORD"
        name, password = given.get(name_in) or defaults.get(name_in, ""), given.get(password_in, "")
        if not name and not password:
            continue
        if not name or ":" in name:  # the colon is where HTTP divides the two
            raise Refusal(f"set {name_in} to a name without a colon, as {password_in} is set")
        if len(password) < SHORTEST or password == SHIPPED:
            raise Refusal(f"set {password_in} to {SHORTEST} characters or more, not those that MLflow once shipped")
        if not password.isascii() or not password.isprintable():  # MLflow's client encodes others in two ways
            raise Refusal(f"{password_in} has characters beyond plain ASCII: choose one without")
        if name in {one.name for one in found}:
            raise Refusal(f"{name_in} is another user's name already: choose one of its own")
        found.append(User(role, name, password))
    return found


def listening(given: Mapping[str, str]) -> int:
    """Return the port.

    Raises:
        Refusal: PORT is no port.
    """
    port = given.get("PORT") or "7860"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise Refusal(f"PORT={port} is no port: set it to a number up to 65535")
    return int(port)


def of_server(given: Mapping[str, str], address: str) -> dict[str, str]:
    """Return the server's environment: no user's password is in it, and it answers to its own names alone."""
    kept = {name: value for name, value in given.items() if not name.startswith("MLFLOW_AUTH_")}
    kept[DATABASE] = address
    kept[CONFIG] = given.get(CONFIG) or str(Path.home() / ".mlflow" / "basic_auth.ini")
    space = given.get("SPACE_HOST")  # set by Hugging Face
    own = [*OWN_HOSTS, *(f"{host}:*" for host in OWN_HOSTS), *([space] if space else [])]
    kept[HOSTS] = given.get(HOSTS) or ",".join(own)
    if origins := given.get(ORIGINS) or (space and f"https://{space}"):  # MLflow's pages send it even to themselves
        kept[ORIGINS] = origins
    return kept


def write(path: Path, address: str, admin: User) -> None:
    """Write what MLflow asks for in a file; without a password, for the users are made before it starts.

    Whoever has a password may read everything, and write what he has made himself; passwords are checked against
    slow hashes, so what was right is remembered for a minute.
    """
    config = ConfigParser(interpolation=None)
    config["mlflow"] = {
        "default_permission": "READ",
        "database_uri": address.replace("%", "%%"),  # MLflow reads it with interpolation
        "admin_username": admin.name.replace("%", "%%"),
        "auth_cache_ttl_seconds": "60",
    }
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # so that the mode below is the file's, whoever wrote an older one
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        config.write(file)


def prepare(address: str, known: list[User]) -> None:
    """Bring the database up to this MLflow's tables, and the users to the passwords of this start.

    The tracking store and the users have tables, and tables of versions, of different names, so one database serves
    both. The tracking store goes first: it takes a database that has tables already for an older one of its own.

    Raises:
        Refusal: the database's address cannot be read, or lets nobody in.
    """
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        waiting = {"connect_timeout": 30}  # seconds
        engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.NullPool, connect_args=waiting)
        engine.connect().close()
    except (ArgumentError, ValueError):  # what they say could have the password in it
        raise Refusal(f"{DATABASE} is no address of PostgreSQL: write it as {NEEDED[DATABASE]}") from None
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or type(error).__name__).strip().splitlines()[-1]
        raise Refusal(f"the database of {DATABASE} cannot be used: {said}") from None

    from mlflow import db
    from mlflow.server.auth import store

    db.upgrade.main([address], standalone_mode=False)  # `mlflow db upgrade`, without the address on a command line
    store.init_db(address)  # type: ignore[no-untyped-call]
    for user in known:
        admin = user.role == "ADMIN"
        if not store.has_user(user.name):
            store.create_user(user.name, user.password, is_admin=admin)
        elif not store.authenticate_user(user.name, user.password) or store.get_user(user.name).is_admin != admin:
            store.update_user(user.name, user.password, is_admin=admin)


if __name__ == "__main__":
    main()
