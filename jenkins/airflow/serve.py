"""The image's entry point: Airflow's scheduler, DAG processor and API server, which live and end together.

A container host starts again what has ended; that one of three is missing, it would not see. All settings come from the
environment; README.md beside this file lists them.
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
NEEDED = {  # each with what it looks like
    PASSWORD: "12 characters or more",
    CONNECTION: '{"conn_type": "jenkins", "host": …, "port": …, "login": "pinger", "password": …}',
}
SHORTEST = 12  # characters of a password: everybody may try
ADMIN = "admin"
PORT = "AIRFLOW__API__PORT"
COMPONENTS = {  # no triggerer: no DAG here defers
    "dag-processor": [],
    "scheduler": ["--skip-serve-logs"],  # the API server reads them where they are
    "api-server": ["--proxy-headers"],
}


class Refusal(Exception):  # noqa: N818 - what it is called for people
    """Why it does not start: one line, without any secret."""


def main() -> None:
    """Be Airflow until one of its components ends or the container is stopped, or say in one line why not."""
    try:
        check(os.environ)
    except Refusal as why:
        sys.exit(f"airflow: {why}")
    environment = of_airflow(os.environ)
    write(Path(environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]), os.environ[PASSWORD])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    airflow = [sys.executable, "-m", "airflow"]
    subprocess.run([*airflow, "db", "migrate"], env=environment, check=True)
    running = [subprocess.Popen([*airflow, name, *how], env=environment) for name, how in COMPONENTS.items()]
    names = dict(zip((process.pid for process in running), COMPONENTS, strict=True))
    try:
        while (ended := os.wait()[0]) not in names:  # what others left behind becomes the first process's to bury
            pass
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    sys.exit(f"airflow: its {names[ended]} has ended")


def check(given: Mapping[str, str]) -> None:
    """See that everything is there.

    Raises:
        Refusal: something that is needed is not set, is no connection, or is too short.
    """
    if missing := [f"{name} ({example})" for name, example in NEEDED.items() if not given.get(name)]:
        raise Refusal(f"set {', '.join(missing)}")
    if len(given[PASSWORD]) < SHORTEST:
        raise Refusal(f"set {PASSWORD} to {SHORTEST} characters or more")
    try:
        connection = json.loads(given[CONNECTION])
        whole = all(connection.get(part) for part in ("conn_type", "host", "port", "login", "password"))
    except (ValueError, AttributeError):
        whole = False
    if not whole:  # the provider makes «http://host:None» of one without a port
        raise Refusal(f"{CONNECTION} is no whole connection: write it as {NEEDED[CONNECTION]}")


def of_airflow(given: Mapping[str, str]) -> dict[str, str]:
    """Return Airflow's environment, in which the admin's password is not."""
    kept = {name: value for name, value in given.items() if name != PASSWORD}
    space = given.get("SPACE_HOST")  # set by Hugging Face
    home = Path(given.get("AIRFLOW_HOME") or Path.home() / "airflow")
    return {
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{given.get(PORT) or 8080}/execution/",
        **({"AIRFLOW__API__BASE_URL": f"https://{space}"} if space else {}),
        **kept,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
    }


def write(path: Path, password: str) -> None:
    """Write the password where Airflow looks for it, which else makes one up and prints it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # so that the mode below is the file's, whoever wrote an older one
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        json.dump({ADMIN: password}, file)


if __name__ == "__main__":
    main()
