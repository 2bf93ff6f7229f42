"""Shell scripts as processes: started in a session of their own, followed, and ended with all they have started."""

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

from jenkinsfile.builds.interruption import POLL, Interruption
from jenkinsfile.builds.results import StepError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

GRACE = 5.0  # seconds between SIGTERM and SIGKILL
BUILD_COOKIE = "JENKINS_NODE_COOKIE"  # marks the processes of a build; whoever changes it outlives the build
STEP_COOKIE = "JENKINS_SERVER_COOKIE"  # marks the processes of one step


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
    """Run a shell script as Jenkins does and give its exit code and, if asked to capture it, its standard output.

    Output goes to a file that is followed: a daemon that the script leaves behind holds nothing up. The scope's end
    ends the script and all its processes, and raises the scope's cause. StepError: it could not be started.
    """
    temporary.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="durable-", dir=temporary) as folder:
        cookie = Path(folder).name
        output, captured, file = Path(folder, "log"), Path(folder, "output"), Path(folder, "script.sh")
        file.write_text(script)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        with output.open("wb") as sink, captured.open("wb") as aside, output.open("rb") as followed:
            try:
                process = subprocess.Popen(
                    _command(script, file),
                    cwd=directory,
                    env={**environment, STEP_COOKIE: cookie},
                    stdin=subprocess.DEVNULL,
                    stdout=aside if capture else sink,
                    stderr=sink,
                    start_new_session=True,
                )
            except OSError as error:
                raise StepError(f"the script cannot be started: {error}") from None
            while process.returncode is None:
                try:
                    process.wait(timeout=POLL)
                except subprocess.TimeoutExpired:
                    if interruption.cause:
                        own = {STEP_COOKIE: cookie, BUILD_COOKIE: environment.get(BUILD_COOKIE)}
                        end(_family(process, own[BUILD_COOKIE]))
                        process.wait()
                        end_marked(own)
                write(followed.read())
        interruption.check()
        return process.returncode, captured.read_bytes()


def marked(variables: Mapping[str, str | None]) -> list[psutil.Process]:
    """Give all processes, this one apart, whose environment has these values."""
    own = os.getpid()
    return [one for one in psutil.process_iter() if one.pid != own and _has(one, variables)]


def end(processes: Iterable[psutil.Process], grace: float = GRACE) -> int:
    """End processes: politely at first, after the grace by force. Gives how many there were."""
    alive = [process for process in processes if _send(process, signal.SIGTERM)]
    number, deadline = len(alive), time.monotonic() + grace
    while alive and time.monotonic() < deadline:
        time.sleep(POLL / 5)
        alive = [process for process in alive if _runs(process)]
    for process in alive:
        _send(process, signal.SIGKILL)
    return number


def end_marked(variables: Mapping[str, str | None]) -> int:
    """End all processes whose environment has these values, those too that they start meanwhile. Gives their number."""
    number = 0
    while found := marked(variables):
        number += end(found)
    return number


def _command(script: str, file: Path) -> list[str]:
    if script.startswith("#!"):
        return [*shlex.split(script.partition("\n")[0][2:]), str(file)]
    return ["sh", "-xe", str(file)]


def _family(process: subprocess.Popen[bytes], cookie: str | None) -> list[psutil.Process]:
    """Give a process and all below it that have not changed the build's cookie to outlive it."""
    try:
        leader = psutil.Process(process.pid)
        family = [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    return [member for member in family if _has(member, {BUILD_COOKIE: cookie}) or _has(member, {BUILD_COOKIE: None})]


def _has(process: psutil.Process, variables: Mapping[str, str | None]) -> bool:
    """Tell whether a process has all these values in its environment (None: it lacks the variable)."""
    try:
        environment = process.environ()
    except (psutil.Error, OSError):  # it has gone, or belongs to somebody else
        return False
    return all(environment.get(name) == value for name, value in variables.items())


def _send(process: psutil.Process, number: signal.Signals) -> bool:
    try:
        process.send_signal(number)
    except psutil.Error:
        return False
    return True


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
