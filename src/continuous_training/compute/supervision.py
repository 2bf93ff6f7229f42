"""A fit in a process of its own, so that its end has a clear reason, whatever that is.

    scripts/fit.py ──fork──> the fit
          └── measures its memory, ends it after compute.max_hours, and writes its outcome

A process that the kernel kills for lack of memory, or that never ends, cannot say so itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from pydantic import ValidationError

from continuous_training.documents import Value
from continuous_training.errors import UserError
from continuous_training.fork_server.server import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTCOME_VARIABLE = "CT_FIT_OUTCOME"  # of the environment: the path of the file that the outcome is written to
MB = 1 << 20  # bytes, as EC2 and nvidia-smi count
POLL_SECONDS = 1.0  # between two measurements of the memory
GRACE_SECONDS = 10.0  # from SIGTERM to SIGKILL
MAX_MESSAGE = 4096  # bytes, which fit into a pipe
# Of libraries that raise their own errors for lack of memory; a GPU's lack of memory says so in clear words
MEMORY_ERROR = re.compile(r"\bbad[ _]alloc|(can't|cannot|could not|unable to) allocate", re.IGNORECASE)
ADVICE = "use a larger machine or instance type, or fewer rows (data.train_days)"


class FitOutcome(Value):
    """How a fit ended: `error` is a line for people, or None.

    `peak_memory_mb` is the largest resident memory of its processes together, in MB of 1,048,576 bytes. Pages that they
    share count for each of them.
    """

    error: str | None = None
    peak_memory_mb: float | None = None


@contextmanager
def supervised(max_hours: float) -> Iterator[None]:
    """Run the context in a fork, and supervise it from here: this process never enters the context.

    It exits as the fork does. The outcome goes to the file that CT_FIT_OUTCOME names, if it does.

    Raises:
        UserError: the fork was killed, or did not end in time; in the fork, it lacks memory.
    """
    reader, writer = os.pipe()
    supervisor = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    fork = os.fork()
    if fork == 0:
        os.close(reader)
        end_with_parent(supervisor)
        _become_the_first_victim()
        try:
            yield
        except Exception as error:
            problem = _explain_lack_of_memory(error)
            message = str(problem) if isinstance(problem, UserError) else f"{type(problem).__name__}: {problem}"
            os.write(writer, " ".join(message.split()).encode()[:MAX_MESSAGE])
            if problem is error:
                raise
            raise problem from error
        return
    os.close(writer)
    code, peak_memory_mb = _wait(fork, max_hours * 3600)
    if code is not None and code >= 0:
        message = os.read(reader, MAX_MESSAGE).decode(errors="ignore")
        _write_outcome(message, peak_memory_mb)
        sys.exit(code)
    if code is None:
        message = f"the training did not end within {max_hours:g} h: raise compute.max_hours, or train less"
    else:
        message = _explain_signal(-code, peak_memory_mb)
    _write_outcome(message, peak_memory_mb)
    raise UserError(message)


def read_outcome(path: Path) -> FitOutcome:
    """Return the outcome of a fit, an empty one if it has written none."""
    try:
        return FitOutcome.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return FitOutcome()


def _write_outcome(error: str, peak_memory_mb: float) -> None:
    if path := os.environ.get(OUTCOME_VARIABLE):
        outcome = FitOutcome(error=error or None, peak_memory_mb=round(peak_memory_mb, 1))
        partial = Path(f"{path}.partial")
        partial.write_text(outcome.model_dump_json(), encoding="utf-8")
        partial.rename(path)


def _become_the_first_victim() -> None:
    """Let the kernel, when memory runs out, kill this process before its supervisor and a Jenkins agent."""
    with contextlib.suppress(OSError):  # not on Linux
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _wait(process_id: int, seconds: float) -> tuple[int | None, float]:
    """Wait for a child; return its exit code and its peak memory in MB.

    The code is minus the signal that killed it, or None if it did not end in time and was ended here.
    """
    process, deadline, peak = psutil.Process(process_id), time.monotonic() + seconds, 0.0
    code: int | None = None
    try:
        while (left := deadline - time.monotonic()) > 0:
            peak = max(peak, _measure_memory(process))
            with contextlib.suppress(psutil.TimeoutExpired):
                code = process.wait(min(left, POLL_SECONDS))
                break
    finally:  # also at a signal to this process
        if code is None:
            _end(process)
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1024 if sys.platform == "linux" else 1)
    return code, max(peak, largest) / MB


def _measure_memory(process: psutil.Process) -> float:
    """Return the resident memory of a process and its descendants, in bytes."""
    total = 0.0
    with contextlib.suppress(psutil.Error):  # it has ended
        for member in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += member.memory_info().rss
    return total


def _end(process: psutil.Process) -> None:
    """End a process and its descendants, by force if they do not end by themselves."""
    members = [process]
    with contextlib.suppress(psutil.Error):
        members += process.children(recursive=True)
    for member in members:
        with contextlib.suppress(psutil.Error):
            member.terminate()
    for member in psutil.wait_procs(members, GRACE_SECONDS)[1]:
        with contextlib.suppress(psutil.Error):
            member.kill()
    psutil.wait_procs(members, GRACE_SECONDS)


def _explain_signal(number: int, peak_memory_mb: float) -> str:
    name = signal.Signals(number).name
    if number != signal.SIGKILL:
        return f"the training was ended by signal {number} ({name}), as by a crash in one of its libraries"
    memory = f"it used {peak_memory_mb:,.0f} of this machine's {psutil.virtual_memory().total / MB:,.0f} MB"
    return f"the training was killed by signal 9, probably for lack of memory ({memory}): {ADVICE}"


def _explain_lack_of_memory(error: Exception) -> Exception:
    """Return an error with advice in place of one that comes from a lack of memory."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or MEMORY_ERROR.search(str(cause)):
            return UserError(f"the training lacks memory: {str(cause) or 'MemoryError'}: {ADVICE}")
        cause = cause.__cause__
    return error
