"""Malformed requests: of ten thousand each is refused in one line, and what is answered among them is answered rightly.

They are made in three ways: from the server's own description of itself, of parts that are each wrong in some way, and
by damage to good requests. All go over real connections, which have to stay open.
"""

from __future__ import annotations

import csv
import gzip
import http.client
import json
import math
import random
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from continuous_training.serving.following import loaded_version as served
from continuous_training.serving.following import loader as memory
from continuous_training.serving.http import app
from continuous_training.serving.prediction import batching as batches
from continuous_training.serving.prediction import routing as answering
from continuous_training.serving.protocols import mlflow_protocol as protocol
from continuous_training.serving.protocols import signature
from continuous_training.serving.protocols import typed_protocol as typed
from continuous_training.versions import loading
from pipeline import Pipeline
from server import Server

pytestmark = [
    pytest.mark.integration(seconds=40),
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),  # x may be 1e308
]

DESCRIBED, COMPOSED, DAMAGED = 100, 1300, 8000  # requests: for each path and mode, for each path, in all
MOST = 20_000  # bytes of a body
JSON, CSV = "application/json", "text/csv"
FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
DOCUMENTED = {200, 400, 413, 415, 422}
ONCE = settings(max_examples=COMPOSED, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
OURS = {
    name
    for module in (answering, app, batches, memory, protocol, served, signature, typed)
    for name, thing in vars(module).items()
    if isinstance(thing, type) and thing.__module__.startswith("continuous_training")
}
INSIDE = re.compile(rf"Traceback|File \"|\.py\b|site-packages|continuous_training|\b({'|'.join(OURS)})\b")
ROW: dict[str, Any] = {"shade": "red", "x": 1.5, "y": -0.25}


class Asked(NamedTuple):
    """A request as it goes over the wire."""

    path: str
    body: bytes
    content_type: str = JSON
    request_id: str = "id"
    chunked: bool = False


class Judge:
    """Sends requests over one connection, and judges each response."""

    def __init__(self, url: str, offline: Callable[[pd.DataFrame], np.ndarray]) -> None:
        self.counts: Counter[str] = Counter()
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        self._offline = offline
        self._rows: list[pd.DataFrame] = []
        self._answers: list[list[float]] = []

    def ask(self, asked: Asked) -> int:
        """Return the status of a response that is as it should be."""
        headers = {"Content-Type": asked.content_type, "X-Request-ID": asked.request_id}
        body = iter([asked.body[:7], asked.body[7:]]) if asked.chunked else asked.body
        try:
            self._connection.request("POST", asked.path, body, headers, encode_chunked=asked.chunked)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            pytest.fail(f"the server hung up ({error!r}): {asked}")
        assert response.status in DOCUMENTED, asked
        assert response.headers["Content-Type"] == JSON, asked
        if response.status == 200:
            self._take(asked, json.loads(text), response.headers["X-Request-ID"])
        else:
            refused(text, asked)
        self.counts[f"{asked.path} {response.status}"] += 1
        return response.status

    def leave(self) -> None:
        self._connection.close()

    def settle(self, malformed: int) -> None:
        """See that it still answers, that all answers are the model's offline, and how many requests were refused."""
        assert self.ask(Asked("/predict", json.dumps({"rows": [ROW]}).encode())) == 200
        expected = self._offline(pd.concat(self._rows, ignore_index=True))
        assert np.allclose(np.array(self._answers, float), expected, rtol=0, atol=1e-9, equal_nan=True)
        assert sum(self.counts[outcome] for outcome in self.counts if not outcome.endswith("200")) >= malformed

    def _take(self, asked: Asked, told: dict[str, Any], request_id: str) -> None:
        rows = rows_of(asked)
        answers = told["predictions"]
        if asked.path == "/predict":
            assert request_id == told["request_id"]
            answers = [[one["probabilities"]["false"], one["probabilities"]["true"]] for one in answers]
        assert len(answers) == len(rows), asked
        self._rows.append(rows)
        self._answers += answers


def refused(text: bytes, sent: object) -> None:
    """See that a refusal says why, in one line, to someone who does not know the server's program."""
    told = json.loads(text)
    assert set(told) == {"error_code", "message"}, sent
    assert len(told["message"].splitlines()) == 1, sent
    assert len(told["message"]) < 1000, sent
    inside = INSIDE.search(told["message"])
    assert inside is None or inside[0] in str(sent), (sent, told)  # what was sent may be told back


def rows_of(asked: Asked) -> pd.DataFrame:
    """Read a request that was answered, by other means than the server's; fail if it should have been refused."""
    table = in_csv(asked.body) if (asked.path, asked.content_type[:8]) == ("/invocations", CSV) else in_json(asked)
    rows = table.astype(object).where(table.notna(), None).to_dict(orient="records")
    for row in rows:
        assert isinstance(row.setdefault("shade", None), str | None), asked
        for name in ("x", "y"):
            assert row.setdefault(name, None) is None or type(row[name]) in {int, float}, asked
            assert row[name] is None or math.isfinite(row[name]), asked
    assert rows, asked
    assert {"shade", "x"} <= {*table.columns}, asked
    return pd.DataFrame(
        {
            "shade": pd.Series([row["shade"] for row in rows], dtype=object),
            "x": np.array([row["x"] for row in rows], dtype=float),
            "y": np.array([row["y"] for row in rows], dtype=float),
        }
    )


def in_csv(body: bytes) -> pd.DataFrame:
    names, *lines = [line for line in csv.reader(StringIO(body.decode("utf-8-sig"), newline=""), strict=True) if line]
    assert len(set(names)) == len(names), body
    assert {len(line) for line in lines} == {len(names)}, body
    table = pd.read_csv(
        StringIO(
            "\n".join(",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in line) for line in [names, *lines])
        ),
        dtype=str,
        engine="python",
    )
    for name in {"x", "y"} & {*table.columns}:
        table[name] = table[name].astype(float)
    return table


def in_json(asked: Asked) -> pd.DataFrame:
    told = json.loads(asked.body.decode(), parse_constant=lambda name: pytest.fail(f"{name}: {asked}"))
    if asked.path == "/predict":
        assert set(told) == {"rows"}, asked
        assert all(set(row) <= {"shade", "x", "y", "id"} for row in told["rows"]), asked
        return pd.DataFrame(told["rows"], dtype=object)
    (given,) = (told[name] for name in FORMATS if name in told)
    if "dataframe_split" in told:
        assert {len(row) for row in given["data"]} == {len(set(given["columns"]))}, asked
        return pd.DataFrame(given["data"], columns=given["columns"], dtype=object)
    if isinstance(given, dict):
        return pd.DataFrame(
            {name: cells if isinstance(cells, list) else [cells] for name, cells in given.items()}, dtype=object
        )
    return pd.DataFrame(given, dtype=object)


@pytest.fixture(scope="module")
def server(tracked_module: pytest.MonkeyPatch) -> Iterator[Server]:
    Pipeline(tracked_module).promote()
    with Server(most=MOST) as running:
        running.wait_for("1")
        yield running


@pytest.fixture
def judge(server: Server) -> Iterator[Judge]:
    judge = Judge(server.url, loading.load("models:/toy/1", ("numpy.dtype",)).predict_proba)
    yield judge
    judge.leave()


# What a value may be written as: much of it is no JSON, or no cell of any column.
WRITTEN = r"""
    1e400 -1e400 1e308 -0 0.0 01 +1 .5 1. 0x10 1_000 NaN -NaN Infinity -Infinity null None true false True nul 1e -
    "" "1.5" "red" "true" "NaN" 'red' "\ud800" "\u0000" "\x" "\u2028" "2013-04-01T12:00:00" [] {} [1] [[]] {"x":1}
    [null] [[1],[2,3]] -1e-400 18446744073709551616 9223372036854775808 1e5 1E+2
"""
written = (
    st.sampled_from(WRITTEN.split())
    | st.sampled_from(
        ["9" * 400, '"\n"', '"\x01"', '"é"', "", " ", "/**/1", '"' + "a" * 5000 + '"', "[" * 30 + "]" * 30]
    )
    | st.integers(1, 3000).map(lambda depth: "[" * depth + "]" * depth)
    | st.integers(1, 3000).map(lambda depth: '{"x":' * depth + "1" + "}" * depth)
    | st.floats().map(json.dumps)
    | st.integers().map(str)
    | st.text(max_size=8).map(json.dumps)
)
good = st.sampled_from([("shade", '"red"'), ("x", "1.5"), ("y", "null"), ("id", "7")])
names = st.sampled_from(["shade", "x", "y", "id", "X", "more", "", "x\n", "é", "rows", "a" * 300])


def an_object(cells: list[tuple[str, str]]) -> str:
    members = ",".join(f"{json.dumps(name)}:{cell}" for name, cell in cells)
    return f"{{{members}}}"


def a_list(cells: list[str]) -> str:
    return f"[{','.join(cells)}]"


row = st.lists(good | st.tuples(names, written), max_size=2).map(lambda more: [("shade", '"blue"'), ("x", "2"), *more])
incomplete = row.map(lambda cells: an_object(cells[1:])) | written
records = (st.lists(row.map(an_object), min_size=1, max_size=3) | st.lists(incomplete, max_size=3)).map(a_list)
cells = st.lists(written, max_size=3).map(a_list)
columns = (
    row.map(lambda cells: an_object([(name, f"[{cell}]") for name, cell in cells]))
    | row.map(an_object)
    | st.lists(st.tuples(names, cells | written), max_size=4).map(an_object)
)
split = st.builds(
    lambda named, data, more: an_object([("columns", a_list(named)), ("data", data), *more]),
    st.just(['"shade"', '"x"', '"y"']) | st.lists(names.map(json.dumps), max_size=4),
    st.lists(written.map(lambda cell: f'["red",{cell},null]') | cells, min_size=1, max_size=3).map(a_list) | written,
    st.just([]) | st.lists(st.tuples(st.sampled_from(["index", "data", "more"]), written), max_size=1),
)
member = st.sampled_from([*FORMATS, "rows"])
in_json_text = (
    st.tuples(member | st.just("rows"), records).map(lambda pair: an_object([pair]))
    | st.tuples(st.sampled_from(["inputs", "instances"]), columns).map(lambda pair: an_object([pair]))
    | split.map(lambda table: f'{{"dataframe_split":{table}}}')
    | st.lists(
        st.tuples(member, records | columns | split | written)
        | st.tuples(st.sampled_from(["params", "more", ""]), written),
        min_size=1,
        max_size=3,
    ).map(an_object)
    | written
    | st.text()
)
csv_cells = st.sampled_from(
    [
        *("1", "1.5", "red", "", "NA", "inf", "1e400", "9" * 400, " 2 "),
        *("true", '"', '"a,b"', "a\nb", "\x00", "é", "1_0", "0x1"),
    ]
)
in_csv_text = st.builds(
    lambda header, rows, separator, end: end.join([separator.join(header), *map(separator.join, rows)]),
    st.just(["shade", "x", "y"]) | st.lists(names | csv_cells, max_size=5),
    st.lists(st.just(["red", "1.5", ""]) | st.lists(csv_cells, min_size=1, max_size=4), max_size=4),
    st.sampled_from([",", ",", ",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
ENCODINGS: list[Callable[[str], bytes]] = [
    *[lambda text: text.encode("utf-8", "surrogatepass")] * 16,
    lambda text: text.encode("utf-8-sig", "surrogatepass"),
    lambda text: text.encode("utf-16", "surrogatepass"),
    lambda text: text.encode("latin-1", "replace"),
    lambda text: gzip.compress(text.encode("utf-8", "surrogatepass")),
    lambda text: text.encode("utf-8", "surrogatepass")[: len(text) // 2],
    lambda text: text.encode("utf-8", "surrogatepass") + b"\xff\xfe\x00",
    lambda text: text.encode("utf-8", "surrogatepass") * 2,
    lambda text: text.encode("utf-8", "surrogatepass").ljust(MOST + 1),
]
CONTENT_TYPES = [
    *[JSON] * 32,
    *[CSV] * 8,
    *("application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"', "text/csv; charset=utf-8"),
    *("application/json; charset=latin-1", "application/json;", "application/json; version=1"),
    *("text/csv; header=absent", "text/plain", "application/vnd.apache.parquet", "multipart/form-data"),
    *("", ";", "é/ü", "a" * 9000),
]
letters = st.characters(codec="latin-1", exclude_categories=["Cc"])
request_ids = st.just("id") | st.just("x" * 5000) | st.text(letters, max_size=20).map(str.strip)
bodies = st.builds(lambda text, encode: encode(text), in_json_text | in_csv_text, st.sampled_from(ENCODINGS))


@pytest.mark.parametrize("mode", [GenerationMode.NEGATIVE, GenerationMode.POSITIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", ["/invocations", "/predict"])
def test_what_it_says_of_itself_holds_for_what_is_made_of_it(
    server: Server, path: str, mode: GenerationMode, record_property: Callable[[str, object], None]
) -> None:
    operation = schemathesis.openapi.from_url(f"{server.url}/openapi.json")[path]["POST"]
    counts: Counter[str] = Counter()
    conform = [not_a_server_error, checks.status_code_conformance, checks.content_type_conformance]
    conform.append(checks.response_schema_conformance)
    if path == "/predict":  # described exactly, as MLflow's formats cannot be: their columns must be of the same length
        conform += [checks.negative_data_rejection, checks.positive_data_acceptance]

    @settings(ONCE, max_examples=DESCRIBED)
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        response = case.call(session=session)
        case.validate_response(response, checks=conform)
        if response.status_code != 200:
            refused(response.content, response.request.body)
        counts[f"{path} {response.status_code}"] += 1

    with requests.Session() as session:
        ask()
    record_property("requests", dict(counts))
    assert counts.total() == DESCRIBED
    assert server.predict(ROW).status_code == 200


@pytest.mark.parametrize("path", ["/invocations", "/predict"])
def test_what_is_composed_of_wrong_parts_is_refused_or_rightly_answered(
    judge: Judge, path: str, record_property: Callable[[str, object], None]
) -> None:
    @ONCE
    @given(asked=st.builds(Asked, st.just(path), bodies, st.sampled_from(CONTENT_TYPES), request_ids, st.booleans()))
    def ask(asked: Asked) -> None:
        judge.ask(asked)

    ask()
    record_property("requests", dict(judge.counts))
    judge.settle(malformed=COMPOSED - 150)


def damaged(random: random.Random, body: bytes) -> bytes:
    """Damage a body in one to three places."""
    made = bytearray(body)
    for _ in range(random.randint(1, 3)):
        start = random.randrange(len(made) + 1)
        stop = min(start + random.choice([1, 1, 2, 8, len(made)]), len(made))
        piece = made[start:stop]
        made[start:stop] = random.choice(
            [
                b"",  # deleted
                piece * random.randint(2, 40),  # repeated
                bytes(byte ^ (1 << random.randrange(8)) for byte in piece),  # flipped
                random.randbytes(len(piece)),  # overwritten
                piece + random.choice([b"\0", b"\xff", b"\xc3", b'"', b"\\", b"[", b"}", b",", b"-", b"e9", b"\r\n"]),
            ]
        )
    return bytes(made)


def test_what_is_damaged_on_its_way_is_refused_or_rightly_answered(
    judge: Judge, record_property: Callable[[str, object], None]
) -> None:
    row = ROW | {"id": 7}
    intact = [
        Asked("/invocations", json.dumps({"dataframe_split": {"columns": [*row], "data": [[*row.values()]]}}).encode()),
        Asked("/invocations", json.dumps({"dataframe_records": [row, ROW]}).encode()),
        Asked("/invocations", json.dumps({"inputs": {name: [cell] for name, cell in row.items()}}).encode()),
        Asked("/invocations", b'shade,x,y,id\nred,1.5,,7\n"blue",-2,1e-3,8\n', CSV),
        Asked("/predict", json.dumps({"rows": [row, ROW]}).encode()),
    ]
    damage = random.Random(2013)
    for asked in intact:
        assert judge.ask(asked) == 200
    for number in range(DAMAGED):
        asked = intact[number % len(intact)]
        judge.ask(asked._replace(body=damaged(damage, asked.body)))
    record_property("requests", dict(judge.counts))
    judge.settle(malformed=DAMAGED - 500)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the beginning of TLS
        b"hello\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n{}",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n{}",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nX-Request-ID: a\r\n\x00b\r\n\r\n",
        b"\x00" * 100,
    ],
    ids=[
        "TLS",
        "no HTTP",
        "a length of many",
        "a negative length",
        "no chunk",
        "a header with a NUL",
        "nothing but NUL",
    ],
)
def test_what_is_no_http_harms_nobody_else(server: Server, sent: bytes) -> None:
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(sent)
        assert connection.recv(1000).startswith(b"HTTP/1.1 4")
    assert server.predict(ROW).status_code == 200


def test_a_client_that_leaves_before_its_body_has_arrived_harms_nobody_else(server: Server) -> None:
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    for _ in range(20):
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(b'POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"rows":')
    assert server.predict(ROW).status_code == 200
