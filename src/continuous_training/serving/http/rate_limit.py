"""The rate limit: a token bucket for each client, which all workers of the server share."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import math
import mmap
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

from continuous_training.documents import write_atomically
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ALL_CLIENTS = "*"  # the bucket's name if there are no tokens; no client can have this name
ROUNDING = 1e-6  # seconds; more than the rounding error of sums of clock readings
SIZE = ctypes.sizeof(ctypes.c_double)  # bytes of a bucket


class RateLimit:
    """A token bucket for each client, shared by all workers: `burst` requests at once, `per_second` on average.

    This is the generic cell rate algorithm of ITU-T I.371 (virtual scheduling), which needs one number for a bucket:
    the time at which it will be full again. The numbers are in a small file that every worker maps into memory, each
    under a lock on its own bytes. The kernel releases the lock of a worker that dies, and a number is stored with one
    instruction, so it is always consistent. Create it in the process that uses it: locks are not inherited.
    """

    def __init__(
        self,
        path: Path,
        names: Sequence[str],
        per_second: float,
        burst: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the file, which the first worker creates.

        Args:
            path: the file.
            names: the clients, each of which has a bucket; without any there is one bucket, for ALL_CLIENTS.
            per_second: requests per second, on average.
            burst: requests at once.
            clock: returns the time in seconds, the same in all workers.

        Raises:
            UserError: the limit would reject every request, or the file cannot be created.
        """
        if not (0 < per_second < math.inf and 1 <= burst < math.inf):
            limit = f"{per_second:g} requests per second and {burst:g} at once"
            raise UserError(f"invalid rate limit of {limit}: the rate must be above 0, and the burst at least 1")
        self.per_second = per_second
        self._seconds_per_request = 1 / per_second
        self._max_deficit = (burst - 1) / per_second + ROUNDING  # with more, there is less than one request left
        # After a restart of the machine its clock starts again, and the limits may have been different. What is further
        # away than an empty bucket (and one more second) dates from then: such a bucket is full.
        self._plausible_deficit = burst / per_second + 1
        self._clock = clock
        self._thread_lock = threading.Lock()  # file locks exclude processes, not threads
        names = names or (ALL_CLIENTS,)
        header = hashlib.sha256(json.dumps(names).encode()).hexdigest()
        try:
            descriptors = _open_buckets(path, header, len(names))
        except OSError as error:
            raise UserError(f"the rate limit needs the writable file {path}: {error.strerror}") from error
        self._full_at = memoryview(mmap.mmap(descriptors[0], 0)).cast("d")
        self._slots: dict[str, tuple[int, int]] = {}
        for index, (name, descriptor) in enumerate(zip(names, descriptors, strict=True), start=len(header) // SIZE):
            weakref.finalize(self, os.close, descriptor)
            os.lseek(descriptor, index * SIZE, os.SEEK_SET)  # lockf locks from here
            self._slots[name] = (index, descriptor)

    def take(self, name: str) -> float:
        """Take one request from a client's bucket; return 0.0, or the seconds until there will be one."""
        index, descriptor = self._slots[name]
        with self._thread_lock:
            _lockf(descriptor, os.F_LOCK)
            try:
                full_at, now = self._full_at[index], self._clock()
                deficit = full_at - now  # in seconds
                if not 0 < deficit <= self._plausible_deficit:
                    deficit = 0.0
                if deficit > self._max_deficit:
                    return deficit - self._max_deficit
                self._full_at[index] = now + deficit + self._seconds_per_request
                return 0.0
            finally:
                _lockf(descriptor, os.F_ULOCK)


def _open_buckets(path: Path, header: str, buckets: int) -> list[int]:
    """Open the file once for each bucket; replace it, with full buckets, if its header or size is different.

    It is replaced by rename and never truncated: another server may have mapped the old one. The first of the workers
    that start together creates it under the folder's lock, and the others find it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        content = path.read_bytes() if path.exists() else b""
        if len(content) != len(header) + SIZE * buckets or not content.startswith(header.encode()):
            write_atomically(path, header + "\0" * (SIZE * buckets))
        return [os.open(path, os.O_RDWR) for _ in range(buckets)]
    finally:
        os.close(folder)


# fcntl.lockf and os.lockf release Python's global lock. While a model keeps the interpreter busy, they return only
# milliseconds later, with the bucket locked for all workers. The kernel itself takes less than a microsecond.
_c_lockf = ctypes.PyDLL(None, use_errno=True).lockf
_c_lockf.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long)


def _lockf(descriptor: int, command: int) -> None:
    while _c_lockf(descriptor, command, SIZE) != 0:
        if (number := ctypes.get_errno()) != errno.EINTR:
            raise OSError(number, os.strerror(number))
