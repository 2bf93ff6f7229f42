"""The client of the run's fork server; `ct` starts it in place of `python` for each verb.

    python -IS client.py SCRIPT [ARGUMENTS]
    python -IS client.py -m MODULE [ARGUMENTS]

It imports only modules that start fast.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROTOCOL = 1
ACCEPTED, START = b"+", b"!"
FOLDER = ".ct/fork_server"
SWITCH = "CT_FORK_SERVER"
COOKIE = "JENKINS_NODE_COOKIE"  # Jenkins and `ct run` give each build one, and `ct replay` its stages
OWNER_VARIABLES = (COOKIE, "BUILD_ID", "CT_REPLAY")  # by which the processes of a build or a replay are found
FIRST, LAST = "setup.py", "report.py"  # the first verb of a run starts the server, the last one ends it

# In the order in which a run needs them. The server accepts clients between two imports, so the dependencies of a large
# module come before it. DuckDB is excluded, and modules that import it: its import starts threads, and a fork lacks the
# threads of its parent.
MODULES = (
    *("continuous_training.settings", "psutil", "pyarrow.parquet", "pyarrow.compute", "pandas", "requests"),
    *("sklearn.utils.discovery", "skops.io"),  # which searches all modules that are imported before it, several times
    *("sqlalchemy.orm", "alembic", "scipy.sparse", "fastapi", "opentelemetry.sdk.trace", "jinja2"),
    *("mlflow", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
    *("opentelemetry.sdk.metrics.export", "mlflow.projects", "mlflow.sklearn", "mlflow.pyfunc"),
    *("scipy.special", "scipy.optimize", "scipy.interpolate", "scipy.stats", "sklearn.base", "sklearn.metrics"),
    *("sklearn.pipeline", "sklearn.linear_model", "sklearn.ensemble", "ibis", "pytest"),
)
# Prefixes of variables that libraries read at their import: they must have the same values for caller and server
IMPORT_VARIABLES = (
    *("ARROW_", "GOMP_", "HOME", "KMP_", "LANG", "LC_", "LD_", "MKL_", "NO_COLOR", "NUMEXPR_", "OMP_", "OPENBLAS_"),
    *("PYTHON", "SKLEARN_", "TEMP", "TERM", "TMP", "TZ", "USER"),
)
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # Threads of scikit-learn that wait for each other sleep: on cores with other work a fit took 10 times as long
    "OMP_WAIT_POLICY": "PASSIVE",
}
STATUS = ("Uid:", "Gid:", "Groups:", "Umask:", "CapEff:", "NoNewPrivs:", "SigBlk:", "SigIgn:", "Cpus_allowed:")

CONNECT_SECONDS = 30  # after which a client starts the verb without the server
FORWARDED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
KILL_EXIT_CODE = 128 + signal.SIGKILL
SERVER = "import sys; from continuous_training.fork_server import server; server.serve(*sys.argv[1:])"

is_fork = False  # whether this process is a fork of a server


def command(*arguments: str) -> list[str]:
    """Return the command `python ARGUMENTS` that runs as a fork where possible; see `main`."""
    return [sys.executable, "-IS", __file__, *arguments]


def main(script: str, *arguments: str) -> NoReturn:
    """Run a script: as a fork of the run's server if a compatible one runs, else as a separate process."""
    name = os.path.basename(script)
    if is_usable(arguments):
        run(script, arguments, last=name == LAST)
        if name == FIRST:  # and no compatible one runs
            start()
    os.execv(sys.executable, [sys.executable, script, *arguments])  # noqa: S606 - a list, no shell


def is_usable(arguments: Iterable[str] = ()) -> bool:
    """Return whether this is a process of a run, on a system on which forks are safe, and without a terminal."""
    cookie = os.environ.get(COOKIE, "dontKillMe")
    if is_fork or sys.platform != "linux" or cookie == "dontKillMe":
        return False
    if os.environ.get(SWITCH) == "0" or "--debug" in arguments:
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return True
    return False  # a terminal signals its foreground group, and forks of the server are not in it


def start(modules: Iterable[str] = MODULES) -> None:
    """Start the server of this run, which imports modules while the first verbs run."""
    os.makedirs(FOLDER, mode=0o700, exist_ok=True)
    environment = _import_variables() | {name: os.environ[name] for name in OWNER_VARIABLES if name in os.environ}
    with open(_path("log"), "wb") as log:
        subprocess.Popen(
            [sys.executable, "-c", SERVER, _path("socket"), fingerprint(), *modules],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment,
        )


def run(script: str, arguments: Iterable[str] = (), *, last: bool = False) -> None:
    """Run a script as a fork of the run's server, and exit with its code; return if there is no compatible server.

    Args:
        script: its path.
        arguments: its arguments.
        last: whether the server ends with it.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(CONNECT_SECONDS)
        try:
            check_folder(os.lstat(FOLDER))
            connection.connect(_path("socket"))
            check_peer(connection)
            request = [fingerprint(), [script, *arguments], os.getcwd(), dict(os.environ), last]
            content = json.dumps(request).encode()
            socket.send_fds(connection, [struct.pack("!I", len(content))], [0, 1, 2])
            connection.sendall(content)
            if connection.recv(1) != ACCEPTED:
                return
            connection.sendall(START)
        except OSError:  # no server, or no response: without START it runs nothing
            return
        for number in FORWARDED_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, _: send(connection, bytes([number])))
        connection.settimeout(None)
        status = connection.recv(4)
    if len(status) < struct.calcsize("!i"):
        print(f"ct: error: the process that ran {script} was killed", file=sys.stderr)
        sys.exit(KILL_EXIT_CODE)
    code = os.waitstatus_to_exitcode(*struct.unpack("!i", status))
    if code < 0:  # end by the same signal
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def fingerprint() -> str:
    """Return a hash of all state that a fork of the server inherits from the server and not from its caller.

    The state is the code, the packages, the interpreter, the variables that imports read, and the process's limits,
    rights and namespaces. Files count by path, size and time: hashing their content would take longer than a start.
    """
    folder = os.path.dirname(sys.executable)
    packages = f"{folder}/../lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    with open("/proc/self/status") as status, open("/proc/self/limits") as limits, open("/proc/self/cgroup") as group:
        rights = [line for line in status if line.startswith(STATUS)]
        parts: list[object] = [PROTOCOL, sys.version, sys.executable, rights, limits.read(), group.read()]
    parts += [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "pid", "user")]
    parts.append(os.getpriority(os.PRIO_PROCESS, 0))
    parts.append(sorted(_import_variables().items()))
    for path in ("requirements.lock", "pyproject.toml", packages, f"{folder}/../.set-up"):
        with contextlib.suppress(FileNotFoundError):
            parts.append(_state(path, os.stat(path)))
    parts += sorted(_files("scripts")) + sorted(_files("src"))
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _files(folder: str) -> Iterator[tuple[Any, ...]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if entry.name != "__pycache__":
                    yield from _files(entry.path)
            else:
                yield _state(entry.path, entry.stat())


def _state(path: str, status: os.stat_result) -> tuple[Any, ...]:
    return path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _import_variables() -> dict[str, str]:
    """Return the variables that libraries read when they are imported; no secret is among them."""
    return {name: os.environ.get(name, value) for name, value in DEFAULTS.items()} | {
        name: value for name, value in os.environ.items() if name.startswith(IMPORT_VARIABLES)
    }


def _path(suffix: str) -> str:
    """Return the path of a file of this run's server; relative, because a socket's path is limited to 107 bytes."""
    run = hashlib.sha256(os.environ[COOKIE].encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{FOLDER}/{run}.{suffix}"


def check_folder(folder: os.stat_result) -> None:
    """Raise a PermissionError if other users can enter the sockets' folder."""
    if not stat.S_ISDIR(folder.st_mode) or folder.st_uid != os.geteuid() or folder.st_mode & 0o077:
        raise PermissionError(f"{FOLDER} is open to other users")


def check_peer(connection: socket.socket) -> None:
    """Raise a PermissionError if the peer of a connection is another user's."""
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if user != os.geteuid():
        raise PermissionError("the other end of the socket is another user's")


def send(connection: socket.socket, content: bytes) -> None:
    """Send a message if the connection is still open."""
    with contextlib.suppress(OSError):
        connection.sendall(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
