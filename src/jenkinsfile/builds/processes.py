"""Runs shell scripts as processes in separate sessions, and terminates them together with their descendants."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from jenkinsfile.builds.interruption import POLL_INTERVAL, Interruption
from jenkinsfile.builds.results import StepError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

GRACE_PERIOD = 5.0  # seconds between SIGTERM and SIGKILL
EXEC_TIMEOUT = 1.0  # seconds that a process may take to load its program
BUILD_COOKIE = "JENKINS_NODE_COOKIE"  # identifies the processes of a build; one that changes it survives
STEP_COOKIE = "JENKINS_SERVER_COOKIE"  # identifies the processes of one step


def run_script(
    script: str,
    *,
    directory: Path,
    environment: Mapping[str, str],
    temporary: Path,
    interruption: Interruption,
    write: Callable[[bytes], None],
    capture: bool = False,
) -> tuple[int, bytes]:
    """Run a shell script as Jenkins does. Returns its exit code and, with `capture`, its standard output.

    The output goes to a file that is read repeatedly, so that a daemon that keeps its output open does not block the
    step. An interruption terminates the script with all its processes, and its cause is raised. Raises StepError if
    the script cannot be started.
    """
    temporary.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="durable-", dir=temporary) as folder:
        cookie = Path(folder).name
        log, output, file = Path(folder, "log"), Path(folder, "output"), Path(folder, "script.sh")
        file.write_text(script)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        with log.open("wb") as log_writer, output.open("wb") as output_writer, log.open("rb") as log_reader:
            try:
                process = subprocess.Popen(
                    _command(script, file),
                    cwd=directory,
                    env={**environment, STEP_COOKIE: cookie},
                    stdin=subprocess.DEVNULL,
                    stdout=output_writer if capture else log_writer,
                    stderr=log_writer,
                    start_new_session=True,
                )
            except OSError as error:
                raise StepError(f"the script cannot be started: {error}") from None
            while process.returncode is None:
                try:
                    process.wait(timeout=POLL_INTERVAL)
                except subprocess.TimeoutExpired:
                    if interruption.cause:
                        cookies = {STEP_COOKIE: cookie, BUILD_COOKIE: environment.get(BUILD_COOKIE)}
                        terminate(_process_tree(process, cookies[BUILD_COOKIE]))
                        process.wait()
                        terminate_matching(cookies)
                write(log_reader.read())
        interruption.check()
        return process.returncode, output.read_bytes()


def find_processes(variables: Mapping[str, str | None]) -> list[psutil.Process]:
    """Return all processes but this one whose environment has these values."""
    own_pid = os.getpid()
    return [
        process for process in psutil.process_iter() if process.pid != own_pid and _has_variables(process, variables)
    ]


def terminate(processes: Iterable[psutil.Process], grace_period: float = GRACE_PERIOD) -> int:
    """Send SIGTERM, and SIGKILL to what is alive after the grace period. Returns the number of processes."""
    alive = [process for process in processes if _send_signal(process, signal.SIGTERM)]
    number, deadline = len(alive), time.monotonic() + grace_period
    while alive and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL / 5)
        alive = [process for process in alive if _is_alive(process)]
    for process in alive:
        _send_signal(process, signal.SIGKILL)
    return number


def terminate_matching(variables: Mapping[str, str | None]) -> int:
    """Terminate all processes whose environment has these values, and those that they start meanwhile.

    Returns the number of processes.
    """
    number = 0
    while processes := find_processes(variables):
        number += terminate(processes)
    return number


def _command(script: str, file: Path) -> list[str]:
    if script.startswith("#!"):
        return [*shlex.split(script.partition("\n")[0][2:]), str(file)]
    return ["sh", "-xe", str(file)]


def _process_tree(process: subprocess.Popen[bytes], cookie: str | None) -> list[psutil.Process]:
    """Return a process and its descendants, except for those that changed the build's cookie to survive it."""
    try:
        leader = psutil.Process(process.pid)
        tree = [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    cookies: list[dict[str, str | None]] = [{BUILD_COOKIE: cookie}, {BUILD_COOKIE: None}]
    return [member for member in tree if any(_has_variables(member, variables) for variables in cookies)]


def _has_variables(process: psutil.Process, variables: Mapping[str, str | None]) -> bool:
    """Return whether the environment of a process has all these values (None: the variable is not set)."""
    try:
        environment = _read_environment(process)
    except (psutil.Error, OSError):  # it has ended, or belongs to another user
        return False
    return all(environment.get(name) == value for name, value in variables.items())


def _read_environment(process: psutil.Process) -> dict[str, str]:
    """Return the environment of a process, once it is there: in the midst of an exec, Linux shows an empty one."""
    deadline = time.monotonic() + EXEC_TIMEOUT
    environment, loading = process.environ(), True
    while not environment and loading and time.monotonic() < deadline:
        if loading := _is_loading(process):
            time.sleep(POLL_INTERVAL / 20)
        environment = process.environ()  # also if it has just become one with arguments
    return environment


def _is_loading(process: psutil.Process) -> bool:
    """Return whether a process has a program and not yet arguments; kernel threads and zombies have no program."""
    return bool(process.exe()) and not process.cmdline()


def _send_signal(process: psutil.Process, number: signal.Signals) -> bool:
    try:
        process.send_signal(number)
    except psutil.Error:
        return False
    return True


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
