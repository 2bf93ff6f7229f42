"""A steady load of single rows on a prediction server; each prediction is compared with the one made offline.

It shares the machine with the server: one thread with uvloop and httptools takes a fraction of the server's time.
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

TOLERANCE = 1e-9
STALL_SECONDS = 60  # without a prediction, after which the load fails
RECONNECT_SECONDS = 0.05
MAX_EXAMPLES = 5  # of errors

OfflinePredictions = Mapping[str, Sequence[Sequence[float]]]  # the predictions for all rows, by version


@dataclass
class Counts:
    """The outcomes of the requests so far.

    `predictions` counts responses with status 200, `wrong` those that differ from the version's offline predictions.
    `rejected` requests got 503 with Retry-After, and were sent again. Each connection that `broke` may have lost a
    request: `lost` has the times (of time.monotonic) at which these were sent.
    """

    predictions: int = 0
    wrong: int = 0
    rejected: int = 0
    rejected_early: int = 0  # before the response to a request that was sent earlier: so it was not queued
    broke: int = 0
    lost: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)  # by status, other than 200 and a rejection
    versions: Counter[str] = field(default_factory=Counter)
    max_seconds: float = 0.0  # of a request that got a prediction
    examples: list[str] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Requests without a response, or with an error."""
        return len(self.lost) + self.errors.total()

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.predictions + other.predictions,
            self.wrong + other.wrong,
            self.rejected + other.rejected,
            self.rejected_early + other.rejected_early,
            self.broke + other.broke,
            self.lost + other.lost,
            self.errors + other.errors,
            self.versions + other.versions,
            max(self.max_seconds, other.max_seconds),
            (self.examples + other.examples)[:MAX_EXAMPLES],
        )


class Load:
    """Clients that each send one request after the other on their own connection, until the end of the `with` block.

    A client whose connection breaks reconnects after a moment, and keeps trying while no server listens.
    """

    def __init__(
        self, url: str, rows: dict[str, Any], expected: OfflinePredictions, *, connections: int = 32, pause: float = 0.0
    ) -> None:
        """Prepare the requests.

        Args:
            url: the server.
            rows: in MLflow's `dataframe_split`; they are sent in turn.
            expected: each version's predictions for them.
            connections: the number of clients.
            pause: the seconds between a response and the client's next request.
        """
        address = urlsplit(url)
        self.host, self.port = str(address.hostname), address.port or 80
        self.counts = Counts()
        self.pending: dict[Client, None] = {}  # the clients that wait for a response, the oldest request first
        self.pause = pause
        self.ending = False
        self._expected = expected
        self._correct_bodies: dict[tuple[str, int], bytes] = {}
        self._requests = [_request(address.netloc, rows["columns"], row) for row in rows["data"]]
        self._order = cycle(range(len(self._requests)))
        self._connections = connections
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send no more requests; those without a response after STALL_SECONDS are lost."""
        self.ending = True
        self._thread.join(STALL_SECONDS)
        if self._thread.is_alive():
            self._runner.get_loop().call_soon_threadsafe(lambda: [client.abort() for client in list(self.pending)])
            self._thread.join()

    def wait_for_predictions(self, count: int) -> None:
        """Wait for `count` more predictions.

        Raises:
            RuntimeError: there are none for STALL_SECONDS.
        """
        goal, last, since = self.counts.predictions + count, self.counts.predictions, time.monotonic()
        while self.counts.predictions < goal:
            if self.counts.predictions > last:
                last, since = self.counts.predictions, time.monotonic()
            if not self._thread.is_alive() or time.monotonic() - since > STALL_SECONDS:
                raise RuntimeError(f"the server has stopped responding: {self.counts}")
            time.sleep(0.01)

    def next_request(self) -> tuple[int, bytes]:
        """Return the index of the next row, and the request for it."""
        row = next(self._order)
        return row, self._requests[row]

    def count_prediction(self, row: int, version: str, body: bytes) -> None:
        """Count a response with status 200, and compare it with the version's offline prediction."""
        self.counts.predictions += 1
        self.counts.versions[version] += 1
        if self._correct_bodies.get((version, row)) == body:
            return
        if self._is_correct(row, version, body):
            self._correct_bodies[version, row] = body
            return
        self.counts.wrong += 1
        self.add_example(f"version '{version}' predicted row {row} as {body[:200]!r}")

    def add_example(self, error: str) -> None:
        """Add an example of an error."""
        if len(self.counts.examples) < MAX_EXAMPLES:
            self.counts.examples.append(error)

    def _is_correct(self, row: int, version: str, body: bytes) -> bool:
        try:
            (prediction,) = orjson.loads(body)["predictions"]
            pairs = list(zip(prediction, self._expected[version][row], strict=True))
            return all(abs(value - expected) <= TOLERANCE for value, expected in pairs)
        except (ValueError, LookupError, TypeError):  # not a prediction, or of an unknown version
            return False

    def _run(self) -> None:
        with self._runner:
            self._runner.run(self._run_clients())

    async def _run_clients(self) -> None:
        await asyncio.gather(*(self._run_client() for _ in range(self._connections)))

    async def _run_client(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.ending:
            client = Client(self)
            try:
                await loop.create_connection(lambda client=client: client, self.host, self.port)
                broke = await client.closed
            except OSError:
                broke = True
            if broke:
                await asyncio.sleep(RECONNECT_SECONDS)


class Client(asyncio.Protocol):
    """One connection, and its current request."""

    def __init__(self, load: Load) -> None:
        self.closed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()  # whether it broke
        self._load = load
        self._row: int | None = None  # of the current request, until it has a response
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._parser = httptools.HttpResponseParser(self)
        self._send()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._load.add_example(f"{error!r} of {data[:200]!r}")
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._load.counts.broke += not self._closing
        if self in self._load.pending:
            del self._load.pending[self]
            self._load.counts.lost.append(self._start)
            self._load.add_example(f"a connection broke during a request: {error!r}")
        self.closed.set_result(not self._closing)

    def on_message_begin(self) -> None:
        self._headers: dict[bytes, str] = {}
        self._body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        load, status = self._load, self._parser.get_status_code()
        is_oldest = next(iter(load.pending)) is self
        del load.pending[self]
        pause = load.pause
        if status == 200:
            load.counts.max_seconds = max(load.counts.max_seconds, time.monotonic() - self._start)
            load.count_prediction(self._row or 0, self._headers.get(b"x-model-version", ""), self._body)
            self._row = None
        elif status == 503 and b"retry-after" in self._headers:
            load.counts.rejected += 1
            load.counts.rejected_early += not is_oldest
            pause = float(self._headers[b"retry-after"])
        else:
            load.counts.errors[str(status)] += 1
            load.add_example(f"{status} {self._body[:200]!r}")
            self._row = None
        if load.ending or not self._parser.should_keep_alive():
            self._close()
        elif pause:
            self._timer = asyncio.get_running_loop().call_later(pause, self._send)
        else:
            self._send()

    def abort(self) -> None:
        """Close the connection with its request."""
        self._transport.abort()

    def _close(self) -> None:
        self._closing = True
        self._transport.close()

    def _send(self) -> None:
        """Send a request for the next row, or the same one again."""
        self._timer = None
        if self._load.ending:
            self._close()
            return
        if self._row is None:
            self._row, self._request = self._load.next_request()
        self._start = time.monotonic()
        self._load.pending[self] = None
        self._transport.write(self._request)


def _request(host: str, columns: list[str], row: list[Any]) -> bytes:
    body = json.dumps({"dataframe_split": {"columns": columns, "data": [row]}})
    head = f"POST /invocations HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
