"""The typed protocol of /predict, what the server says of itself, and how it refuses what it cannot answer."""

from __future__ import annotations

import http.client
import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jsonschema_rs
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
import requests
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from continuous_training.serving.following.assignment import Copy
from continuous_training.serving.following.loaded_version import Served
from continuous_training.serving.http import app
from continuous_training.serving.protocols.signature import Refused, Signature
from continuous_training.serving.protocols.typed_protocol import Typed
from continuous_training.versions import loading
from pipeline import Pipeline
from server import Server

MOST = 2000  # bytes of a body
JSON = {"Content-Type": "application/json"}
ROW: dict[str, Any] = {"shade": "red", "x": 1.5, "y": None}
ROWS = pd.DataFrame({"shade": ["red", "blue", None] * 4, "x": np.arange(12.0) % 5, "y": [np.nan, 1.0, 2.0] * 4})


def of(inputs: list[dict[str, Any]], keys: tuple[str, ...] = (), classes: list[Any] | None = None) -> Typed:
    return Typed(Signature.of(inputs, keys, "version 1 of toy"), classes, None)


def refusal(typed: Typed, body: Any) -> str:
    with pytest.raises(Refused) as caught:
        typed.read(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert caught.value.status == 422
    return caught.value.message


def column(name: str, kind: str, *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "type": kind, "required": required}


class Before(NamedTuple):
    """What a server said while there was no champion."""

    described: dict[str, Any]
    asked: requests.Response


@pytest.fixture(scope="module")
def running(tracked_module: pytest.MonkeyPatch) -> Iterator[tuple[Server, Before]]:
    with Server(most=MOST) as running:
        before = Before(running.get("/openapi.json").json(), running.predict(ROW))
        Pipeline(tracked_module).promote()
        running.wait_for("1")
        yield running, before


@pytest.fixture
def server(running: tuple[Server, Before]) -> Server:
    return running[0]


@pytest.fixture
def before(running: tuple[Server, Before]) -> Before:
    return running[1]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], Served]:
    """Fit a model of another target, store it as the pipeline does, and load it as a server does."""

    def store(name: str, target: Any) -> Served:
        estimator = LinearRegression() if np.asarray(target).dtype.kind == "f" else LogisticRegression()
        columns = make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["shade"]), (SimpleImputer(), ["x", "y"])
        )
        model = make_pipeline(columns, estimator).fit(ROWS, target)
        function = "predict" if isinstance(estimator, LinearRegression) else "predict_proba"
        folder = tmp_path_factory.mktemp(name)
        mlflow.sklearn.save_model(
            model,
            folder,
            serialization_format="skops",
            skops_trusted_types=["numpy.dtype"],
            signature=infer_signature(ROWS, getattr(model, function)(ROWS)),
            pyfunc_predict_fn=function,
            pip_requirements=[],
        )
        return Served(folder, Copy(identity="toy", name="toy", number="7", run_id=""), ["numpy.dtype"], ["id"])

    return store


def answered(served: Served, **row: Any) -> dict[str, Any]:
    """Ask a version as /predict does; see that it answers as it says."""
    rows = served.typed.read(json.dumps({"rows": [row]}).encode())
    text = served.typed.write(served.number, "one", served.answer(served.signature.arrays([rows])))
    served.typed.answered.validate_json(text)
    jsonschema_rs.validator_for(served.typed.answered.json_schema(mode="serialization")).validate(
        told := json.loads(text)
    )
    assert (told["model_version"], told["request_id"]) == ("7", "one")
    (prediction,) = told["predictions"]
    return prediction


class TestAnswers:
    @pytest.mark.parametrize(
        ("target", "classes"),
        [
            ([False, True] * 6, {"false": False, "true": True}),
            (["late", "on time", "é"] * 4, {"late": "late", "on time": "on time", "é": "é"}),
            ([3, 1, 2] * 4, {"1": 1, "2": 2, "3": 3}),
        ],
        ids=["truth", "texts", "integers"],
    )
    def test_a_classifier_answers_with_its_likeliest_label_and_the_probability_of_each(
        self, stored: Callable[[str, Any], Served], target: list[Any], classes: dict[str, Any]
    ) -> None:
        served = stored("classes", target)
        prediction = answered(served, shade="red", x=1.0, y=None)
        assert list(prediction["probabilities"]) == list(classes)
        assert sum(prediction["probabilities"].values()) == pytest.approx(1)
        likeliest = max(prediction["probabilities"], key=prediction["probabilities"].get)
        assert prediction["label"] == classes[likeliest]
        assert type(prediction["label"]) is type(target[0])

    def test_a_regression_answers_with_a_value(self, stored: Callable[[str, Any], Served]) -> None:
        prediction = answered(stored("value", ROWS["x"].to_numpy() * 2), shade="blue", x=3.0, y=1.0)
        assert prediction == {"value": pytest.approx(6.0)}

    def test_one_of_several_numbers_answers_with_a_list(self, stored: Callable[[str, Any], Served]) -> None:
        target = np.stack([ROWS["x"] * 2, ROWS["x"] + 1], axis=1)
        prediction = answered(stored("list", target), shade="blue", x=3.0, y=1.0)
        assert prediction == {"value": [pytest.approx(6.0), pytest.approx(4.0)]}

    def test_a_number_that_is_none_is_null(self) -> None:
        typed = of([column("x", "double")], classes=[False, True])
        told = json.loads(typed.write("1", "one", np.array([[np.nan, np.nan]])))
        assert told["predictions"][0]["probabilities"] == {"false": None, "true": None}

    def test_it_is_the_answer_of_the_model_offline(self, server: Server) -> None:
        told = server.predict(ROW, ROW | {"x": -2, "y": 0.25, "shade": None}).json()
        rows = pd.DataFrame({"shade": ["red", None], "x": [1.5, -2.0], "y": [np.nan, 0.25]})
        expected = loading.load("models:/toy/1", ("numpy.dtype",)).predict_proba(rows)
        found = [[one["probabilities"]["false"], one["probabilities"]["true"]] for one in told["predictions"]]
        assert np.allclose(found, expected, rtol=0, atol=1e-12)
        assert [one["label"] for one in told["predictions"]] == [bool(chances.argmax()) for chances in expected]


class TestRows:
    TYPED = of([column("s", "string"), column("x", "double"), column("y", "double", required=False)], ("id", "day"))

    def test_cells_are_of_their_columns_types(self) -> None:
        inputs = [
            column(kind, kind) for kind in ("double", "float", "long", "integer", "boolean", "string", "datetime")
        ]
        row = {"double": 1, "float": 0.5, "long": 2**63 - 1, "integer": -1, "boolean": True, "string": "a"}
        rows = of(inputs).read(json.dumps({"rows": [row | {"datetime": "2013-04-01T12:00:00"}]}).encode())
        assert {name: cells[0] for name, cells in rows.columns.items()} == row | {"datetime": "2013-04-01T12:00:00"}

    @pytest.mark.parametrize(
        ("kind", "cell", "message"),
        [
            ("double", "1.5", "rows.0.a: Input should be a valid number"),
            ("double", True, "rows.0.a: Input should be a valid number"),
            ("double", [1.5], "rows.0.a: Input should be a valid number"),
            ("float", 1e39, "rows.0.a: Input should be less than or equal to 340"),
            ("long", 1.5, "rows.0.a: Input should be a valid integer"),
            ("long", 1.0, "rows.0.a: Input should be a valid integer"),
            ("long", None, "rows.0.a: Input should be a valid integer"),
            ("long", 2**63, "rows.0.a: Input should be less than or equal to 9223372036854775807"),
            ("integer", -(2**31) - 1, "rows.0.a: Input should be greater than or equal to -2147483648"),
            ("boolean", 1, "rows.0.a: Input should be a valid boolean"),
            ("boolean", "true", "rows.0.a: Input should be a valid boolean"),
            ("boolean", None, "rows.0.a: Input should be a valid boolean"),
            ("string", 1, "rows.0.a: Input should be a valid string"),
            ("datetime", 1, "rows.0.a: Input should be a valid string"),
            ("datetime", "noon", "column «a», row 0: 'noon' is not a time such as 2013-04-01T12:00:00, without a zone"),
            ("datetime", "2013-04-01T12:00:00Z", "column «a», row 0: '2013-04-01T12:00:00Z' is not a time"),
        ],
    )
    def test_a_cell_of_another_type_is_422(self, kind: str, cell: object, message: str) -> None:
        assert refusal(of([column("a", kind)]), {"rows": [{"a": cell}]}).startswith(message)

    def test_a_column_that_nobody_asks_for_is_named(self) -> None:
        assert (
            refusal(self.TYPED, {"rows": [{"s": "a", "x": 1, "xx": 2}]}) == "rows.0.xx: Extra inputs are not permitted"
        )

    def test_a_column_that_is_missing_is_named_with_its_row(self) -> None:
        assert refusal(self.TYPED, {"rows": [{"s": "a", "x": 1}, {"s": "a"}]}) == "rows.1.x: Field required"

    def test_an_optional_column_may_be_missing_in_some_rows(self) -> None:
        rows = self.TYPED.read(b'{"rows": [{"s": "a", "x": 1, "y": 2}, {"s": "b", "x": null}]}')
        assert rows.columns == {"s": ["a", "b"], "x": [1, None], "y": [2, None]}

    def test_columns_that_name_a_row_may_be_there_in_some_rows(self) -> None:
        rows = self.TYPED.read(b'{"rows": [{"s": "a", "x": 1, "id": 7, "day": "mon"}, {"s": "b", "x": 2, "id": null}]}')
        assert rows.keys == {"id": [7, None], "day": ["mon", None]}

    def test_columns_may_have_any_names(self) -> None:
        names = ["é x", "class", "a.b", "__class__", "_x", "model_x", "1st", "rows", "Row", "a\nb", ""]
        typed = of([column(name, "double") for name in names])
        assert list(typed.read(json.dumps({"rows": [dict.fromkeys(names, 1)]}).encode()).columns) == names

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ([], "the body: Input should be a valid dictionary"),
            ({}, "rows: Field required"),
            ({"rows": []}, "rows: List should have at least 1 item"),
            ({"rows": {"s": "a", "x": 1}}, "rows: Input should be a valid list"),
            ({"rows": [[1]]}, "rows.0: Input should be a valid dictionary"),
            ({"rows": [{"s": "a", "x": 1}], "params": {}}, "params: Extra inputs are not permitted"),
            ({"rows": [{"s": "a", "x": 1, "id": [7]}]}, "rows.0.id.str: Input should be a valid string"),
            (
                {"rows": [{"s": "a", "x": 1}], **{f"more {one}": 1 for one in range(10)}},
                "the body: it has more in it than rows",
            ),
        ],
    )
    def test_another_shape_is_422(self, body: object, message: str) -> None:
        assert refusal(self.TYPED, body).startswith(message)

    @pytest.mark.parametrize(
        "body", [b"", b"rows", b'{"rows": [NaN]}', b'{"rows": [{"x": 1e400}]}', b"\xff", b"[" * 2000]
    )
    def test_what_is_no_json_is_400(self, body: bytes) -> None:
        with pytest.raises(Refused, match="the body is not JSON") as caught:
            self.TYPED.read(body)
        assert caught.value.status == 400

    @pytest.mark.parametrize("cell", ["[" * 500 + "]" * 500, '{"x":' * 1000 + "1" + "}" * 1000])
    @pytest.mark.parametrize("name", ["x", "id", "more"])
    def test_a_cell_of_any_depth_is_422(self, name: str, cell: str) -> None:
        body = f'{{"rows": [{{"s": "a", "x": 1, "{name}": {cell}}}]}}'
        assert refusal(self.TYPED, body.encode()).startswith(f"rows.0.{name}")

    @pytest.mark.parametrize("name", ["a\nb", "a\u2028b", "\x1b[31m", "a" * 100_000, "\U000e0001" * 40])
    @pytest.mark.parametrize("more", [0, 50])
    def test_a_name_is_told_back_in_one_short_line(self, name: str, more: int) -> None:
        body = {"rows": [{"s": "a", "x": 1, name: 1, **{f"more {one}": 1 for one in range(more)}}]}
        message = refusal(self.TYPED, body)
        assert message.isprintable()
        assert len(message) < 200

    @pytest.mark.parametrize(
        "body",
        [
            {"rows": [0] * 20_000},
            {"rows": [{str(one): 0 for one in range(20_000)}]},
            {"rows": [{"s": "a", "x": 1}]} | {str(one): 0 for one in range(20_000)},
        ],
        ids=["rows", "columns", "members"],
    )
    def test_a_body_of_nothing_but_errors_costs_no_more_than_one_of_rows(self, body: dict[str, Any]) -> None:
        sent = json.dumps(body).encode()
        tracemalloc.start()
        refusal(self.TYPED, sent)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 6_000_000  # bytes; 20,000 errors would be 15 million


class TestDescription:
    def schema(self, server: Server) -> dict[str, Any]:
        return server.get("/openapi.json").json()

    def test_it_has_the_types_of_the_champion(self, server: Server) -> None:
        row = self.schema(server)["components"]["schemas"]["Row"]
        kinds = {name: {one["type"] for one in cell["anyOf"]} for name, cell in row["properties"].items()}
        assert row["additionalProperties"] is False
        assert row["required"] == ["shade", "x"]
        assert kinds["shade"] == {"string", "null"}
        assert kinds["x"] == kinds["y"] == {"number", "null"}
        assert kinds["id"] == {"string", "integer", "number", "boolean", "null"}
        assert "enum" not in json.dumps(self.schema(server))  # a category that is new tomorrow is no error

    def test_cells_that_cannot_be_null_are_described_so_with_their_limits(self) -> None:
        inputs = [
            column("l", "long"),
            column("b", "boolean", required=False),
            column("f", "float"),
            column("t", "datetime"),
        ]
        row = of(inputs).asked.json_schema()["$defs"]["Row"]
        assert row["required"] == ["l", "b", "f", "t"]
        found = row["properties"]
        assert (found["l"]["type"], found["l"]["minimum"], found["l"]["maximum"]) == ("integer", -(2**63), 2**63 - 1)
        assert found["b"]["type"] == "boolean"
        assert found["f"]["anyOf"][0]["maximum"] == float(np.finfo(np.float32).max)
        time = found["t"]["anyOf"][0]
        jsonschema_rs.validator_for(time).validate(time["examples"][0])
        assert not jsonschema_rs.is_valid(time, "2013-04-01T12:00:00Z")

    @pytest.mark.parametrize("path", ["/predict", "/invocations"])
    def test_it_describes_every_refusal(self, server: Server, path: str) -> None:
        responses = self.schema(server)["paths"][path]["post"]["responses"]
        assert set(responses) == {"200", "400", "401", "408", "413", "415", "422", "429", "503"}
        refusals = [
            responses[status]["content"]["application/json"]["schema"] for status in responses if status != "200"
        ]
        assert all(schema == {"$ref": "#/components/schemas/Refusal"} for schema in refusals)

    @pytest.mark.parametrize(
        ("body", "valid"),
        [
            ({"dataframe_records": [ROW]}, True),
            ({"dataframe_records": [ROW | {"more": 1}], "params": None}, True),
            ({"dataframe_split": {"columns": ["x", "shade"], "data": [[1, "red"]]}}, True),
            ({"instances": [ROW]}, True),
            ({"inputs": {"shade": ["red"], "x": [1.5]}}, True),
            ({"dataframe_records": [{"x": 1}]}, False),
            ({"dataframe_records": [{"shade": "red", "x": "1"}]}, False),
            ({"inputs": {"shade": ["red"], "x": ["1"]}}, False),
            ({"inputs": {"x": [1]}}, False),
            ({"instances": [ROW], "inputs": [ROW]}, False),
            ({"rows": [ROW]}, False),
        ],
    )
    def test_what_it_says_of_mlflows_formats_is_so(self, server: Server, body: dict[str, Any], valid: bool) -> None:
        described = self.schema(server)
        schema = described["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert jsonschema_rs.is_valid(schema | {"components": described["components"]}, body) == valid
        assert (server.ask(**body).status_code == 200) == valid

    def test_its_version_is_the_champions(self, server: Server) -> None:
        assert self.schema(server)["info"] == {"title": "toy champion", "version": "1"}

    def test_there_is_a_page_for_people(self, server: Server) -> None:
        page = server.get("/docs")
        assert (page.status_code, page.headers["Content-Type"].partition(";")[0]) == (200, "text/html")
        assert "/openapi.json" in page.text

    def test_without_a_champion_nothing_can_be_asked_of_predict(self, before: Before) -> None:
        assert "/predict" not in before.described["paths"]
        assert "/invocations" in before.described["paths"]
        assert before.described["info"]["version"] == "none"
        assert (before.asked.status_code, before.asked.headers["Retry-After"]) == (503, "1")
        assert before.asked.json()["message"] == "there is no champion to answer with yet"


class TestRequests:
    @pytest.mark.parametrize("given", ["a", "x" * 128, "!~#$%&'*+-.^_`|", "0b1c-7"])
    def test_the_id_of_a_request_is_told_back(self, server: Server, given: str) -> None:
        answer = requests.post(
            f"{server.url}/predict", json={"rows": [ROW]}, headers={"X-Request-ID": given}, timeout=10
        )
        assert answer.headers["X-Request-ID"] == answer.json()["request_id"] == given

    @pytest.mark.parametrize("given", ["", "x" * 129, "a b", "é", "a\tb"])
    def test_one_that_cannot_be_used_is_replaced(self, server: Server, given: str) -> None:
        headers = {"X-Request-ID": given.encode("latin-1")}
        answer = requests.post(f"{server.url}/predict", json={"rows": [ROW]}, headers=headers, timeout=10)
        made = answer.json()["request_id"]
        assert answer.headers["X-Request-ID"] == made != given
        assert len(made) == 32

    def test_two_requests_without_one_get_two(self, server: Server) -> None:
        assert len({server.predict(ROW).headers["X-Request-ID"] for _ in range(2)}) == 2

    @pytest.mark.parametrize("path", ["/predict", "/invocations"])
    def test_a_refusal_has_the_id_too(self, server: Server, path: str) -> None:
        headers = JSON | {"X-Request-ID": "mine"}
        refused = requests.post(f"{server.url}{path}", data=b"{", headers=headers, timeout=10)
        assert (refused.status_code, refused.headers["X-Request-ID"]) == (400, "mine")

    @pytest.mark.parametrize("path", ["/predict", "/invocations"])
    @pytest.mark.parametrize("size", [MOST + 1, 200 * MOST])
    @pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
    def test_a_body_that_is_too_large_is_refused_and_the_connection_goes_on(
        self, server: Server, path: str, size: int, chunked: bool
    ) -> None:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
        pieces = iter([b" " * MOST, b" " * (size - MOST)])
        connection.request("POST", path, pieces if chunked else b" " * size, JSON, encode_chunked=chunked)
        response = connection.getresponse()
        assert response.status == 413
        message = f"the body is larger than {MOST:,} bytes: send fewer rows"
        assert json.loads(response.read()) == {"error_code": "INVALID_PARAMETER_VALUE", "message": message}
        connection.request("POST", "/predict", json.dumps({"rows": [ROW]}), JSON)
        assert connection.getresponse().status == 200
        connection.close()

    def test_a_body_that_does_not_arrive_is_not_waited_for(
        self, monkeypatch: pytest.MonkeyPatch, server: Server
    ) -> None:
        monkeypatch.setattr(app, "BODY_SECONDS", 0.01)
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
        connection.request("POST", "/predict", b'{"rows":', JSON | {"Content-Length": "100"})
        response = connection.getresponse()
        assert response.status == 408
        assert json.loads(response.read())["message"].startswith("the body did not arrive in")
        connection.close()

    @pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
    def test_a_body_that_is_just_not_too_large_is_answered(self, server: Server, chunked: bool) -> None:
        body = json.dumps({"rows": [ROW]}).encode().ljust(MOST)
        answer = requests.post(
            f"{server.url}/predict", data=iter([body[:9], body[9:]]) if chunked else body, headers=JSON, timeout=10
        )
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/", 404),
            ("POST", "/nowhere", 404),
            ("GET", "/%00%ff/../..//", 404),
            ("GET", "/predict", 405),
            ("PUT", "/invocations", 405),
            ("DELETE", "/health", 405),
            ("POST", "/version", 405),
        ],
    )
    def test_what_no_endpoint_answers_is_refused_in_the_same_form(
        self, server: Server, method: str, path: str, status: int
    ) -> None:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
        connection.request(method, path)
        response = connection.getresponse()
        told = json.loads(response.read())
        connection.close()
        assert (response.status, response.headers["Content-Type"]) == (status, "application/json")
        assert set(told) == {"error_code", "message"}
        assert told["error_code"] == "ENDPOINT_NOT_FOUND"
        assert ("Allow" in response.headers) == (status == 405)
