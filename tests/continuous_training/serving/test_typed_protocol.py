"""The typed protocol of /predict, the OpenAPI description, and the errors of the HTTP interface."""

from __future__ import annotations

import http.client
import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
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

from conftest import TIMEOUT
from continuous_training.serving.following.assignment import VersionReference
from continuous_training.serving.following.hosted_version import SOCKET, HostedVersion
from continuous_training.serving.http import app
from continuous_training.serving.protocols.errors import RequestError
from continuous_training.serving.protocols.signature import Signature
from continuous_training.serving.protocols.typed_protocol import TypedProtocol
from continuous_training.settings import Model
from continuous_training.versions import examination
from continuous_training.versions.examination import Policy
from continuous_training.versions.file_names import MANIFEST
from continuous_training.versions.host import HostStarter
from pipeline import Pipeline
from server import Server
from stored_versions import load_estimator

MAX_BODY = 2000  # bytes of a body
JSON = {"Content-Type": "application/json"}
ROW: dict[str, Any] = {"shade": "red", "x": 1.5, "y": None}
REFERENCE = VersionReference(identity="toy", name="toy", number="7", run_id="")
ROWS = pd.DataFrame({"shade": ["red", "blue", None] * 4, "x": np.arange(12.0) % 5, "y": [np.nan, 1.0, 2.0] * 4})


def protocol(
    inputs: list[dict[str, Any]], keys: tuple[str, ...] = (), classes: list[Any] | None = None
) -> TypedProtocol:
    return TypedProtocol(Signature.from_mlflow(inputs, keys, "version 1 of toy"), classes, None)


def get_error(protocol: TypedProtocol, body: Any) -> str:
    with pytest.raises(RequestError) as error:
        protocol.parse_rows(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert error.value.status == 422
    return error.value.message


def column(name: str, column_type: str, *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "type": column_type, "required": required}


class WithoutChampion(NamedTuple):
    """The responses of a server without a champion."""

    description: dict[str, Any]
    prediction: requests.Response


@pytest.fixture(scope="module")
def server_and_first_responses(
    mlflow_workspace_patch: pytest.MonkeyPatch,
) -> Iterator[tuple[Server, WithoutChampion]]:
    with Server(max_body=MAX_BODY) as server:
        before = WithoutChampion(server.get("/openapi.json").json(), server.predict(ROW))
        Pipeline(mlflow_workspace_patch).promote()
        server.wait_for_version("1")
        yield server, before


@pytest.fixture
def server(server_and_first_responses: tuple[Server, WithoutChampion]) -> Server:
    return server_and_first_responses[0]


@pytest.fixture
def without_champion(server_and_first_responses: tuple[Server, WithoutChampion]) -> WithoutChampion:
    return server_and_first_responses[1]


@pytest.fixture(scope="module")
def load_model(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str, Any], HostedVersion]]:
    """Fit a model to another target, store it as the pipeline does, and load it as a server does."""
    starter, hosts = HostStarter(), []

    def store(name: str, target: Any) -> HostedVersion:
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
        task = "regression" if function == "predict" else "classification"
        manifest = examination.examine(folder, Policy("toy", Model(task=task, allow_unsigned=True)), "")
        (folder / MANIFEST).write_text(manifest.model_dump_json())
        hosts.append(starter.start(folder, manifest, folder / SOCKET))
        return HostedVersion(REFERENCE, folder, ["id"])

    with closing(starter):
        yield store


def predict(version: HostedVersion, **row: Any) -> dict[str, Any]:
    """Predict a row as /predict does, and validate the response by its own description."""
    rows = version.typed_protocol.parse_rows(json.dumps({"rows": [row]}).encode())
    text = version.typed_protocol.write_predictions(
        version.number, "one", version.predict(version.signature.to_arrays([rows]))
    )
    version.typed_protocol.response_type.validate_json(text)
    jsonschema_rs.validator_for(version.typed_protocol.response_type.json_schema(mode="serialization")).validate(
        document := json.loads(text)
    )
    assert (document["model_version"], document["request_id"]) == ("7", "one")
    (prediction,) = document["predictions"]
    return prediction


class TestPredictions:
    @pytest.mark.parametrize(
        ("target", "classes"),
        [
            ([False, True] * 6, {"false": False, "true": True}),
            (["late", "on time", "é"] * 4, {"late": "late", "on time": "on time", "é": "é"}),
            ([3, 1, 2] * 4, {"1": 1, "2": 2, "3": 3}),
        ],
        ids=["booleans", "texts", "integers"],
    )
    def test_a_classifier_predicts_a_label_and_the_probability_of_each_class(
        self, load_model: Callable[[str, Any], HostedVersion], target: list[Any], classes: dict[str, Any]
    ) -> None:
        version = load_model("classes", target)
        prediction = predict(version, shade="red", x=1.0, y=None)
        assert list(prediction["probabilities"]) == list(classes)
        assert sum(prediction["probabilities"].values()) == pytest.approx(1)
        most_probable = max(prediction["probabilities"], key=prediction["probabilities"].get)
        assert prediction["label"] == classes[most_probable]
        assert type(prediction["label"]) is type(target[0])

    def test_a_regression_predicts_a_value(self, load_model: Callable[[str, Any], HostedVersion]) -> None:
        prediction = predict(load_model("value", ROWS["x"].to_numpy() * 2), shade="blue", x=3.0, y=1.0)
        assert prediction == {"value": pytest.approx(6.0)}

    def test_a_regression_with_several_outputs_predicts_a_list(
        self, load_model: Callable[[str, Any], HostedVersion]
    ) -> None:
        target = np.stack([ROWS["x"] * 2, ROWS["x"] + 1], axis=1)
        prediction = predict(load_model("list", target), shade="blue", x=3.0, y=1.0)
        assert prediction == {"value": [pytest.approx(6.0), pytest.approx(4.0)]}

    def test_nan_is_written_as_null(self) -> None:
        typed_protocol = protocol([column("x", "double")], classes=[False, True])
        document = json.loads(typed_protocol.write_predictions("1", "one", np.array([[np.nan, np.nan]])))
        assert document["predictions"][0]["probabilities"] == {"false": None, "true": None}

    def test_predictions_are_those_of_the_model_offline(self, server: Server) -> None:
        document = server.predict(ROW, ROW | {"x": -2, "y": 0.25, "shade": None}).json()
        rows = pd.DataFrame({"shade": ["red", None], "x": [1.5, -2.0], "y": [np.nan, 0.25]})
        expected = load_estimator("models:/toy/1").predict_proba(rows)
        predictions = [[item["probabilities"][name] for name in ("false", "true")] for item in document["predictions"]]
        assert np.allclose(predictions, expected, rtol=0, atol=1e-12)
        assert [item["label"] for item in document["predictions"]] == [bool(row.argmax()) for row in expected]


class TestRows:
    PROTOCOL = protocol(
        [column("s", "string"), column("x", "double"), column("y", "double", required=False)], ("id", "day")
    )

    def test_values_have_the_types_of_their_columns(self) -> None:
        inputs = [
            column(column_type, column_type)
            for column_type in ("double", "float", "long", "integer", "boolean", "string", "datetime")
        ]
        row = {"double": 1, "float": 0.5, "long": 2**63 - 1, "integer": -1, "boolean": True, "string": "a"}
        rows = protocol(inputs).parse_rows(json.dumps({"rows": [row | {"datetime": "2013-04-01T12:00:00"}]}).encode())
        assert {name: values[0] for name, values in rows.columns.items()} == row | {"datetime": "2013-04-01T12:00:00"}

    @pytest.mark.parametrize(
        ("column_type", "value", "message"),
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
            (
                "datetime",
                "noon",
                "column 'a', row 0: 'noon' is not a time such as 2013-04-01T12:00:00, without a time zone",
            ),
            ("datetime", "2013-04-01T12:00:00Z", "column 'a', row 0: '2013-04-01T12:00:00Z' is not a time"),
        ],
    )
    def test_a_value_of_another_type_is_rejected_with_422(self, column_type: str, value: object, message: str) -> None:
        assert get_error(protocol([column("a", column_type)]), {"rows": [{"a": value}]}).startswith(message)

    def test_an_additional_column_is_an_error(self) -> None:
        assert (
            get_error(self.PROTOCOL, {"rows": [{"s": "a", "x": 1, "xx": 2}]})
            == "rows.0.xx: Extra inputs are not permitted"
        )

    def test_a_missing_column_is_reported_with_its_row(self) -> None:
        assert get_error(self.PROTOCOL, {"rows": [{"s": "a", "x": 1}, {"s": "a"}]}) == "rows.1.x: Field required"

    def test_an_optional_column_may_be_missing_in_some_rows(self) -> None:
        rows = self.PROTOCOL.parse_rows(b'{"rows": [{"s": "a", "x": 1, "y": 2}, {"s": "b", "x": null}]}')
        assert rows.columns == {"s": ["a", "b"], "x": [1, None], "y": [2, None]}

    def test_key_columns_may_be_missing_in_some_rows(self) -> None:
        rows = self.PROTOCOL.parse_rows(
            b'{"rows": [{"s": "a", "x": 1, "id": 7, "day": "mon"}, {"s": "b", "x": 2, "id": null}]}'
        )
        assert rows.keys == {"id": [7, None], "day": ["mon", None]}

    def test_columns_may_have_any_names(self) -> None:
        names = ["é x", "class", "a.b", "__class__", "_x", "model_x", "1st", "rows", "Row", "a\nb", ""]
        typed_protocol = protocol([column(name, "double") for name in names])
        assert (
            list(typed_protocol.parse_rows(json.dumps({"rows": [dict.fromkeys(names, 1)]}).encode()).columns) == names
        )

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
                {"rows": [{"s": "a", "x": 1}], **{f"more {index}": 1 for index in range(10)}},
                "the body: only rows is permitted",
            ),
        ],
    )
    def test_another_structure_is_rejected_with_422(self, body: object, message: str) -> None:
        assert get_error(self.PROTOCOL, body).startswith(message)

    @pytest.mark.parametrize(
        "body", [b"", b"rows", b'{"rows": [NaN]}', b'{"rows": [{"x": 1e400}]}', b"\xff", b"[" * 2000]
    )
    def test_a_body_that_is_not_json_is_rejected_with_400(self, body: bytes) -> None:
        with pytest.raises(RequestError, match="the body is not JSON") as error:
            self.PROTOCOL.parse_rows(body)
        assert error.value.status == 400

    @pytest.mark.parametrize("value", ["[" * 500 + "]" * 500, '{"x":' * 1000 + "1" + "}" * 1000])
    @pytest.mark.parametrize("name", ["x", "id", "more"])
    def test_a_deeply_nested_value_is_rejected_with_422(self, name: str, value: str) -> None:
        body = f'{{"rows": [{{"s": "a", "x": 1, "{name}": {value}}}]}}'
        assert get_error(self.PROTOCOL, body.encode()).startswith(f"rows.0.{name}")

    @pytest.mark.parametrize("name", ["a\nb", "a\u2028b", "\x1b[31m", "a" * 100_000, "\U000e0001" * 40])
    @pytest.mark.parametrize("more", [0, 50])
    def test_a_message_quotes_a_name_in_one_short_line(self, name: str, more: int) -> None:
        body = {"rows": [{"s": "a", "x": 1, name: 1, **{f"more {index}": 1 for index in range(more)}}]}
        message = get_error(self.PROTOCOL, body)
        assert message.isprintable()
        assert len(message) < 200

    @pytest.mark.parametrize(
        "body",
        [
            {"rows": [0] * 20_000},
            {"rows": [{str(index): 0 for index in range(20_000)}]},
            {"rows": [{"s": "a", "x": 1}]} | {str(index): 0 for index in range(20_000)},
        ],
        ids=["rows", "columns", "members"],
    )
    def test_a_body_with_many_errors_needs_no_more_memory_than_valid_rows(self, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        tracemalloc.start()
        get_error(self.PROTOCOL, content)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 6_000_000  # bytes; 20,000 errors would be 15 million


class TestDescription:
    def schema(self, server: Server) -> dict[str, Any]:
        return server.get("/openapi.json").json()

    def test_it_has_the_types_of_the_champion(self, server: Server) -> None:
        row = self.schema(server)["components"]["schemas"]["Row"]
        types = {name: {option["type"] for option in member["anyOf"]} for name, member in row["properties"].items()}
        assert row["additionalProperties"] is False
        assert row["required"] == ["shade", "x"]
        assert types["shade"] == {"string", "null"}
        assert types["x"] == types["y"] == {"number", "null"}
        assert types["id"] == {"string", "integer", "number", "boolean", "null"}
        assert "enum" not in json.dumps(self.schema(server))  # a new category is not an error

    def test_types_that_cannot_be_null_are_described_with_their_limits(self) -> None:
        inputs = [
            column("l", "long"),
            column("b", "boolean", required=False),
            column("f", "float"),
            column("t", "datetime"),
        ]
        row = protocol(inputs).request_type.json_schema()["$defs"]["Row"]
        assert row["required"] == ["l", "b", "f", "t"]
        members = row["properties"]
        assert (members["l"]["type"], members["l"]["minimum"], members["l"]["maximum"]) == (
            "integer",
            -(2**63),
            2**63 - 1,
        )
        assert members["b"]["type"] == "boolean"
        assert members["f"]["anyOf"][0]["maximum"] == float(np.finfo(np.float32).max)
        time = members["t"]["anyOf"][0]
        jsonschema_rs.validator_for(time).validate(time["examples"][0])
        assert not jsonschema_rs.is_valid(time, "2013-04-01T12:00:00Z")

    @pytest.mark.parametrize("path", ["/predict", "/invocations"])
    def test_it_describes_every_error(self, server: Server, path: str) -> None:
        responses = self.schema(server)["paths"][path]["post"]["responses"]
        assert set(responses) == {"200", "400", "401", "408", "413", "415", "422", "429", "503"}
        errors = [responses[status]["content"]["application/json"]["schema"] for status in responses if status != "200"]
        assert all(schema == {"$ref": "#/components/schemas/ErrorResponse"} for schema in errors)

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
    def test_the_description_of_mlflows_formats_is_correct(
        self, server: Server, body: dict[str, Any], valid: bool
    ) -> None:
        description = self.schema(server)
        schema = description["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert jsonschema_rs.is_valid(schema | {"components": description["components"]}, body) == valid
        assert (server.invoke(**body).status_code == 200) == valid

    def test_its_version_is_that_of_the_champion(self, server: Server) -> None:
        assert self.schema(server)["info"] == {"title": "toy champion", "version": "1"}

    def test_there_is_an_html_page(self, server: Server) -> None:
        page = server.get("/docs")
        assert (page.status_code, page.headers["Content-Type"].partition(";")[0]) == (200, "text/html")
        assert "/openapi.json" in page.text

    def test_without_a_champion_predict_is_not_described_and_returns_503(
        self, without_champion: WithoutChampion
    ) -> None:
        assert "/predict" not in without_champion.description["paths"]
        assert "/invocations" in without_champion.description["paths"]
        assert without_champion.description["info"]["version"] == "none"
        assert (without_champion.prediction.status_code, without_champion.prediction.headers["Retry-After"]) == (
            503,
            "1",
        )
        assert without_champion.prediction.json()["message"] == "there is no champion yet"


class TestRequests:
    @pytest.mark.parametrize("request_id", ["a", "x" * 128, "!~#$%&'*+-.^_`|", "0b1c-7"])
    def test_the_id_of_a_request_is_returned(self, server: Server, request_id: str) -> None:
        response = requests.post(
            f"{server.url}/predict", json={"rows": [ROW]}, headers={"X-Request-ID": request_id}, timeout=TIMEOUT
        )
        assert response.headers["X-Request-ID"] == response.json()["request_id"] == request_id

    @pytest.mark.parametrize("request_id", ["", "x" * 129, "a b", "é", "a\tb"])
    def test_an_invalid_id_is_replaced(self, server: Server, request_id: str) -> None:
        headers = {"X-Request-ID": request_id.encode("latin-1")}
        response = requests.post(f"{server.url}/predict", json={"rows": [ROW]}, headers=headers, timeout=TIMEOUT)
        new_id = response.json()["request_id"]
        assert response.headers["X-Request-ID"] == new_id != request_id
        assert len(new_id) == 32

    def test_requests_without_an_id_get_different_ones(self, server: Server) -> None:
        assert len({server.predict(ROW).headers["X-Request-ID"] for _ in range(2)}) == 2

    @pytest.mark.parametrize("path", ["/predict", "/invocations"])
    def test_an_error_has_the_id(self, server: Server, path: str) -> None:
        headers = JSON | {"X-Request-ID": "mine"}
        response = requests.post(f"{server.url}{path}", data=b"{", headers=headers, timeout=TIMEOUT)
        assert (response.status_code, response.headers["X-Request-ID"]) == (400, "mine")

    @pytest.mark.parametrize("path", ["/predict", "/invocations"])
    @pytest.mark.parametrize("size", [MAX_BODY + 1, 200 * MAX_BODY])
    @pytest.mark.parametrize("in_chunks", [False, True], ids=["with its length", "in chunks"])
    def test_a_body_that_is_too_large_is_rejected_and_the_connection_stays_open(
        self, server: Server, path: str, size: int, in_chunks: bool
    ) -> None:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=TIMEOUT)
        pieces = iter([b" " * MAX_BODY, b" " * (size - MAX_BODY)])
        connection.request("POST", path, pieces if in_chunks else b" " * size, JSON, encode_chunked=in_chunks)
        response = connection.getresponse()
        assert response.status == 413
        message = f"the body is larger than {MAX_BODY:,} bytes: send fewer rows"
        assert json.loads(response.read()) == {"error_code": "INVALID_PARAMETER_VALUE", "message": message}
        connection.request("POST", "/predict", json.dumps({"rows": [ROW]}), JSON)
        assert connection.getresponse().status == 200
        connection.close()

    def test_a_body_that_does_not_arrive_is_rejected_after_a_time_limit(
        self, monkeypatch: pytest.MonkeyPatch, server: Server
    ) -> None:
        monkeypatch.setattr(app, "BODY_SECONDS", 0.01)
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=TIMEOUT)
        connection.request("POST", "/predict", b'{"rows":', JSON | {"Content-Length": "100"})
        response = connection.getresponse()
        assert response.status == 408
        assert json.loads(response.read())["message"].startswith("the body did not arrive in")
        connection.close()

    @pytest.mark.parametrize("in_chunks", [False, True], ids=["with its length", "in chunks"])
    def test_a_body_of_the_maximum_size_is_accepted(self, server: Server, in_chunks: bool) -> None:
        body = json.dumps({"rows": [ROW]}).encode().ljust(MAX_BODY)
        response = requests.post(
            f"{server.url}/predict",
            data=iter([body[:9], body[9:]]) if in_chunks else body,
            headers=JSON,
            timeout=TIMEOUT,
        )
        assert response.status_code == 200

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
    def test_an_unknown_path_or_method_is_an_error_of_the_same_form(
        self, server: Server, method: str, path: str, status: int
    ) -> None:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=TIMEOUT)
        connection.request(method, path)
        response = connection.getresponse()
        document = json.loads(response.read())
        connection.close()
        assert (response.status, response.headers["Content-Type"]) == (status, "application/json")
        assert set(document) == {"error_code", "message"}
        assert document["error_code"] == "ENDPOINT_NOT_FOUND"
        assert ("Allow" in response.headers) == (status == 405)
