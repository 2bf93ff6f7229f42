"""A steady load of single rows on a prediction server, each answer of which is held against what is known offline.

It shares the machine with the server that it asks: one thread, uvloop and httptools take a fraction of what the server
takes for the same requests.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Self
from urllib.parse import urlsplit

import httptools
import orjson
import uvloop

ATOL = 1e-9
STALLED_SECONDS = 60  # without an answer, after which nobody waits for the next one any more
AGAIN_SECONDS = 0.05  # until a client whose connection broke, or was refused, makes another one
EXAMPLES = 5  # of what went wrong

Expected = Mapping[str, Sequence[Sequence[float]]]  # of each version: its answer to each row


@dataclass
class Counts:
    """What became of the requests so far.

    `answers` are those with status 200, `wrong` the ones among them that are not the version's own. `refused` ones were
    sent away with a time to come back, and came back. Of the connections that `broke`, each may have taken a request
    along: `lost` has the moments (of time.monotonic) at which these were sent.
    """

    answers: int = 0
    wrong: int = 0
    refused: int = 0
    overtook: int = 0  # refused before a request that was sent earlier was answered: so it did not wait
    broke: int = 0
    lost: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)  # by what was answered in place of 200 or a time to come back
    versions: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0  # seconds to an answer
    examples: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Requests that no answer came to, or another than an answer."""
        return len(self.lost) + self.others.total()

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.answers + other.answers,
            self.wrong + other.wrong,
            self.refused + other.refused,
            self.overtook + other.overtook,
            self.broke + other.broke,
            self.lost + other.lost,
            self.others + other.others,
            self.versions + other.versions,
            max(self.slowest, other.slowest),
            (self.examples + other.examples)[:EXAMPLES],
        )


class Load:
    """So many clients, each of which asks for one row after the other on a connection of its own, until the block ends.

    A client whose connection breaks makes another one after a moment, and tries on while nobody listens.
    """

    def __init__(
        self, url: str, rows: dict[str, Any], expected: Expected, *, connections: int = 32, pause: float = 0.0
    ) -> None:
        """Prepare to ask.

        Args:
            url: the server.
            rows: in MLflow's `dataframe_split`; they are asked for in turn.
            expected: each version's answers to them.
            connections: how many clients there are.
            pause: seconds that each of them lets pass after an answer.
        """
        address = urlsplit(url)
        self.host, self.port = str(address.hostname), address.port or 80
        self.counts = Counts()
        self.waiting: dict[Client, None] = {}  # for an answer, the one that waits longest first
        self.pause = pause
        self.ends = False
        self._expected = expected
        self._right: dict[tuple[str, int], bytes] = {}  # bodies that were held against what is known already
        self._requests = [_request(address.netloc, rows["columns"], row) for row in rows["data"]]
        self._order = cycle(range(len(self._requests)))
        self._connections = connections
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ask no more; what was sent and is not answered even now is lost."""
        self.ends = True
        self._thread.join(STALLED_SECONDS)
        if self._thread.is_alive():
            self._runner.get_loop().call_soon_threadsafe(lambda: [client.abort() for client in list(self.waiting)])
            self._thread.join()

    def until(self, more: int) -> None:
        """Wait for so many answers more.

        Raises:
            RuntimeError: they do not come.
        """
        goal, seen, since = self.counts.answers + more, self.counts.answers, time.monotonic()
        while self.counts.answers < goal:
            if self.counts.answers > seen:
                seen, since = self.counts.answers, time.monotonic()
            if not self._thread.is_alive() or time.monotonic() - since > STALLED_SECONDS:
                raise RuntimeError(f"no answers come any more: {self.counts}")
            time.sleep(0.01)

    def next(self) -> tuple[int, bytes]:
        """Return the number of the row that is due, and the request for it."""
        row = next(self._order)
        return row, self._requests[row]

    def judge(self, row: int, version: str, body: bytes) -> None:
        """Count an answer, and whether it is the one that this version gives offline."""
        self.counts.answers += 1
        self.counts.versions[version] += 1
        if self._right.get((version, row)) == body:
            return
        if self._is_right(row, version, body):
            self._right[version, row] = body
            return
        self.counts.wrong += 1
        self.note(f"version «{version}» answered row {row} with {body[:200]!r}")

    def note(self, what: str) -> None:
        """Keep an example of what went wrong."""
        if len(self.counts.examples) < EXAMPLES:
            self.counts.examples.append(what)

    def _is_right(self, row: int, version: str, body: bytes) -> bool:
        try:
            (found,) = orjson.loads(body)["predictions"]
            pairs = list(zip(found, self._expected[version][row], strict=True))
            return all(abs(one - other) <= ATOL for one, other in pairs)
        except (ValueError, LookupError, TypeError):  # it is no answer, or nobody knows this version
            return False

    def _run(self) -> None:
        with self._runner:
            self._runner.run(self._ask())

    async def _ask(self) -> None:
        await asyncio.gather(*(self._be_a_client() for _ in range(self._connections)))

    async def _be_a_client(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.ends:
            client = Client(self)
            try:
                await loop.create_connection(lambda made=client: made, self.host, self.port)
                broke = await client.gone
            except OSError:
                broke = True
            if broke:
                await asyncio.sleep(AGAIN_SECONDS)


class Client(asyncio.Protocol):
    """One connection, and the request that is on it."""

    def __init__(self, load: Load) -> None:
        self.gone: asyncio.Future[bool] = asyncio.get_running_loop().create_future()  # whether it broke
        self._load = load
        self._row: int | None = None  # until it is answered
        self._again: asyncio.TimerHandle | None = None
        self._ends = False  # as it is meant to

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._parser = httptools.HttpResponseParser(self)
        self._send()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._load.note(f"{error!r} of {data[:200]!r}")
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if self._again:
            self._again.cancel()
        self._load.counts.broke += not self._ends
        if self in self._load.waiting:
            del self._load.waiting[self]
            self._load.counts.lost.append(self._sent)
            self._load.note(f"a connection broke with a request on it: {error!r}")
        self.gone.set_result(not self._ends)

    def on_message_begin(self) -> None:
        self._headers: dict[bytes, str] = {}
        self._body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        load, status = self._load, self._parser.get_status_code()
        is_first = next(iter(load.waiting)) is self
        del load.waiting[self]
        pause = load.pause
        if status == 200:
            load.counts.slowest = max(load.counts.slowest, time.monotonic() - self._sent)
            load.judge(self._row or 0, self._headers.get(b"x-model-version", ""), self._body)
            self._row = None
        elif status == 503 and b"retry-after" in self._headers:
            load.counts.refused += 1
            load.counts.overtook += not is_first
            pause = float(self._headers[b"retry-after"])
        else:
            load.counts.others[str(status)] += 1
            load.note(f"{status} {self._body[:200]!r}")
            self._row = None
        if load.ends or not self._parser.should_keep_alive():
            self._leave()
        elif pause:
            self._again = asyncio.get_running_loop().call_later(pause, self._send)
        else:
            self._send()

    def abort(self) -> None:
        """Give up what is on the connection."""
        self._transport.abort()

    def _leave(self) -> None:
        self._ends = True
        self._transport.close()

    def _send(self) -> None:
        """Ask for the row that is due, or for the same one again."""
        self._again = None
        if self._load.ends:
            self._leave()
            return
        if self._row is None:
            self._row, self._request = self._load.next()
        self._sent = time.monotonic()
        self._load.waiting[self] = None
        self._transport.write(self._request)


def _request(host: str, columns: list[str], row: list[Any]) -> bytes:
    body = json.dumps({"dataframe_split": {"columns": columns, "data": [row]}})
    head = f"POST /invocations HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
