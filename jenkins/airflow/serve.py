"""The image's entry point: Airflow's scheduler, DAG processor and API server, which run and end together.

A container host restarts a container that has ended, but does not notice if one of three processes has. All settings
come from the environment and are listed in README.md.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSWORD, CONNECTION = "AIRFLOW_ADMIN_PASSWORD", "AIRFLOW_CONN_JENKINS_DEFAULT"
REQUIRED = {  # each with an example
    PASSWORD: "12 characters or more",
    CONNECTION: '{"conn_type": "jenkins", "host": …, "port": …, "login": "pinger", "password": …}',
}
MIN_LENGTH = 12  # of a password
ADMIN = "admin"
PORT = "AIRFLOW__API__PORT"
COMPONENTS = {  # no triggerer: no DAG uses deferrable operators
    "dag-processor": [],
    "scheduler": ["--skip-serve-logs"],  # the API server reads the log files
    "api-server": ["--proxy-headers"],
}


class ConfigurationError(Exception):
    """Airflow cannot start: one line, without any secret."""


def main() -> None:
    """Run Airflow until a component ends or the container is stopped, or exit with a one-line error."""
    try:
        check(os.environ)
    except ConfigurationError as error:
        sys.exit(f"airflow: {error}")
    environment = airflow_environment(os.environ)
    write_password(Path(environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]), os.environ[PASSWORD])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    airflow = [sys.executable, "-m", "airflow"]
    subprocess.run([*airflow, "db", "migrate"], env=environment, check=True)
    processes = [subprocess.Popen([*airflow, name, *options], env=environment) for name, options in COMPONENTS.items()]
    names = dict(zip((process.pid for process in processes), COMPONENTS, strict=True))
    try:
        while (pid := os.wait()[0]) not in names:  # as process 1 it also reaps orphans
            pass
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
    sys.exit(f"airflow: {names[pid]} has exited")


def check(variables: Mapping[str, str]) -> None:
    """Check the settings.

    Raises:
        ConfigurationError: a required variable is missing or invalid.
    """
    if missing := [f"{name} ({example})" for name, example in REQUIRED.items() if not variables.get(name)]:
        raise ConfigurationError(f"set {', '.join(missing)}")
    if len(variables[PASSWORD]) < MIN_LENGTH:
        raise ConfigurationError(f"set {PASSWORD} to {MIN_LENGTH} characters or more")
    try:
        connection = json.loads(variables[CONNECTION])
        is_complete = all(connection.get(part) for part in ("conn_type", "host", "port", "login", "password"))
    except (ValueError, AttributeError):
        is_complete = False
    if not is_complete:  # without a port the provider requests http://host:None
        raise ConfigurationError(f"{CONNECTION} is not a complete connection: write it as {REQUIRED[CONNECTION]}")


def airflow_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return Airflow's environment, without the admin's password."""
    environment = {name: value for name, value in variables.items() if name != PASSWORD}
    space = variables.get("SPACE_HOST")  # set by Hugging Face
    home = Path(variables.get("AIRFLOW_HOME") or Path.home() / "airflow")
    return {
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{variables.get(PORT) or 8080}/execution/",
        **({"AIRFLOW__API__BASE_URL": f"https://{space}"} if space else {}),
        **environment,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
    }


def write_password(path: Path, password: str) -> None:
    """Write the password to the file that Airflow reads; without it Airflow generates one and prints it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # so that the file gets the mode below
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        json.dump({ADMIN: password}, file)


if __name__ == "__main__":
    main()
