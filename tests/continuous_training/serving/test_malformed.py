"""Malformed requests: each of six thousand is an error of one line, or its predictions are correct.

They are generated in three ways: from the server's OpenAPI description, from invalid parts, and by damage to valid
requests. All are sent over real connections, which must stay open.
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

from conftest import TIMEOUT
from continuous_training.serving.following import hosted_version, loader
from continuous_training.serving.http import app
from continuous_training.serving.prediction import batching, routing
from continuous_training.serving.protocols import errors, mlflow_protocol, signature, typed_protocol
from pipeline import Pipeline
from server import Server
from stored_versions import load_estimator

pytestmark = [
    pytest.mark.integration(seconds=40),
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),  # x may be 1e308
]

# The numbers of requests: from the description for each path and mode, from invalid parts for each path, damaged in all
# (to draw one from the description takes a hundred times as long as to damage one)
DESCRIPTION_REQUESTS, INVALID_PART_REQUESTS, DAMAGED_REQUESTS = 30, 500, 5000
MAX_BODY = 20_000  # bytes of a body
JSON, CSV = "application/json", "text/csv"
FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
DOCUMENTED_STATUSES = {200, 400, 413, 415, 422}
GENERATE_ONLY = settings(
    max_examples=INVALID_PART_REQUESTS, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
CLASS_NAMES = {
    name
    for module in (app, batching, errors, hosted_version, loader, mlflow_protocol, routing, signature, typed_protocol)
    for name, value in vars(module).items()
    if isinstance(value, type) and value.__module__.startswith("continuous_training")
}
INTERNALS = re.compile(rf"Traceback|File \"|\.py\b|site-packages|continuous_training|\b({'|'.join(CLASS_NAMES)})\b")
ROW: dict[str, Any] = {"shade": "red", "x": 1.5, "y": -0.25}


class SentRequest(NamedTuple):
    """A request, byte for byte."""

    path: str
    body: bytes
    content_type: str = JSON
    request_id: str = "id"
    in_chunks: bool = False


class CheckingClient:
    """Sends requests over one connection, and checks each response."""

    def __init__(self, url: str, offline: Callable[[pd.DataFrame], np.ndarray]) -> None:
        self.counts: Counter[str] = Counter()
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT)
        self._offline = offline
        self._rows: list[pd.DataFrame] = []
        self._predictions: list[list[float]] = []

    def send(self, request: SentRequest) -> int:
        """Send a request, check the response, and return its status."""
        headers = {"Content-Type": request.content_type, "X-Request-ID": request.request_id}
        body = iter([request.body[:7], request.body[7:]]) if request.in_chunks else request.body
        try:
            self._connection.request("POST", request.path, body, headers, encode_chunked=request.in_chunks)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            pytest.fail(f"the server closed the connection ({error!r}): {request}")
        assert response.status in DOCUMENTED_STATUSES, request
        assert response.headers["Content-Type"] == JSON, request
        if response.status == 200:
            self._add_prediction(request, json.loads(text), response.headers["X-Request-ID"])
        else:
            check_error(text, request)
        self.counts[f"{request.path} {response.status}"] += 1
        return response.status

    def close(self) -> None:
        self._connection.close()

    def check(self, min_errors: int) -> None:
        """Check that the server still works, that all predictions are correct, and that enough requests were errors."""
        assert self.send(SentRequest("/predict", json.dumps({"rows": [ROW]}).encode())) == 200
        expected = self._offline(pd.concat(self._rows, ignore_index=True))
        assert np.allclose(np.array(self._predictions, float), expected, rtol=0, atol=1e-9, equal_nan=True)
        assert sum(self.counts[outcome] for outcome in self.counts if not outcome.endswith("200")) >= min_errors

    def _add_prediction(self, request: SentRequest, document: dict[str, Any], request_id: str) -> None:
        rows = parse_rows(request)
        predictions = document["predictions"]
        if request.path == "/predict":
            assert request_id == document["request_id"]
            predictions = [
                [item["probabilities"][label] for label in ("false", "true")] for item in document["predictions"]
            ]
        assert len(predictions) == len(rows), request
        self._rows.append(rows)
        self._predictions += predictions


def check_error(text: bytes, request: object) -> None:
    """Check that an error has a message of one line without internals of the server."""
    document = json.loads(text)
    assert set(document) == {"error_code", "message"}, request
    assert len(document["message"].splitlines()) == 1, request
    assert len(document["message"]) < 1000, request
    internals = INTERNALS.search(document["message"])
    assert internals is None or internals[0] in str(request), (request, document)  # a message may quote the request


def parse_rows(request: SentRequest) -> pd.DataFrame:
    """Parse a request that got predictions, independently of the server; fail if it should have been an error."""
    is_csv = (request.path, request.content_type[:8]) == ("/invocations", CSV)
    table = parse_csv(request.body) if is_csv else parse_json(request)
    rows = table.astype(object).where(table.notna(), None).to_dict(orient="records")
    for row in rows:
        assert isinstance(row.setdefault("shade", None), str | None), request
        for name in ("x", "y"):
            assert row.setdefault(name, None) is None or type(row[name]) in {int, float}, request
            assert row[name] is None or math.isfinite(row[name]), request
    assert rows, request
    assert {"shade", "x"} <= {*table.columns}, request
    return pd.DataFrame(
        {
            "shade": pd.Series([row["shade"] for row in rows], dtype=object),
            "x": np.array([row["x"] for row in rows], dtype=float),
            "y": np.array([row["y"] for row in rows], dtype=float),
        }
    )


def parse_csv(body: bytes) -> pd.DataFrame:
    names, *lines = [line for line in csv.reader(StringIO(body.decode("utf-8-sig"), newline=""), strict=True) if line]
    assert len(set(names)) == len(names), body
    assert {len(line) for line in lines} == {len(names)}, body
    table = pd.read_csv(
        StringIO(
            "\n".join(
                ",".join(f'"{value.replace(chr(34), chr(34) * 2)}"' for value in line) for line in [names, *lines]
            )
        ),
        dtype=str,
        engine="python",
    )
    for name in {"x", "y"} & {*table.columns}:
        table[name] = table[name].astype(float)
    return table


def parse_json(request: SentRequest) -> pd.DataFrame:
    document = json.loads(request.body.decode(), parse_constant=lambda name: pytest.fail(f"{name}: {request}"))
    if request.path == "/predict":
        assert set(document) == {"rows"}, request
        assert all(set(row) <= {"shade", "x", "y", "id"} for row in document["rows"]), request
        return pd.DataFrame(document["rows"], dtype=object)
    (table,) = (document[name] for name in FORMATS if name in document)
    if "dataframe_split" in document:
        assert {len(row) for row in table["data"]} == {len(set(table["columns"]))}, request
        return pd.DataFrame(table["data"], columns=table["columns"], dtype=object)
    if isinstance(table, dict):
        return pd.DataFrame(
            {name: values if isinstance(values, list) else [values] for name, values in table.items()}, dtype=object
        )
    return pd.DataFrame(table, dtype=object)


@pytest.fixture(scope="module")
def server(mlflow_workspace_patch: pytest.MonkeyPatch) -> Iterator[Server]:
    Pipeline(mlflow_workspace_patch).promote()
    with Server(max_body=MAX_BODY) as server:
        server.wait_for_version("1")
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[CheckingClient]:
    client = CheckingClient(server.url, load_estimator("models:/toy/1").predict_proba)
    yield client
    client.close()


# Literals for values: many are not JSON, or not valid in any column.
LITERALS = r"""
    1e400 -1e400 1e308 -0 0.0 01 +1 .5 1. 0x10 1_000 NaN -NaN Infinity -Infinity null None true false True nul 1e -
    "" "1.5" "red" "true" "NaN" 'red' "\ud800" "\u0000" "\x" "\u2028" "2013-04-01T12:00:00" [] {} [1] [[]] {"x":1}
    [null] [[1],[2,3]] -1e-400 18446744073709551616 9223372036854775808 1e5 1E+2
"""
literals = (
    st.sampled_from(LITERALS.split())
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


def to_object(values: list[tuple[str, str]]) -> str:
    members = ",".join(f"{json.dumps(name)}:{value}" for name, value in values)
    return f"{{{members}}}"


def to_list(values: list[str]) -> str:
    return f"[{','.join(values)}]"


row = st.lists(good | st.tuples(names, literals), max_size=2).map(lambda more: [("shade", '"blue"'), ("x", "2"), *more])
incomplete = row.map(lambda values: to_object(values[1:])) | literals
records = (st.lists(row.map(to_object), min_size=1, max_size=3) | st.lists(incomplete, max_size=3)).map(to_list)
values = st.lists(literals, max_size=3).map(to_list)
columns = (
    row.map(lambda values: to_object([(name, f"[{value}]") for name, value in values]))
    | row.map(to_object)
    | st.lists(st.tuples(names, values | literals), max_size=4).map(to_object)
)
split = st.builds(
    lambda column_names, data, more: to_object([("columns", to_list(column_names)), ("data", data), *more]),
    st.just(['"shade"', '"x"', '"y"']) | st.lists(names.map(json.dumps), max_size=4),
    st.lists(literals.map(lambda value: f'["red",{value},null]') | values, min_size=1, max_size=3).map(to_list)
    | literals,
    st.just([]) | st.lists(st.tuples(st.sampled_from(["index", "data", "more"]), literals), max_size=1),
)
member = st.sampled_from([*FORMATS, "rows"])
in_json_text = (
    st.tuples(member | st.just("rows"), records).map(lambda pair: to_object([pair]))
    | st.tuples(st.sampled_from(["inputs", "instances"]), columns).map(lambda pair: to_object([pair]))
    | split.map(lambda table: f'{{"dataframe_split":{table}}}')
    | st.lists(
        st.tuples(member, records | columns | split | literals)
        | st.tuples(st.sampled_from(["params", "more", ""]), literals),
        min_size=1,
        max_size=3,
    ).map(to_object)
    | literals
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
    lambda text: text.encode("utf-8", "surrogatepass").ljust(MAX_BODY + 1),
]
CONTENT_TYPES = [
    *[JSON] * 32,
    *[CSV] * 8,
    *("application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"', "text/csv; charset=utf-8"),
    *("application/json; charset=latin-1", "application/json;", "application/json; version=1"),
    *("text/csv; header=absent", "text/plain", "application/vnd.apache.parquet", "multipart/form-data"),
    *("", ";", "é/ü", "a" * 9000),
]
content_types = st.sampled_from(CONTENT_TYPES)
letters = st.characters(codec="latin-1", exclude_categories=["Cc"])
request_ids = st.just("id") | st.just("x" * 5000) | st.text(letters, max_size=20).map(str.strip)
bodies = st.builds(lambda text, encode: encode(text), in_json_text | in_csv_text, st.sampled_from(ENCODINGS))


@pytest.mark.parametrize("mode", [GenerationMode.NEGATIVE, GenerationMode.POSITIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", ["/invocations", "/predict"])
def test_requests_from_the_openapi_description_get_the_described_responses(
    server: Server, path: str, mode: GenerationMode, record_property: Callable[[str, object], None]
) -> None:
    operation = schemathesis.openapi.from_url(f"{server.url}/openapi.json")[path]["POST"]
    counts: Counter[str] = Counter()
    response_checks = [not_a_server_error, checks.status_code_conformance, checks.content_type_conformance]
    response_checks.append(checks.response_schema_conformance)
    if path == "/predict":  # its description is exact; MLflow's formats require columns of the same length
        response_checks += [checks.negative_data_rejection, checks.positive_data_acceptance]

    @settings(GENERATE_ONLY, max_examples=DESCRIPTION_REQUESTS)
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        response = case.call(session=session)
        case.validate_response(response, checks=response_checks)
        if response.status_code != 200:
            check_error(response.content, response.request.body)
        counts[f"{path} {response.status_code}"] += 1

    with requests.Session() as session:
        send()
    record_property("requests", dict(counts))
    assert counts.total() == DESCRIPTION_REQUESTS
    assert server.predict(ROW).status_code == 200


@pytest.mark.parametrize("path", ["/invocations", "/predict"])
def test_requests_from_invalid_parts_are_errors_or_predicted_correctly(
    client: CheckingClient, path: str, record_property: Callable[[str, object], None]
) -> None:
    @GENERATE_ONLY
    @given(st.builds(SentRequest, st.just(path), bodies, content_types, request_ids, st.booleans()))
    def send(request: SentRequest) -> None:
        client.send(request)

    send()
    record_property("requests", dict(client.counts))
    client.check(min_errors=INVALID_PART_REQUESTS - 60)


def damage_body(random: random.Random, body: bytes) -> bytes:
    """Damage a body in one to three positions."""
    content = bytearray(body)
    for _ in range(random.randint(1, 3)):
        start = random.randrange(len(content) + 1)
        stop = min(start + random.choice([1, 1, 2, 8, len(content)]), len(content))
        piece = content[start:stop]
        content[start:stop] = random.choice(
            [
                b"",  # deleted
                piece * random.randint(2, 40),  # repeated
                bytes(byte ^ (1 << random.randrange(8)) for byte in piece),  # flipped
                random.randbytes(len(piece)),  # overwritten
                piece + random.choice([b"\0", b"\xff", b"\xc3", b'"', b"\\", b"[", b"}", b",", b"-", b"e9", b"\r\n"]),
            ]
        )
    return bytes(content)


def test_damaged_requests_are_errors_or_predicted_correctly(
    client: CheckingClient, record_property: Callable[[str, object], None]
) -> None:
    row = ROW | {"id": 7}
    split = {"columns": [*row], "data": [[*row.values()]]}
    valid = [
        SentRequest("/invocations", json.dumps({"dataframe_split": split}).encode()),
        SentRequest("/invocations", json.dumps({"dataframe_records": [row, ROW]}).encode()),
        SentRequest("/invocations", json.dumps({"inputs": {name: [value] for name, value in row.items()}}).encode()),
        SentRequest("/invocations", b'shade,x,y,id\nred,1.5,,7\n"blue",-2,1e-3,8\n', CSV),
        SentRequest("/predict", json.dumps({"rows": [row, ROW]}).encode()),
    ]
    generator = random.Random(2013)
    for request in valid:
        assert client.send(request) == 200
    for number in range(DAMAGED_REQUESTS):
        request = valid[number % len(valid)]
        client.send(request._replace(body=damage_body(generator, request.body)))
    record_property("requests", dict(client.counts))
    client.check(min_errors=DAMAGED_REQUESTS - 400)


@pytest.mark.parametrize(
    "content",
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
def test_invalid_http_does_not_affect_other_requests(server: Server, content: bytes) -> None:
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=TIMEOUT) as connection:
        connection.sendall(content)
        assert connection.recv(1000).startswith(b"HTTP/1.1 4")
    assert server.predict(ROW).status_code == 200


def test_a_client_that_disconnects_early_does_not_affect_other_requests(server: Server) -> None:
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    for _ in range(20):
        with socket.create_connection(address, timeout=TIMEOUT) as connection:
            connection.sendall(b'POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"rows":')
    assert server.predict(ROW).status_code == 200
