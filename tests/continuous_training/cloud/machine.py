"""The hypervisor: it boots each new instance by running its user data with bash, and ends terminated instances."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from cloud.aws import Aws
from cloud.metadata_service import POWER_PATH, MetadataService

ROOT = Path(__file__).parents[3]

MARKER = "TEST_MACHINE"  # variable in the environment of all processes of a machine, in any session
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GRACE_SECONDS = 3.0  # from SIGTERM to SIGKILL
POLL_SECONDS = 0.1

INITIATED = "Client.InstanceInitiatedShutdown", "Instance initiated shutdown"
INTERRUPTED = "Server.SpotInstanceTermination", "Spot instance termination"

STUB = """#!/bin/sh
exec curl -sS --fail-with-body --noproxy '*' --max-time 10 --data-raw "{command} $*" {endpoint}{path}
"""


class Machine:
    """The processes of an instance's user data, from `boot` until `stop`; `model` is moto's instance.

    A minute of `shutdown -P +N` lasts `minute` seconds.
    """

    def __init__(self, model: Any, folder: Path, minute: float, sts: Any) -> None:
        self.model = model
        self.id = str(model.id)
        self.folder = folder
        self.root = folder / "opt"  # CT_ROOT of the machine
        self.console = folder / "console"
        self._minute = minute
        self._process: subprocess.Popen[bytes] | None = None
        self._timers: dict[str, threading.Timer] = {}
        self._lock = threading.Lock()
        self._stopped = False
        self._metadata = MetadataService(model, sts, self._power)
        for path in (self.root, folder / "stubs", folder / "tmp"):
            path.mkdir(parents=True)
        self.console.touch()
        for command in ("shutdown", "poweroff"):
            stub = folder / "stubs" / command
            stub.write_text(STUB.format(command=command, endpoint=self._metadata.endpoint, path=POWER_PATH))
            stub.chmod(0o755)

    def boot(self, user_data: bytes, extra: dict[str, str]) -> None:
        """Run the user data as cloud-init does: once, and only with a #! line."""
        if not user_data.startswith(b"#!"):
            self.console.write_text("cloud-init: Unhandled non-multipart (text/x-not-multipart) userdata\n")
            return
        script = self.folder / "user-data"
        script.write_bytes(user_data)
        environment = {
            **extra,  # first, because without the stubs in PATH it would shut down this machine
            "PATH": f"{self.folder / 'stubs'}:{SYSTEM_PATH}",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
            "CT_ROOT": str(self.root),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self._metadata.endpoint,
            MARKER: self.id,
        }
        with self._lock, self.console.open("ab") as console:
            if self._stopped:
                return
            self._process = subprocess.Popen(
                ["bash", script],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self) -> list[int]:
        """Return the ids of the machine's processes, in its session and in others."""
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if self._owns(int(path.name))]

    def interrupt(self, notice: float) -> None:
        """Interrupt a spot instance: announce it now, end it after `notice` seconds."""
        end = datetime.now(UTC) + timedelta(seconds=notice)
        self._metadata.instance_action = json.dumps({"action": "terminate", "time": f"{end:%FT%TZ}"})
        self._schedule("interruption", notice, lambda: self.stop(INTERRUPTED))

    def stop(self, reason: tuple[str, str] | None = None, grace: float = 0.0) -> None:
        """End the machine: SIGTERM, SIGKILL after `grace` seconds. Then end its instance, unless AWS has."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            for name in list(self._timers):
                self._cancel(name)
            self._kill(grace)
            self._metadata.close()
            if reason is None or self.model.state != "running":
                return
            if reason is INITIATED and self.model.instance_initiated_shutdown_behavior == "stop":
                self.model.stop()
            else:
                self.model.terminate()
            code, message = reason
            self.model.state_reason.code, self.model.state_reason.message = code, f"{code}: {message}"

    def _kill(self, grace: float) -> None:
        """Kill all processes, including those in other sessions and those that just start."""
        deadline = time.monotonic() + grace
        if grace:
            self._send(signal.SIGTERM)
        while time.monotonic() < deadline and self.model.state == "running" and self.processes():
            time.sleep(POLL_SECONDS / 2)
        while self._send(signal.SIGKILL):
            time.sleep(POLL_SECONDS / 10)
        if self._process:
            self._process.wait()

    def _send(self, number: signal.Signals) -> list[int]:
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        return processes

    def _owns(self, process: int) -> bool:
        """Return whether a process belongs to this machine and is no zombie, by few reads: tests ask often."""
        try:
            if self._process is None:
                return False
            if os.getsid(process) != self._process.pid:
                variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
                if f"{MARKER}={self.id}".encode() not in variables:
                    return False
            return Path(f"/proc/{process}/stat").read_bytes().rpartition(b") ")[2][:1] != b"Z"
        except OSError:  # it has ended
            return False

    def _power(self, words: list[str]) -> str | None:
        """Run `shutdown` and `poweroff` as systemd does: now, in +N minutes, or -c to cancel."""
        command, *arguments = words
        options = {word for word in arguments if word.startswith("-")}
        if unknown := options - {"-P", "-h", "-c", "-f", "--poweroff", "--force", "--no-wall"}:
            return f"{command}: unknown option {min(unknown)}\n"
        when = next((word for word in arguments if word not in options), "now" if command == "poweroff" else "+1")
        if "-c" in options:
            self._cancel("shutdown")
            return None
        if when != "now" and not when.removeprefix("+").isdigit():
            return f"{command}: Failed to parse time specification: {when}\n"
        minutes = 0 if when == "now" else int(when)
        self._schedule("shutdown", minutes * self._minute, lambda: self.stop(INITIATED, GRACE_SECONDS))
        return None

    def _schedule(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        self._cancel(name)
        self._timers[name] = threading.Timer(seconds, callback)
        self._timers[name].daemon = True
        self._timers[name].start()

    def _cancel(self, name: str) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()


class Machines:
    """All machines of the account, each with its own folder in `folder`.

    A test can set, before an instance is launched: `extra` environment variables; whether machines are `baked`, with
    the packages of `venv` for this project's lock in CT_ROOT; `prepare`, which is called with CT_ROOT before the boot;
    and whether they boot at all (`boots`).
    """

    def __init__(
        self,
        aws: Aws,
        folder: Path,
        venv: Path,
        minute: float = 60.0,
        *,
        extra: dict[str, str] | None = None,
        baked: bool = True,
        boots: bool = True,
        prepare: Callable[[Path], None] | None = None,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.extra = extra or {}
        self.baked = baked
        self.boots = boots
        self.prepare = prepare
        self._aws = aws
        self._folder = folder
        self._venv = venv
        self._minute = minute
        self._log = log
        self._machines: dict[str, Machine] = {}
        self._terminated: set[str] = set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        for machine in self._machines.values():
            machine.stop()

    def running(self) -> dict[str, list[int]]:
        """Return the process ids of each machine that has processes."""
        running = {name: machine.processes() for name, machine in list(self._machines.items())}
        return {name: processes for name, processes in running.items() if processes}

    def console(self, instance: str) -> str:
        """Return the output of the user data so far."""
        return self._machines[instance].console.read_text(errors="replace")

    def folder(self, instance: str) -> Path:
        """Return the machine's folder; CT_ROOT is `opt` in it."""
        return self._machines[instance].folder

    def interrupt(self, instance: str, notice: float = 2.0) -> None:
        """Interrupt a spot instance, `notice` seconds (AWS: 120) after its metadata announce it."""
        self._machines[instance].interrupt(notice)

    def _watch(self) -> None:
        while not self._closing.wait(POLL_SECONDS):
            for model in self._aws.ec2.all_instances():
                if model.id not in self._machines and model.state == "running":
                    self._start(model)
                elif model.id in self._machines and model.state != "running" and model.id not in self._terminated:
                    self._terminated.add(model.id)
                    threading.Thread(target=self._machines[model.id].stop).start()
                    self._log(f"{model.id} is {model.state}: {model.state_reason.message}")

    def _start(self, model: Any) -> None:
        machine = Machine(model, self._folder / model.id, self._minute, self._aws.client("sts"))
        self._machines[machine.id] = machine
        self._aws.consoles[machine.id] = machine.console
        if self.baked:
            (machine.root / "venv").symlink_to(self._venv)
            lock = hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()
            (machine.root / "venv.lock").write_text(f"{lock}\n")
        if self.prepare:
            self.prepare(machine.root)
        if self.boots:
            attribute = self._aws.client("ec2").describe_instance_attribute(InstanceId=machine.id, Attribute="userData")
            machine.boot(base64.b64decode(attribute["UserData"].get("Value", "")), self.extra)
        self._log(f"{machine.id} is running: {model.instance_type} {model.lifecycle or 'on demand'}, {machine.folder}")
