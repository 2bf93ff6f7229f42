"""The servers that a run starts on this machine: their records, their end, and the last messages of their logs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from continuous_training.errors import UserError
from continuous_training.serving import local_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST, SECOND = "http://127.0.0.1:8000", "http://127.0.0.1:8001"
SCRIPT = "import sys, time; print(*sys.argv[1:], flush=True); time.sleep(600)\n"

pytestmark = pytest.mark.usefixtures("workspace")


@pytest.fixture
def start(workspace: Path) -> Iterator[Callable[[str], int]]:
    """Return a function that starts a server; the server's program is a script that only sleeps."""
    (workspace / "scripts").mkdir()
    (workspace / "scripts" / "serve.py").write_text(SCRIPT)
    pids = []

    def start_server(url: str) -> int:
        pids.append(local_server.start_server(url, "toy"))
        return pids[-1]

    yield start_server
    for pid in pids:
        if psutil.pid_exists(pid):
            psutil.Process(pid).kill()


class TestStop:
    def test_without_a_port_all_servers_are_stopped(self, start: Callable[[str], int]) -> None:
        pids = [start(FIRST), start(SECOND)]
        assert local_server.stop_servers() == [FIRST, SECOND]
        assert not any(local_server.is_running(pid) for pid in pids)
        assert local_server.stop_servers() == []

    def test_with_a_port_only_that_server_is_stopped(self, start: Callable[[str], int]) -> None:
        first, second = start(FIRST), start(SECOND)
        assert local_server.stop_servers(8001) == [SECOND]
        assert local_server.is_running(first)
        assert not local_server.is_running(second)
        assert local_server.stop_servers(8001) == []
        assert local_server.started_here(FIRST)

    def test_another_process_with_the_same_id_is_not_stopped(self, start: Callable[[str], int]) -> None:
        pid = start(FIRST)
        (path,) = Path(".ct").glob("server-*.json")
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"born": record["born"] - 1}))
        assert local_server.stop_servers() == []
        assert local_server.is_running(pid)

    def test_the_record_of_an_earlier_release_is_stopped_too(self, start: Callable[[str], int]) -> None:
        pid = start(FIRST)
        (path,) = Path(".ct").glob("server-*.json")
        record = json.loads(path.read_text())
        path.unlink()
        Path(".ct/server.json").write_text(json.dumps({name: record[name] for name in ("pid", "born", "url")}))
        assert local_server.stop_servers() == [FIRST]
        assert not local_server.is_running(pid)

    @pytest.mark.parametrize(
        ("arguments", "output"),
        [
            (["http://localhost:8001"], f"the server at {SECOND} has ended\n"),
            (["--port", "8002"], "no server of this workspace runs at port 8002\n"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_the_command(self, start: Callable[[str], int], arguments: list[str], output: str) -> None:
        start(FIRST)
        start(SECOND)
        script = Path(__file__).parents[3] / "scripts" / "stop.py"
        result = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=True)
        assert result.stdout == output


def test_only_a_server_with_the_current_tracking_uri_counts_as_started_here(
    start: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    start(FIRST)
    assert local_server.started_here(FIRST)
    assert not local_server.started_here(SECOND)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example.com")
    assert not local_server.started_here(FIRST)


def test_the_port_of_another_machine_is_an_error() -> None:
    assert local_server.read_port("http://localhost:8001") == 8001
    with pytest.raises(UserError, match="http://a.example.com:8000 is not a server on this machine"):
        local_server.read_port("http://a.example.com:8000")


class TestLastMessages:
    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            ([{"level": "INFO", "message": "one"}, {"message": "two", "pid": 7}], "one / two"),
            ([{"message": "it failed", "exception": "Traceback\n  at a\nValueError: no"}], "it failed: ValueError: no"),
            ([{"message": "Traceback\n  at a\nValueError: no"}], "ValueError: no"),
            (["ct: plain words", "3", '["a"]'], 'ct: plain words / 3 / ["a"]'),
            ([{"time": "now"}, '{"message": "cut o'], '{"time": "now"} / {"message": "cut o'),
            (["one", "two", "three", "four"], "two / three / four"),
            ([], ""),
        ],
        ids=["records", "exception", "traceback", "plain", "not a record", "many", "nothing"],
    )
    def test_they_are_the_messages_of_the_last_lines(self, lines: list[Any], message: str) -> None:
        content = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
        local_server.log_path(FIRST).write_text(content)
        assert local_server.read_last_messages(FIRST) == message

    def test_without_a_log_there_are_none(self) -> None:
        assert local_server.read_last_messages(FIRST) == ""

    def test_each_server_has_its_own_log(self) -> None:
        local_server.log_path(FIRST).write_text("first\n")
        local_server.log_path(SECOND).write_text("second\n")
        assert (local_server.read_last_messages(FIRST), local_server.read_last_messages(SECOND)) == ("first", "second")
