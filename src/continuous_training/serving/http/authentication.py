"""Who may ask the prediction server, and how often: decided before the application sees the request.

SERVING_TOKENS holds the clients and their tokens, `name:token,other:token`; without it everybody may ask. Of a token
only the digest is kept, and an error says the entry's position and nothing that stands in it, so that no log, no
exception and no repr() can show one.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import hmac
import json
import math
import mmap
import os
import re
import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi.responses import JSONResponse

from continuous_training.documents import write_atomically
from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

VARIABLE = "SERVING_TOKENS"
SHORTEST = 16  # characters of a token
NAME = re.compile(r"[A-Za-z0-9._-]+")  # what can stand in a log and in a metric's label as it is
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # a bearer token, as RFC 6750 has it
ROUNDING = 1e-6  # seconds, more than the sums of a clock's readings lose
SIZE = ctypes.sizeof(ctypes.c_double)  # bytes of a bucket
EVERYBODY = "*"  # whose bucket it is where there are no tokens; no name can be this

OPEN = frozenset({"/health", "/ready", "/ping"})  # for probes, which have no token
LIMITED = frozenset({"/predict", "/invocations"})
POLICY_VIOLATION = 1008  # why a websocket is closed, RFC 6455

UNAUTHENTICATED = JSONResponse(
    {"error_code": "UNAUTHENTICATED", "message": "send a token of this server as «Authorization: Bearer <token>»"},
    401,
    headers={"WWW-Authenticate": "Bearer"},
)


@dataclass(frozen=True)
class Tokens:
    """The clients' names and the SHA-256 digests of their tokens, in the same order; never the tokens themselves."""

    names: tuple[str, ...] = ()
    digests: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def from_environment(cls) -> Tokens:
        """Read SERVING_TOKENS; absent or empty means that there are no tokens.

        Raises:
            UserError: it is malformed.
        """
        return cls.parse(os.environ.get(VARIABLE, ""))

    @classmethod
    def parse(cls, text: str) -> Tokens:
        """Read names and tokens, `name:token,other:token`.

        Raises:
            UserError: an entry has no name or no proper token, or two share one. Who mixes up name and token has
                the token where the name belongs, so the message tells an entry by its position alone.
        """
        names: list[str] = []
        digests: list[bytes] = []
        for position, entry in enumerate(text.split(",") if text else [], start=1):
            name, colon, token = entry.strip().partition(":")
            where = f"entry {position} of {VARIABLE}"
            if not colon or not NAME.fullmatch(name):
                raise UserError(
                    f"{where} has no name of letters, digits, «.», «_» and «-»: write name:token,other:token"
                )
            if len(token) < SHORTEST:
                make = 'make one with: python -c "import secrets; print(secrets.token_urlsafe())"'
                raise UserError(f"{where} has a token shorter than {SHORTEST} characters: {make}")
            if not TOKEN.fullmatch(token):
                raise UserError(
                    f"{where} has a token with more in it than letters, digits and «-._~+/», «=» at its end"
                )
            digest = hashlib.sha256(token.encode()).digest()
            if name in names:
                raise UserError(f"{where} has the same name as entry {names.index(name) + 1}: give each client its own")
            if digest in digests:
                before = digests.index(digest) + 1
                raise UserError(f"{where} has the same token as entry {before}: give each client its own")
            names.append(name)
            digests.append(digest)
        return cls(tuple(names), tuple(digests))

    def name_of(self, authorization: bytes | None) -> str | None:
        """Return whose token an Authorization header brings, if anybody's.

        Every digest is compared, each in constant time, so that the time it takes says nothing of any token.
        """
        scheme, _, token = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        given = hashlib.sha256(token.strip()).digest()
        found = None
        for name, digest in zip(self.names, self.digests, strict=True):
            found = name if hmac.compare_digest(digest, given) else found
        return found


class RateLimit:
    """A token bucket for each client, shared by all workers: `burst` requests at once, `per_second` on average.

    It is ITU-T I.371's generic cell rate algorithm (virtual scheduling), which keeps one number of a bucket: the moment
    at which it will be full again. These numbers stand in a small file that every worker maps into its memory, each
    under a lock on its own bytes. The kernel takes a lock back from a worker that dies, and the number is stored with
    one instruction, so that it is whole. A process makes one of these, after it was started: locks are not inherited.
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
        """Open the file that the first of the workers makes; without names there is one bucket, for EVERYBODY.

        Raises:
            UserError: nobody could ever ask, or the file cannot be made.
        """
        if not (0 < per_second < math.inf and 1 <= burst < math.inf):
            limit = f"{per_second:g} requests a second and {burst:g} at once"
            raise UserError(f"a limit of {limit} cannot be kept: give a rate above 0 and a burst of at least 1")
        self.per_second = per_second
        self._each = 1 / per_second  # seconds until one request is made good
        self._most = (burst - 1) / per_second + ROUNDING  # a bucket that lacks more has no whole request in it
        # The machine's clock began anew with its last start, and the limits may have been others. What is further off
        # than an empty bucket (and a second, to be sure) was written then: such a bucket is full.
        self._believable = burst / per_second + 1
        self._clock = clock
        self._alone = threading.Lock()  # the kernel's locks are between processes, not between threads
        names = names or (EVERYBODY,)
        shape = hashlib.sha256(json.dumps(names).encode()).hexdigest()
        try:
            descriptors = _open(path, shape, len(names))
        except OSError as error:
            why = f"{error.strerror}; it needs a folder that can be written"
            raise UserError(f"the rate limit cannot be kept in {path}: {why}") from error
        self._full_at = memoryview(mmap.mmap(descriptors[0], 0)).cast("d")
        self._slots: dict[str, tuple[int, int]] = {}
        for index, (name, descriptor) in enumerate(zip(names, descriptors, strict=True), start=len(shape) // SIZE):
            weakref.finalize(self, os.close, descriptor)
            os.lseek(descriptor, index * SIZE, os.SEEK_SET)  # where lockf locks
            self._slots[name] = (index, descriptor)

    def take(self, name: str) -> float:
        """Take one request out of a client's bucket; return 0.0, or the seconds until there is one in it."""
        index, descriptor = self._slots[name]
        with self._alone:
            _lockf(descriptor, os.F_LOCK)
            try:
                full_at, now = self._full_at[index], self._clock()
                lacking = full_at - now  # in seconds: so long until it is full
                if not 0 < lacking <= self._believable:
                    lacking = 0.0
                if lacking > self._most:
                    return lacking - self._most
                self._full_at[index] = now + lacking + self._each
                return 0.0
            finally:
                _lockf(descriptor, os.F_ULOCK)


class Guard:
    """ASGI middleware that lets through whoever may ask, and answers all others itself.

    Probes need no token. The name of the client is in scope["state"]["client"] for the application's logs, if there are
    tokens. `refused` is told the status of each refusal. Websockets are not spoken here.
    """

    def __init__(
        self, app: ASGIApp, tokens: Tokens, rate: RateLimit | None, refused: Callable[[int], None] = lambda _: None
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._rate = rate
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or have the application do it."""
        if scope["type"] == "http":
            if refusal := self._refusal(scope):
                self._refused(refusal.status_code)
            await (refusal or self._app)(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        if scope["path"] in OPEN:
            return None
        bucket = EVERYBODY
        if self._tokens.names:
            sent = next((value for key, value in scope["headers"] if key == b"authorization"), None)
            client = self._tokens.name_of(sent)
            if client is None:
                return UNAUTHENTICATED
            scope.setdefault("state", {})["client"] = bucket = client
        if self._rate and scope["path"] in LIMITED and scope["method"] == "POST" and (wait := self._rate.take(bucket)):
            return _exhausted(self._rate.per_second, math.ceil(wait))
        return None


def _exhausted(per_second: float, seconds: int) -> JSONResponse:
    message = f"more than {per_second:g} requests a second: ask again in {seconds} s"
    body = {"error_code": "RESOURCE_EXHAUSTED", "message": message}
    return JSONResponse(body, 429, headers={"Retry-After": str(seconds)})


def _open(path: Path, shape: str, buckets: int) -> list[int]:
    """Open the file once for each bucket; begin it anew, with full ones, if it is not of this shape.

    It comes by rename and is never cut: another server may have the one before in its memory. Of workers that start
    together one begins it while it has the folder's lock, and the others find it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        there = path.read_bytes() if path.exists() else b""
        if len(there) != len(shape) + SIZE * buckets or not there.startswith(shape.encode()):
            write_atomically(path, shape + "\0" * (SIZE * buckets))
        return [os.open(path, os.O_RDWR) for _ in range(buckets)]
    finally:
        os.close(folder)


# fcntl.lockf and os.lockf let another thread run meanwhile. Beside a model that keeps the interpreter busy they come
# back milliseconds later, and with the slot locked for all workers. The kernel answers in less than a microsecond.
_c_lockf = ctypes.PyDLL(None, use_errno=True).lockf
_c_lockf.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long)


def _lockf(descriptor: int, command: int) -> None:
    while _c_lockf(descriptor, command, SIZE) != 0:
        if (number := ctypes.get_errno()) != errno.EINTR:
            raise OSError(number, os.strerror(number))
