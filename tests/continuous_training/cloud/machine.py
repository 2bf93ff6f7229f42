"""The hypervisor: it boots each new instance by executing its user data with bash, and ends what AWS says has ended."""

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

import psutil

from cloud.aws import Aws
from cloud.metadata_service import POWER, Metadata

ROOT = Path(__file__).parents[3]

MARK = "TEST_MACHINE"  # in the environment of every process of a machine, wherever it went
USUAL = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GRACE = 3.0  # seconds from SIGTERM to SIGKILL
PAUSE = 0.1  # seconds between two looks at the instances

INITIATED = "Client.InstanceInitiatedShutdown", "Instance initiated shutdown"
INTERRUPTED = "Server.SpotInstanceTermination", "Spot instance termination"

BUTTON = """#!/bin/sh
exec curl -sS --fail-with-body --noproxy '*' --max-time 10 --data-raw "{command} $*" {endpoint}{path}
"""


class Machine:
    """A machine: the processes of an instance's user data, from `boot` until `off`. `model` is moto's instance.

    A minute of `shutdown -P +N` lasts `minute` seconds.
    """

    def __init__(self, model: Any, folder: Path, minute: float, sts: Any) -> None:
        self.model = model
        self.id = str(model.id)
        self.folder = folder
        self.root = folder / "opt"  # what the machine sees as CT_ROOT
        self.console = folder / "console"
        self._minute = minute
        self._process: subprocess.Popen[bytes] | None = None
        self._timers: dict[str, threading.Timer] = {}
        self._ending = threading.Lock()
        self._over = False
        self._metadata = Metadata(model, sts, self._power)
        for path in (self.root, folder / "stubs", folder / "tmp"):
            path.mkdir(parents=True)
        self.console.touch()
        for command in ("shutdown", "poweroff"):
            stub = folder / "stubs" / command
            stub.write_text(BUTTON.format(command=command, endpoint=self._metadata.endpoint, path=POWER))
            stub.chmod(0o755)

    def boot(self, user_data: bytes, extra: dict[str, str]) -> None:
        """Execute the user data as cloud-init does: once, and only if its first line says by what."""
        if not user_data.startswith(b"#!"):
            self.console.write_text("cloud-init: Unhandled non-multipart (text/x-not-multipart) userdata\n")
            return
        script = self.folder / "user-data"
        script.write_bytes(user_data)
        environment = {
            **extra,  # first: without the stubs in its PATH a machine would shut this one down
            "PATH": f"{self.folder / 'stubs'}:{USUAL}",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
            "CT_ROOT": str(self.root),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self._metadata.endpoint,
            MARK: self.id,
        }
        with self._ending, self.console.open("ab") as console:
            if self._over:
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
        """Return the ids of all that runs on the machine: its session, and what left it."""
        return [process.pid for process in psutil.process_iter() if self._is_mine(process)]

    def interrupt(self, notice: float) -> None:
        """Take a spot instance back: say so at once, end it after `notice` seconds."""
        moment = datetime.now(UTC) + timedelta(seconds=notice)
        self._metadata.instance_action = json.dumps({"action": "terminate", "time": f"{moment:%FT%TZ}"})
        self._schedule("interruption", notice, lambda: self.off(INTERRUPTED))

    def off(self, reason: tuple[str, str] | None = None, grace: float = 0.0) -> None:
        """End the machine: SIGTERM and `grace` seconds, SIGKILL. Its instance follows, unless AWS has ended it."""
        with self._ending:
            if self._over:
                return
            self._over = True
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
        """Leave no process: neither in the session, nor what left it, nor what is being born."""
        patience = time.monotonic() + grace
        if grace:
            self._send(signal.SIGTERM)
        while time.monotonic() < patience and self.model.state == "running" and self.processes():
            time.sleep(PAUSE / 2)
        while self._send(signal.SIGKILL):
            time.sleep(PAUSE / 10)
        if self._process:
            self._process.wait()

    def _send(self, number: signal.Signals) -> list[int]:
        found = self.processes()
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        return found

    def _is_mine(self, process: psutil.Process) -> bool:
        try:
            if self._process is None or process.status() == psutil.STATUS_ZOMBIE:
                return False
            return os.getsid(process.pid) == self._process.pid or process.environ().get(MARK) == self.id
        except (psutil.Error, OSError):
            return False

    def _power(self, words: list[str]) -> str | None:
        """Understand `shutdown` and `poweroff` as systemd does: now, +N minutes, or -c for not at all."""
        command, *given = words
        options = {word for word in given if word.startswith("-")}
        if unknown := options - {"-P", "-h", "-c", "-f", "--poweroff", "--force", "--no-wall"}:
            return f"{command}: this machine does not know {min(unknown)}\n"
        when = next((word for word in given if word not in options), "now" if command == "poweroff" else "+1")
        if "-c" in options:
            self._cancel("shutdown")
            return None
        if when != "now" and not when.removeprefix("+").isdigit():
            return f"{command}: Failed to parse time specification: {when}\n"
        minutes = 0 if when == "now" else int(when)
        self._schedule("shutdown", minutes * self._minute, lambda: self.off(INITIATED, GRACE))
        return None

    def _schedule(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        self._cancel(name)
        self._timers[name] = threading.Timer(seconds, act)
        self._timers[name].daemon = True
        self._timers[name].start()

    def _cancel(self, name: str) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()


class Machines:
    """All machines of the account, each with a folder of its own in `folder`.

    What a test may set before an instance is launched: `extra` environment; whether machines are `baked`, so that their
    CT_ROOT has the packages of `venv` for this project's lock; `prepare`, which is given CT_ROOT before the boot; and
    whether they boot at all (`boots`).
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
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.extra = extra or {}
        self.baked = baked
        self.boots = boots
        self.prepare = prepare
        self._aws = aws
        self._folder = folder
        self._venv = venv
        self._minute = minute
        self._tell = tell
        self._machines: dict[str, Machine] = {}
        self._ended: set[str] = set()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()
        for machine in self._machines.values():
            machine.off()

    def running(self) -> dict[str, list[int]]:
        """Return the ids of the processes that run on each machine, for those on which any does."""
        found = {name: machine.processes() for name, machine in list(self._machines.items())}
        return {name: processes for name, processes in found.items() if processes}

    def console(self, instance: str) -> str:
        """Return what the user data printed so far."""
        return self._machines[instance].console.read_text(errors="replace")

    def folder(self, instance: str) -> Path:
        """Return the machine's scratch folder; CT_ROOT is `opt` in it."""
        return self._machines[instance].folder

    def interrupt(self, instance: str, notice: float = 2.0) -> None:
        """Take a spot instance back, `notice` seconds (AWS: 120) after its metadata say so."""
        self._machines[instance].interrupt(notice)

    def _watch(self) -> None:
        while not self._leaving.wait(PAUSE):
            for model in self._aws.ec2.all_instances():
                if model.id not in self._machines and model.state == "running":
                    self._begin(model)
                elif model.id in self._machines and model.state != "running" and model.id not in self._ended:
                    self._ended.add(model.id)
                    threading.Thread(target=self._machines[model.id].off).start()
                    self._tell(f"{model.id} is {model.state}: {model.state_reason.message}")

    def _begin(self, model: Any) -> None:
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
            found = self._aws.client("ec2").describe_instance_attribute(InstanceId=machine.id, Attribute="userData")
            machine.boot(base64.b64decode(found["UserData"].get("Value", "")), self.extra)
        self._tell(f"{machine.id} is running: {model.instance_type} {model.lifecycle or 'on demand'}, {machine.folder}")
