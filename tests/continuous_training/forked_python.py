"""A Python for tests that starts in a tenth of a second: each of its programs is a fork of one process.

That process is a run's fork server. It has imported the packages that take seconds, and nothing of this project: a
program imports the code that its own folder or PYTHONPATH holds. It has also filled the caches that take long.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

from continuous_training.fork_server import client, server

PACKAGE = "continuous_training"
MODULES = (
    *(name for name in client.MODULES if not name.startswith(PACKAGE)),
    *("mlflow.cli", "mlflow.server", "boto3", "evidently", "matplotlib.pyplot"),
)
CACHES = """
import inspect, sys
from mlflow.utils import requirements_utils
inspect.getmodule(sys._getframe())  # the files of all modules, which pydantic looks for
requirements_utils._init_packages_to_modules_map()  # the files of all packages, when MLflow stores a model
"""
LIMIT = 600  # seconds for one program
FINGERPRINT = "any"  # the server fits every client

CLIENT = """#!{interpreter} -IS
import os, sys
sys.path.append({source!r})
from continuous_training.fork_server import client
client.FOLDER, client.fingerprint, client._path = {folder!r}, lambda: {fingerprint!r}, {folder!r}.__add__
program, *arguments = sys.argv
if arguments[0] == "-IS":  # what the client of a run's server starts, which this client replaces
    arguments = arguments[2:]
if arguments[0] == "-m" or not arguments[0].startswith("-"):
    client.run({script!r}, [program, *arguments])
program = os.path.join({bin!r}, os.path.basename(program))  # the server does not know the option, or did not respond
os.execv(program, [program, *arguments])
"""


class ForkedPython:
    """The fork server, with the programs in the folder `venv`/bin that start as forks of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.venv = folder, folder / "venv"
        self.python, self.mlflow = (self.venv / "bin" / name for name in ("python", "mlflow"))

    def command(self, *arguments: str) -> list[str]:
        """Return the command `python ARGUMENTS`; it replaces that of the client of a run's fork server."""
        return [str(self.python), *arguments]

    def run(self, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `python ARGUMENTS` to its end."""
        command = [self.python, *arguments]
        return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=LIMIT)

    def __enter__(self) -> Self:
        sockets = self.folder / client.FOLDER
        sockets.mkdir(mode=0o700, parents=True)
        self.python.parent.mkdir(parents=True)
        script = CLIENT.format(
            interpreter=Path(sys.executable).resolve(),
            source=str(Path(client.__file__).parents[2]),
            folder=f"{sockets}/",
            fingerprint=FINGERPRINT,
            script=__file__,
            bin=str(Path(sys.executable).parent),
        )
        for program in (self.python, self.mlflow):
            program.write_text(script)
            program.chmod(0o755)
        self.python.with_name("python3").symlink_to(Path(sys.executable).resolve())
        (self.venv / "extras").symlink_to(Path(sys.prefix, "extras"))  # what is installed for its programs
        (self.folder / "caches.py").write_text(CACHES)
        serve = [sys.executable, "-c", client.SERVER, f"{client.FOLDER}/socket", FINGERPRINT, *MODULES, "caches"]
        with (sockets / "log").open("wb") as log:
            self._server = subprocess.Popen(
                ["env", "--default-signal=INT", *serve],
                cwd=self.folder,
                env=os.environ | client.DEFAULTS,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.wait()


def main(program: str, *arguments: str) -> None:
    """Run a program of `venv`/bin in a fork of the server; what it starts by sys.executable is a fork too."""
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    if Path(program).name != "python":
        arguments = (str(Path(sys.executable).with_name(Path(program).name)), *arguments)
    sys.executable = str(Path(program).with_name("python"))
    sys.path[1:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    server._run(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
