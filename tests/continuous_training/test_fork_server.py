"""The fork server: verbs run as its forks, like separate processes; without a compatible server they run alone."""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from conftest import RECEIVES_SIGINT, TIMEOUT
from continuous_training.fork_server import client

CLIENT = client.__file__
MODULE = "colorsys"  # no other module imports it: only a fork of the server has it
IN_FORK = f"import sys; print('{MODULE}' in sys.modules)"


class Run:
    """The workspace and the cookie of one run."""

    def __init__(self, folder: Path, modules: tuple[str, ...] = (MODULE,)) -> None:
        self.folder, self.modules = folder, modules
        (folder / "scripts").mkdir(exist_ok=True)
        (folder / "src").mkdir(exist_ok=True)
        self.cookie = str(uuid.uuid4())
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != client.SWITCH},
            client.COOKIE: self.cookie,
        }

    def write(self, name: str, script: str) -> str:
        path = self.folder / "scripts" / f"{name}.py"
        if not path.exists() or path.read_text() != script:
            path.write_text(script)
        return f"scripts/{name}.py"

    def launch(self, **environment: str) -> None:
        """Start the server like the first verb does."""
        start = f"import runpy; runpy.run_path({CLIENT!r})['start']({self.modules!r})"
        subprocess.run(
            [*RECEIVES_SIGINT, sys.executable, "-IS", "-c", start],
            cwd=self.folder,
            env=self.environment | environment,
            check=True,
        )

    def start(self, **environment: str) -> psutil.Process:
        """Start the server and wait until it listens."""
        self.launch(**environment)
        wait(lambda: self.server is not None and any((self.folder / client.FOLDER).glob("*.socket")))
        assert self.server
        return self.server

    @property
    def server(self) -> psutil.Process | None:
        """The server's process, which is the parent of its forks."""
        processes = [process for process in psutil.process_iter() if self.is_server(process)]
        return min(processes, key=lambda process: process.create_time()) if processes else None

    def is_server(self, process: psutil.Process) -> bool:
        try:
            command = process.cmdline()
            return (
                process.status() != psutil.STATUS_ZOMBIE and client.SERVER in command and self.is_in_workspace(process)
            )
        except psutil.Error:
            return False

    def is_in_workspace(self, process: psutil.Process) -> bool:
        return Path(process.cwd()) == self.folder

    def popen(self, script: str, *arguments: str, name: str = "verb", **options) -> subprocess.Popen[str]:
        options = {"stdin": subprocess.DEVNULL, "env": self.environment} | options
        return subprocess.Popen(
            [*RECEIVES_SIGINT, sys.executable, "-IS", CLIENT, self.write(name, script), *arguments],
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **options,
        )

    def verb(self, script: str, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
        content = options.pop("input", None)
        with self.popen(script, *arguments, **options) as process:
            out, err = process.communicate(content, timeout=TIMEOUT)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def forks(self, **options) -> bool:
        """Return whether a verb runs as a fork of the server."""
        return self.verb(IN_FORK, **options).stdout == "True\n"


@pytest.fixture(autouse=True)
def default_signals():
    """Handle the signals that processes started by nohup or in the background, and their children, ignore."""
    handlers = {number: signal.signal(number, lambda *_: sys.exit(1)) for number in (signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def run(tmp_path: Path):
    """Return a run whose script exists before the server starts, because a new file is new code."""
    run = Run(tmp_path)
    run.write("verb", IN_FORK)
    yield run
    if server := run.server:
        server.kill()


def wait(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timeout: the condition is not true"
        time.sleep(0.02)


class TestForks:
    def test_a_fork_has_the_modules_that_the_server_imported(self, run) -> None:
        run.start()
        assert run.forks()

    def test_a_fork_has_the_arguments_environment_folder_and_streams_of_its_caller(self, run) -> None:
        script = """
import json, os, sys
print(json.dumps([sys.argv, dict(os.environ), os.getcwd(), sys.path[0], sys.stdin.read()]))
print("to standard error", file=sys.stderr)
sys.exit(7)
"""
        run.write("verb", script)
        run.start(START_SECRET="of the first verb")
        environment = run.environment | {"SECRET": "of this verb", "ODD": "\udcff"}
        environment.pop("SHELL", None)
        process = run.verb(script, "one", "two words", env=environment, input="a line", stdin=subprocess.PIPE)
        arguments, variables, folder, path, content = json.loads(process.stdout)
        assert arguments == ["scripts/verb.py", "one", "two words"]
        assert variables == environment
        assert (folder, path, content) == (str(run.folder), "scripts", "a line")
        assert (process.stderr, process.returncode) == ("to standard error\n", 7)

    def test_a_module_runs_as_with_python_m(self, run) -> None:
        (run.folder / "module.py").write_text(f"{IN_FORK}; print(sys.argv[1:], sys.path[0], __name__)\n")
        run.start()
        command = client.command("-m", "module", "one", "two words")
        process = subprocess.run(
            command,
            cwd=run.folder,
            env=run.environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            start_new_session=True,
        )
        assert process.stdout == f"True\n['one', 'two words'] {run.folder} __main__\n"

    def test_an_error_has_the_exit_code_and_traceback_of_a_separate_process(self, run) -> None:
        script = "raise RuntimeError('broken')"
        run.write("verb", script)
        run.start()
        process = run.verb(script)
        assert process.returncode == 1
        assert process.stderr.endswith("RuntimeError: broken\n")

    def test_forks_draw_different_random_numbers(self, run) -> None:
        script = "import numpy, random; print(numpy.random.random(), random.random())"
        run.write("verb", script)
        run.modules = ("numpy", "random")
        run.start()
        first, second = run.verb(script).stdout.split(), run.verb(script).stdout.split()
        assert not set(first) & set(second)

    def test_two_forks_run_at_the_same_time(self, run) -> None:
        script = """
import pathlib, sys, time
own, other = sys.argv[1:]
pathlib.Path(own).touch()
while not pathlib.Path(other).exists():
    time.sleep(0.01)
"""
        run.write("verb", script)
        run.start()
        with run.popen(script, "a", "b") as first, run.popen(script, "b", "a") as second:
            assert (first.wait(60), second.wait(60)) == (0, 0)


class TestSignals:
    SLEEPS = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
pathlib.Path("pid").write_text(str(__import__("os").getpid()))
try:
    time.sleep(60)
finally:
    time.sleep(0.3)
    pathlib.Path("cleaned").touch()
"""

    def begin(self, run: Run, script: str = SLEEPS, stdin=subprocess.DEVNULL):
        run.write("verb", script)
        run.start()
        process = run.popen(script, stdin=stdin)
        wait(lambda: (run.folder / "pid").exists() and (run.folder / "pid").read_text())
        return process, psutil.Process(int((run.folder / "pid").read_text()))

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
    def test_a_signal_reaches_the_verb_which_cleans_up_before_its_caller_ends(self, run, number, code) -> None:
        process, _ = self.begin(run)
        process.send_signal(number)
        with process:
            assert process.wait(60) == code
        assert (run.folder / "cleaned").exists()

    def test_a_signal_that_kills_the_verb_ends_its_caller_too(self, run) -> None:
        process, verb = self.begin(run)
        verb.kill()
        with process:
            assert process.wait(60) == -signal.SIGKILL

    def test_a_verb_and_its_children_end_when_its_caller_is_killed(self, run) -> None:
        script = self.SLEEPS.replace("try:", "child = __import__('subprocess').Popen(['sleep', '60'])\ntry:")
        process, verb = self.begin(run, script)
        wait(lambda: verb.children())
        processes = [verb, *verb.children()]
        process.kill()
        process.communicate()
        psutil.wait_procs(processes, timeout=TIMEOUT)
        assert not [
            process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        ]

    def test_a_verb_ends_with_its_supervisor(self, run) -> None:
        process, verb = self.begin(run)
        verb.parent().kill()
        with process:
            assert process.wait(60) == client.KILL_EXIT_CODE
            assert "was killed" in process.stderr.read()
        psutil.wait_procs([verb], timeout=TIMEOUT)
        assert not verb.is_running()

    def test_the_end_of_the_server_does_not_end_a_verb(self, run) -> None:
        process, _ = self.begin(run, self.SLEEPS.replace("time.sleep(60)", "sys.stdin.readline()"), subprocess.PIPE)
        server = run.server
        server.kill()
        server.wait(30)
        process.communicate("go on\n", timeout=TIMEOUT)
        assert process.returncode == 0
        assert (run.folder / "cleaned").exists()


class TestSeparateProcesses:
    """Without a compatible server, a verb runs as a separate process."""

    def test_without_a_server_a_verb_runs_as_a_separate_process(self, run) -> None:
        process = run.verb(IN_FORK)
        assert (process.stdout, process.returncode) == ("False\n", 0)

    def test_the_socket_of_a_killed_server_is_ignored_and_replaced(self, run) -> None:
        server = run.start()
        server.kill()
        server.wait(30)
        assert any((run.folder / client.FOLDER).glob("*.socket"))
        assert not run.forks()
        run.start()
        assert run.forks()

    @pytest.mark.parametrize("path", ["src/model.py", "scripts/other.py", "requirements.lock"])
    def test_a_server_with_older_code_is_not_used(self, run, path) -> None:
        (run.folder / path).write_text("one")
        run.start()
        assert run.forks()
        (run.folder / path).write_text("two")
        assert not run.forks()

    @pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "PYTHONWARNINGS", "MLFLOW_LOGGING_LEVEL", "TZ"])
    def test_a_server_whose_libraries_read_other_variables_is_not_used(self, run, name) -> None:
        run.start()
        assert not run.forks(env=run.environment | {name: "3" if name == "OMP_NUM_THREADS" else "default"})
        assert run.forks(env=run.environment | {"MLFLOW_RUN_ID": "one"})

    @pytest.mark.parametrize(
        "change",
        [
            lambda: os.umask(0o077),
            lambda: os.nice(1),
            lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
            lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)),
            lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
        ],
        ids=["umask", "priority", "core", "files", "ignored signals"],
    )
    def test_a_server_with_other_limits_is_not_used(self, run, change) -> None:
        run.start()
        if change.__code__.co_names[-1] == "RLIMIT_CORE" and resource.getrlimit(resource.RLIMIT_CORE) == (0, 0):
            pytest.skip("there are no core files here")
        assert not run.forks(preexec_fn=change)
        assert run.forks()

    def test_a_server_with_threads_is_not_used(self, run) -> None:
        run.modules = (MODULE, "duckdb")
        run.start()
        wait(lambda: run.server.num_threads() > 1)
        assert not run.forks()

    def test_a_server_that_cannot_import_its_modules_is_not_used(self, run) -> None:
        run.modules = ("no_such_module",)
        run.launch()
        wait(lambda: any("no_such_module" in log.read_text() for log in (run.folder / client.FOLDER).glob("*.log")))
        process = run.verb(IN_FORK)
        assert (process.stdout, process.returncode) == ("False\n", 0)

    def test_a_server_whose_folder_other_users_can_enter_is_not_used(self, run) -> None:
        run.start()
        (run.folder / client.FOLDER).chmod(0o755)
        assert not run.forks()

    def test_the_server_of_another_run_is_not_used(self, run) -> None:
        run.start()
        assert not run.forks(env=run.environment | {client.COOKIE: "another"})


class TestLifeOfTheServer:
    @pytest.mark.parametrize(
        "change", [{client.SWITCH: "0"}, {client.COOKIE: "dontKillMe"}, {client.COOKIE: None}], ids=str
    )
    def test_it_is_used_neither_outside_a_run_nor_with_its_switch_off(self, monkeypatch, change) -> None:
        monkeypatch.setenv(client.COOKIE, "one")
        monkeypatch.delenv(client.SWITCH, raising=False)
        for name, value in change.items():
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
        assert not client.is_usable()

    def test_it_is_not_used_with_debug(self, run) -> None:
        run.start()
        assert run.verb(IN_FORK, "--debug").stdout == "False\n"

    def test_it_is_not_used_in_a_terminal_whose_signals_would_not_reach_a_fork(self, run) -> None:
        run.start()
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(run.folder)
            os.execve(sys.executable, [sys.executable, "-IS", CLIENT, "scripts/verb.py"], run.environment)
        output = b""
        while b"\n" not in output:
            output += os.read(terminal, 100)
        os.waitpid(pid, 0)
        assert output == b"False\r\n"

    def test_the_first_verb_starts_it_and_the_last_one_ends_it(self, run) -> None:
        client_source = Path(CLIENT).read_text().replace("MODULES = (", f"MODULES = ('{MODULE}',)\n_ = (", 1)
        (run.folder / "client.py").write_text(client_source)
        for name in ("setup", "verb", "report"):
            run.write(name, IN_FORK)

        def verb(name: str) -> str:
            command = [sys.executable, "-IS", "client.py", f"scripts/{name}.py"]
            options = {
                "cwd": run.folder,
                "env": run.environment,
                "start_new_session": True,
                "stdin": subprocess.DEVNULL,
            }
            return subprocess.run(command, **options, capture_output=True, text=True, check=True).stdout.strip()

        assert verb("setup") == "False"
        wait(lambda: any((run.folder / client.FOLDER).glob("*.socket")))
        wait(lambda: verb("verb") == "True")
        server = run.server
        assert verb("setup") == "True"  # as in the next month of a replay
        assert run.server == server
        assert verb("report") == "True"
        psutil.wait_procs([server], timeout=TIMEOUT)
        assert not server.is_running()
        assert not any((run.folder / client.FOLDER).glob("*.socket"))

    def test_two_runs_at_once_have_separate_servers(self, run) -> None:
        first = run.start()
        run.environment[client.COOKIE] = str(uuid.uuid4())
        run.start()
        wait(run.forks)
        wait(lambda: run.forks(env=run.environment | {client.COOKIE: run.cookie}))
        second = next(other for other in psutil.process_iter() if run.is_server(other) and other.pid != first.pid)
        second.kill()

    def test_its_environment_has_the_cookie_of_its_run_and_no_secret(self, run) -> None:
        server = run.start(MLFLOW_TRACKING_PASSWORD="secret", AWS_SECRET_ACCESS_KEY="secret", SERVING_TOKEN="secret")
        environment = server.environ()
        assert environment[client.COOKIE] == run.cookie
        assert "secret" not in environment.values()

    def test_only_its_user_can_connect(self, run) -> None:
        run.start()
        folder = run.folder / client.FOLDER
        (socket_file,) = folder.glob("*.socket")
        assert (folder.stat().st_mode & 0o777, socket_file.stat().st_mode & 0o777) == (0o700, 0o600)

    def test_it_ends_when_its_workspace_is_removed(self, run) -> None:
        server = run.start()
        (socket_file,) = (run.folder / client.FOLDER).glob("*.socket")
        socket_file.unlink()
        psutil.wait_procs([server], timeout=TIMEOUT)
        assert not server.is_running()


@pytest.mark.integration(seconds=60)
def test_a_model_is_fitted_in_forks_of_a_server_with_all_modules(tmp_path) -> None:
    """OpenMP and the thread pools of pyarrow and DuckDB start in the forks, without a deadlock."""
    script = """
import sys
import duckdb, mlflow, numpy as np, pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
rows = pd.DataFrame(np.random.default_rng(0).random((20_000, 5))).rename(columns=str)
model = HistGradientBoostingClassifier(max_iter=20).fit(rows, rows["0"] > 0.5)
duckdb.sql("from rows select avg(columns(*))").fetchall()
rows.to_parquet(sys.argv[1])
print(model.score(pd.read_parquet(sys.argv[1]), rows["0"] > 0.5) > 0.9, 'skops.io' in sys.modules)
"""
    run = Run(tmp_path, client.MODULES)
    run.write("verb", script)
    last = f"import sys; print('{client.MODULES[-1]}' in sys.modules)"
    run.write("last", last)
    server = run.start()
    try:
        wait(lambda: run.verb(last, name="last").stdout == "True\n", seconds=120)
        for number in range(3):
            assert run.verb(script, f"{number}.parquet").stdout == "True True\n"
    finally:
        server.kill()
