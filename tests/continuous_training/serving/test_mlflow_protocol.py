"""MLflow's protocol: bodies are parsed as MLflow's own server does, except where this server is stricter."""

from __future__ import annotations

import json
import math
import re
import tracemalloc
from datetime import datetime
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema
from mlflow.pyfunc import scoring_server
from mlflow.types import ColSpec, Schema

from continuous_training.errors import UserError
from continuous_training.serving.protocols import mlflow_protocol
from continuous_training.serving.protocols.errors import RequestError
from continuous_training.serving.protocols.signature import Rows, Signature

FORMATS = ["dataframe_split", "dataframe_records", "instances", "inputs"]
JSON, CSV = "application/json", "text/csv"
# NumPy, and so MLflow, drops a NUL at a text's end; pandas writes a CR without quotes.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)
VALUES = {
    "double": st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    "float": st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-(2**24), 2**24),
    "long": st.integers(-(2**63), 2**63 - 1),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "boolean": st.booleans(),
    "string": TEXTS | st.sampled_from(["NA", "1", "true", "null"]),
    "datetime": st.none()
    | st.datetimes(datetime(1678, 1, 1), datetime(2261, 12, 31)).map(lambda time: time.isoformat(timespec="seconds")),
}
COLUMNS = [(f"a {column_type}", column_type) for column_type in VALUES]
TABLES = st.lists(st.tuples(*VALUES.values()).map(list), min_size=1, max_size=5)


def signature(*columns: tuple[str, str], optional: tuple[str, ...] = (), keys: tuple[str, ...] = ()) -> Signature:
    inputs = [{"name": name, "type": column_type, "required": name not in optional} for name, column_type in columns]
    return Signature.from_mlflow(inputs, keys, "version 1 of toy")


def to_body(form: str, names: list[str], rows: list[list[Any]]) -> str:
    """Write a table as a client does."""
    if form == CSV:
        return pd.DataFrame(rows, columns=names, dtype=object).to_csv(index=False)
    records = [dict(zip(names, row, strict=True)) for row in rows]
    formats: dict[str, Any] = {
        "dataframe_split": {"columns": names, "data": rows},
        "dataframe_records": records,
        "instances": records,
        "inputs": {name: [row[index] for row in rows] for index, name in enumerate(names)},
    }
    return json.dumps({form: formats[form]})


def parse(body: str | bytes, schema: Signature, content_type: str = JSON) -> Rows:
    return mlflow_protocol.parse_rows(body if isinstance(body, bytes) else body.encode(), content_type, schema)


def get_error(body: str | bytes, schema: Signature, content_type: str = JSON) -> str:
    with pytest.raises(RequestError) as error:
        parse(body, schema, content_type)
    assert error.value.status == 400
    return error.value.message


def parse_with_mlflow(body: str, columns: list[tuple[str, str]], content_type: str = JSON) -> pd.DataFrame:
    """Parse a body as MLflow's server does, to the DataFrame that its model gets."""
    schema = Schema([ColSpec(column_type, name) for name, column_type in columns])
    if content_type == CSV:
        return _enforce_schema(scoring_server.parse_csv_input(StringIO(body), schema), schema)
    data, _ = scoring_server._split_data_and_params(body)
    return _enforce_schema(scoring_server.infer_and_parse_data(data, schema), schema)


def to_nulls(values: Any) -> list[Any]:
    return [None if pd.isna(value) else value for value in values]


class TestSameAsMlflow:
    @pytest.mark.parametrize("form", FORMATS)
    @settings(max_examples=50)
    @given(rows=TABLES, nulls=st.booleans())
    def test_a_table_is_parsed_to_the_same_values(self, form: str, rows: list[list[Any]], nulls: bool) -> None:
        if nulls and form.startswith("dataframe"):  # in the other formats MLflow reads null as the text None
            rows = [[None if value == "1" else value for value in row] for row in rows]
        body = to_body(form, [name for name, _ in COLUMNS], rows)
        schema = signature(*COLUMNS)
        ours, theirs = schema.to_arrays([parse(body, schema)]), parse_with_mlflow(body, COLUMNS)
        assert list(ours) == list(theirs.columns)
        for name, column_type in COLUMNS:
            if column_type == "string":
                assert list(ours[name]) == list(theirs[name])
            else:
                assert ours[name].dtype == theirs[name].dtype
                np.testing.assert_array_equal(ours[name], theirs[name].to_numpy())

    @settings(max_examples=50)
    @given(rows=TABLES)
    def test_csv_is_parsed_to_the_same_values(self, rows: list[list[Any]]) -> None:
        columns, rows = COLUMNS[:-1], [row[:-1] for row in rows]  # MLflow does not support times in CSV
        body = to_body(CSV, [name for name, _ in columns], rows)
        schema = signature(*columns)
        ours, theirs = (
            schema.to_arrays([parse(body, schema, CSV)]),
            parse_with_mlflow(body, columns, CSV),
        )
        for name, column_type in columns:
            if column_type == "string":
                assert list(ours[name]) == to_nulls(theirs[name])
            else:
                assert ours[name].dtype == theirs[name].dtype
                rtol = 1e-6 if column_type == "float" else 1e-12  # pandas rounds the last digits
                np.testing.assert_allclose(ours[name], theirs[name].to_numpy(), rtol=rtol, atol=1e-300)

    @pytest.mark.parametrize("form", FORMATS)
    def test_the_columns_have_the_order_of_the_model(self, form: str) -> None:
        schema = signature(("b", "double"), ("a", "double"))
        assert list(schema.to_arrays([parse(to_body(form, ["a", "b"], [[1, 2]]), schema)])) == [
            "b",
            "a",
        ]

    @pytest.mark.parametrize("form", [*FORMATS, CSV])
    def test_additional_columns_are_ignored(self, form: str) -> None:
        schema = signature(("x", "double"))
        body = to_body(form, ["more", "x", "id"], [["a", 1.0, 7], ["b", 2.0, 8]])
        assert parse(body, schema, CSV if form == CSV else JSON) == Rows(2, {"x": [1.0, 2.0]}, {})

    @pytest.mark.parametrize("form", [*FORMATS, CSV])
    def test_key_columns_are_separate_from_those_of_the_model(self, form: str) -> None:
        schema = signature(("x", "double"), keys=("id", "day"))
        body = to_body(form, ["id", "x", "more"], [[7, 1.0, "a"], [8, None, "b"]])
        assert parse(body, schema, CSV if form == CSV else JSON) == Rows(2, {"x": [1.0, None]}, {"id": [7, 8]})

    @pytest.mark.parametrize(("values", "expected"), [("7\n08", [7, 8]), ("7\nNA", [7, None]), ("7\nb8", ["7", "b8"])])
    def test_a_key_in_csv_is_an_integer_if_all_of_its_column_are(self, values: str, expected: list[Any]) -> None:
        first, second = values.split("\n")
        rows = parse(f"id,x\n{first},1\n{second},2\n", signature(("x", "double"), keys=("id",)), CSV)
        assert rows.keys == {"id": expected}

    @pytest.mark.parametrize("params", ["null", "{}", '{"threshold": 0.5}'])
    def test_params_are_accepted_and_ignored_as_for_scikit_learn_models(self, params: str) -> None:
        body = f'{{"inputs": {{"x": [1.0]}}, "params": {params}}}'
        assert parse(body, signature(("x", "double"))).columns == {"x": [1.0]}

    def test_optional_columns_may_be_missing(self) -> None:
        schema = signature(("x", "double"), ("y", "double"), ("s", "string"), optional=("y", "s"))
        assert parse('{"inputs": {"x": [1.0, 2.0]}}', schema).columns == {
            "x": [1.0, 2.0],
            "y": [None] * 2,
            "s": [None] * 2,
        }

    @pytest.mark.parametrize(
        "body", ['{"inputs": {"x": 1.5}}', '{"inputs": [{"x": 1.5}]}', '{"instances": {"x": [1.5]}}']
    )
    def test_a_single_row_has_a_short_form(self, body: str) -> None:
        assert parse(body, signature(("x", "double"))).columns == {"x": [1.5]}

    def test_csv_may_have_a_byte_order_mark_blank_lines_and_quotes(self) -> None:
        body = '\ufeffx,s\r\n 1.5 ,"a, ""b""\nc"\r\n\r\n"2",NA\r\n'
        rows = parse(body, signature(("x", "double"), ("s", "string")), CSV)
        assert rows.columns == {"x": [1.5, 2.0], "s": ['a, "b"\nc', None]}

    @pytest.mark.parametrize(
        "predictions",
        [
            np.array([[0.25, 0.75], [0.1, 0.9]]),
            np.array([1.5, -2.0]),
            np.array([1, 2]),
            np.array([True, False]),
            np.array(["a", "é"], dtype=object),
            np.array(["a", "é"]),
            np.array([0.5, 1.5], dtype=np.float16),
            np.array([[1.0, 2.0], [3.0, 4.0]])[:, ::-1],
        ],
        ids=lambda predictions: f"{predictions.dtype} {predictions.shape}",
    )
    def test_predictions_are_written_as_mlflow_does(self, predictions: np.ndarray) -> None:
        theirs = StringIO()
        scoring_server.predictions_to_json(predictions, theirs)
        assert json.loads(mlflow_protocol.write_predictions(predictions)) == json.loads(theirs.getvalue())

    def test_nan_and_infinity_are_written_as_null(self) -> None:
        assert (
            mlflow_protocol.write_predictions(np.array([0.5, math.nan, math.inf])) == b'{"predictions":[0.5,null,null]}'
        )


class TestStricterThanMlflow:
    @pytest.mark.parametrize(
        ("column_type", "value", "theirs", "message"),
        [
            ("double", '"1.5"', 1.5, "'1.5' is not a number"),
            ("double", "true", 1.0, "true is not a number"),
            ("float", "1e300", math.inf, "1e+300 is not a number"),
            ("long", "1.5", 1, "1.5 is not an integer"),
            ("long", "9223372036854775808", -(2**63), "9223372036854775808 is not an integer"),
            ("integer", "1099511627776", 0, "1099511627776 is not an integer"),
            ("integer", "true", 1, "true is not an integer"),
            ("boolean", '"false"', True, "'false' is not true or false"),
            ("boolean", "0", False, "0 is not true or false"),
            ("string", "1", 1, "1 is not a string"),
            ("datetime", "0", pd.Timestamp(0), "0 is not a time such as 2013-04-01T12:00:00, without a time zone"),
        ],
    )
    @pytest.mark.filterwarnings("ignore::RuntimeWarning")  # MLflow's overflows
    def test_a_value_of_another_type_is_an_error_rather_than_converted(
        self, column_type: str, value: str, theirs: object, message: str
    ) -> None:
        body = f'{{"dataframe_split": {{"columns": ["a"], "data": [[{value}]]}}}}'
        assert parse_with_mlflow(body, [("a", column_type)])["a"].tolist() == [theirs]
        assert get_error(body, signature(("a", column_type))) == f"column 'a', row 0: {message}"

    @pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
    def test_nan_and_infinity_are_errors_although_python_parses_them(self, literal: str) -> None:
        body = f'{{"dataframe_split": {{"columns": ["a"], "data": [[{literal}]]}}}}'
        assert not np.isfinite(parse_with_mlflow(body, [("a", "double")])["a"][0])
        message = get_error(body, signature(("a", "double")))
        assert re.search("not JSON.*write null for a missing value", message)

    @pytest.mark.parametrize("form", ["instances", "inputs"])
    def test_a_null_in_a_text_column_is_null_in_every_format_rather_than_the_text_none(self, form: str) -> None:
        body = to_body(form, ["x", "s"], [[1.0, "a"], [2.0, None]])
        columns = [("x", "double"), ("s", "string")]
        assert parse_with_mlflow(body, columns)["s"].tolist() == ["a", "None"]
        assert parse(body, signature(*columns)).columns["s"] == ["a", None]

    def test_a_csv_line_with_too_many_values_is_an_error_rather_than_shifted(self) -> None:
        assert parse_with_mlflow("x,y\n1,2,3\n", [("x", "double"), ("y", "double")], CSV).to_numpy().tolist() == [
            [2.0, 3.0]
        ]
        schema = signature(("x", "double"), ("y", "double"))
        assert get_error("x,y\n1,2\n1,2,3\n", schema, CSV) == "row 1 has 3 values for 2 columns"

    def test_a_csv_line_with_too_few_values_is_an_error_rather_than_filled_up(self) -> None:
        assert to_nulls(parse_with_mlflow("x,y\n1\n", [("x", "double"), ("y", "double")], CSV)["y"]) == [None]
        schema = signature(("x", "double"), ("y", "double"))
        assert get_error("x,y\n1\n", schema, CSV) == "row 0 has 1 values for 2 columns"

    def test_a_duplicate_column_is_an_error_rather_than_one_of_them_ignored(self) -> None:
        assert parse_with_mlflow("x,x\n1,2\n", [("x", "double")], CSV)["x"].tolist() == [1.0]
        assert get_error("x,x\n1,2\n", signature(("x", "double")), CSV) == "column 'x' appears twice"

    def test_a_control_character_in_a_csv_number_is_an_error_rather_than_null(self) -> None:
        assert to_nulls(parse_with_mlflow("x\n\x001\n", [("x", "double")], CSV)["x"]) == [None]
        assert get_error("x\n\x001\n", signature(("x", "double")), CSV) == "column 'x', row 0: '\\x001' is not a number"

    def test_csv_may_have_times(self) -> None:
        body = "t\n2013-04-01T12:00:00\n"
        with pytest.raises(MlflowException):
            parse_with_mlflow(body, [("t", "datetime")], CSV)
        assert parse(body, signature(("t", "datetime")), CSV).columns == {"t": ["2013-04-01T12:00:00"]}

    @pytest.mark.parametrize("params", ["[]", "0", '""', "false", '"a"', "[[[1]]]"])
    def test_params_must_be_an_object(self, params: str) -> None:
        body = f'{{"inputs": {{"x": [1.0]}}, "params": {params}}}'
        assert get_error(body, signature(("x", "double"))).startswith("params must be an object")


class TestTimes:
    @pytest.mark.parametrize(
        "time",
        [
            *("2013-04-01", "2013-04-01T12", "2013-04-01T12:30", "2013-04-01 12:30:45", "2013-04-01T12:30:45.5"),
            *("2013-04-01T12:30:45.123456789", "2012-02-29", "1678-01-01", "2261-12-31T23:59:59"),
        ],
    )
    def test_a_time_is_parsed_as_pandas_does(self, time: str) -> None:
        schema = signature(("t", "datetime"))
        array = schema.to_arrays([parse(json.dumps({"inputs": {"t": [time, None]}}), schema)])["t"]
        assert (array.dtype, array[0], np.isnat(array[1])) == (
            "datetime64[ns]",
            pd.Timestamp(time).to_datetime64(),
            True,
        )

    @pytest.mark.parametrize(
        "time",
        [
            *("2013-04-01T12:00:00Z", "2013-04-01T12:00:00+02:00", "20130401", "20130401T120000", "2013", "2013-04"),
            *("2013-W14-1", "2013-091", "2013-04-01T12:00:00,5", "2013-04-01x12:00", "2013-04-31", "2013-02-29"),
            *(
                "2013-04-01T24:00:00",
                "2013-04-01T12:60",
                "2013-4-1",
                " 2013-04-01",
                "2013-04-01\n",
                "２013-04-01",
                "now",
            ),
            *("", "NaT", "1677-12-31", "2262-01-01", "0000-00-00", "2013-04-01T12:00:00.1234567891", "April 1, 2013"),
        ],
    )
    def test_ambiguous_and_invalid_times_are_errors(self, time: str) -> None:
        message = get_error(json.dumps({"inputs": {"t": ["2013-04-01", time]}}), signature(("t", "datetime")))
        assert message.startswith("column 't', row 1: '")


class TestErrors:
    SIGNATURE = signature(("x", "double"), ("s", "string"), keys=("id",))

    @pytest.mark.parametrize("form", FORMATS)
    def test_a_message_has_the_column_and_the_row(self, form: str) -> None:
        body = to_body(form, ["x", "s"], [[1.0, "a"], [2.0, "b"], ["3", "c"]])
        assert get_error(body, self.SIGNATURE) == "column 'x', row 2: '3' is not a number"

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("x,s\n1,a\ninf,b\n", "column 'x', row 1: 'inf' is not a number"),
            ("x,s\n1e400,a\n", "column 'x', row 0: '1e400' is not a number"),
            ("x,s\n1_000,a\n", "column 'x', row 0: '1_000' is not a number"),
            ("x,s\ntrue,a\n", "column 'x', row 0: 'true' is not a number"),
            ("x,s\n1,a\nx,b\n", "column 'x', row 1: 'x' is not a number"),
            ("", "the body is not CSV: its first line must have the names of the columns"),
            ("\r\n\n", "the body is not CSV: its first line must have the names of the columns"),
            ("x,s", "the request has no rows: send at least one"),
            ('x,s\n1,"a', "the body is not CSV: unexpected end of data"),
            ('x,s\n1,"a"b\n', "the body is not CSV: ',' expected after '\"'"),
            ("x;s\n1;a\n", "column 'x' is missing; the model expects x, s"),
            (
                b"x,s\n1,\xff\n",
                "the body is not CSV: 'utf-8' codec can't decode byte 0xff in position 6: invalid start byte",
            ),
            ("x,s\n1," + "a" * 200_000, "the body is not CSV: field larger than field limit (131072)"),
        ],
    )
    def test_errors_in_csv(self, body: str | bytes, message: str) -> None:
        assert get_error(body, self.SIGNATURE, CSV) == message

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("a,b\n1,\n,2\n", "column 'a', row 1: null is not an integer"),
            ("a,b\n1.0,2\n", "column 'a', row 0: '1.0' is not an integer"),
            ("a,b\n9223372036854775808,2\n", "column 'a', row 0: 9223372036854775808 is not an integer"),
            ("a,b\n99999999999999999999,2\n", "column 'a', row 0: '99999999999999999999' is not an integer"),
        ],
    )
    def test_errors_in_csv_integers(self, body: str, message: str) -> None:
        assert get_error(body, signature(("a", "long")), CSV) == message

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("", "the body is not JSON"),
            ("[]", "the body must be an object with one of dataframe_split, dataframe_records, instances, inputs"),
            ("{}", "the body must have exactly one of"),
            ('{"inputs": {"x": [1]}, "instances": [{"x": 1}]}', "the body must have exactly one of"),
            ('{"rows": [{"x": 1, "s": "a"}]}', "the body must have exactly one of"),
            ('{"dataframe_split": []}', "dataframe_split must be an object with columns and data"),
            ('{"dataframe_split": {"columns": ["x"], "data": [], "more": 1}}', "dataframe_split must be an object"),
            ('{"dataframe_split": {"data": [[1]]}}', "dataframe_split needs columns, a list of names, and data"),
            ('{"dataframe_split": {"columns": ["x", 1], "data": [[1, 2]]}}', "dataframe_split needs columns"),
            ('{"dataframe_split": {"columns": ["x"], "data": [1]}}', "dataframe_split needs columns"),
            ('{"dataframe_split": {"columns": ["x", "x"], "data": [[1, 2]]}}', "column 'x' appears twice"),
            (
                '{"dataframe_split": {"columns": ["x", "s"], "data": [[1, "a"], [1]]}}',
                "row 1 has 1 values for 2 columns",
            ),
            ('{"dataframe_records": {"x": 1, "s": "a"}}', "the rows must be a list of objects"),
            ('{"dataframe_records": [[1, "a"]]}', "the rows must be a list of objects"),
            ('{"dataframe_records": []}', "the request has no rows: send at least one"),
            ('{"instances": [1, 2]}', "the rows must be a list of objects"),
            ('{"inputs": 5}', "the columns must be an object with a list of values for each name"),
            ('{"inputs": {}}', "the columns must be an object with a list of values for each name"),
            ('{"inputs": {"x": [1, 2], "s": ["a"]}}', "the columns must have the same length"),
            ('{"inputs": {"x": [], "s": []}}', "the request has no rows: send at least one"),
            ('{"inputs": {"s": ["a"]}}', "column 'x' is missing; the model expects x, s"),
            ('{"inputs": {"x": [[1]], "s": ["a"]}}', "column 'x', row 0: a list is not a number"),
            ('{"inputs": {"x": [{"x": 1}], "s": ["a"]}}', "column 'x', row 0: an object is not a number"),
            ('{"inputs": {"x": [1], "s": [null, 2]}}', "the columns must have the same length"),
            ('{"inputs": {"x": [1, 2], "s": [null, 2]}}', "column 's', row 1: 2 is not a string"),
            ('{"inputs": {"x": [1e400], "s": ["a"]}}', "the body is not JSON: number is infinity"),
            ('{"inputs": {"x": [1], "s": ["\\ud800"]}}', "the body is not JSON"),
            (b'{"inputs": {"x": [1], "s": ["\xff"]}}', "the body is not JSON"),
            ('{"inputs": {"x": [1], "s": ["a"]}}'.encode("utf-16"), "the body is not JSON"),
            ('{"inputs": {"x": [1], "s": ["a"]}}'.encode("utf-8-sig"), "the body is not JSON: UTF-8 byte order mark"),
            ('{"inputs": {"x": [1], "s": ["a"]}', "the body is not JSON"),
            (
                '{"inputs": {"x": [1], "s": ["a"], "id": [[7]]}}',
                "column 'id': a key must be a string, a number, a boolean or null",
            ),
        ],
    )
    def test_errors_in_json(self, body: str | bytes, message: str) -> None:
        assert get_error(body, self.SIGNATURE).startswith(message)

    @pytest.mark.parametrize("depth", [500, 1000, 1020, 5000, 100_000])
    def test_a_value_may_be_nested_deeply(self, depth: int) -> None:
        body = f'{{"inputs": {{"x": [{"[" * depth}{"]" * depth}], "s": ["a"]}}}}'
        assert get_error(body, self.SIGNATURE).startswith(
            ("column 'x', row 0: a list is not a number", "the body is not JSON: depth")
        )

    @pytest.mark.parametrize("value", ["a\nb", "a\u2028b", "\x1b[31m", "a" * 1_000_000, "é\x85", "\U000e0001" * 99])
    def test_a_message_quotes_a_value_in_one_short_line(self, value: str) -> None:
        message = get_error(json.dumps({"inputs": {"x": [value], "s": ["a"]}}), self.SIGNATURE)
        assert message.isprintable()
        assert len(message) < 100

    def test_a_message_quotes_a_duplicate_name_in_one_short_line(self) -> None:
        message = get_error(
            json.dumps({"dataframe_split": {"columns": ["a\n" * 1000] * 2, "data": []}}), self.SIGNATURE
        )
        assert message.isprintable()
        assert len(message) < 100

    def test_a_column_that_a_record_lacks_is_null(self) -> None:
        body = '{"dataframe_records": [{"x": 1, "s": "a"}, {"s": "b"}]}'
        assert parse(body, self.SIGNATURE).columns["x"] == [1, None]
        assert get_error(body, signature(("x", "long"))) == "column 'x', row 1: null is not an integer"

    @pytest.mark.parametrize(
        "content_type",
        [
            *(
                "",
                ";",
                "text/plain",
                "application/vnd.apache.parquet",
                "application/json, text/csv",
                "json",
                "text/csv2",
            ),
            *(
                "application/json; charset=latin-1",
                "application/json; version=1",
                "text/csv; header=absent",
                "text/csv;a",
            ),
        ],
    )
    def test_another_content_type_is_rejected_with_415(self, content_type: str) -> None:
        with pytest.raises(RequestError) as error:
            parse('{"inputs": {"x": [1], "s": ["a"]}}', self.SIGNATURE, content_type)
        assert error.value.status == 415

    @pytest.mark.parametrize(
        "content_type",
        [JSON, "Application/JSON", "application/json;charset=utf-8", 'application/json ; charset="UTF-8"'],
    )
    def test_a_content_type_may_be_written_in_several_ways(self, content_type: str) -> None:
        assert parse('{"inputs": {"x": [1], "s": ["a"]}}', self.SIGNATURE, content_type).count == 1

    def test_memory_does_not_grow_with_the_square_of_records_with_different_names(self) -> None:
        body = json.dumps({"instances": [{"x": 1, "s": "a", f"more {row}": 1} for row in range(5000)]})
        tracemalloc.start()
        assert parse(body, self.SIGNATURE).count == 5000
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 50_000_000  # bytes; a table with all names would have 25 million values


class TestSignature:
    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ([], "has no input columns: log it with a signature that is inferred from a DataFrame"),
            ([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 3]}}], "has no input columns"),
            ([{"type": "double", "required": True}], "has no input columns"),
            ([{"name": "a", "type": "binary"}], "has the column 'a' of type binary: the server supports double"),
            ([{"name": "a", "type": "array", "items": {"type": "double"}}], "has the column 'a' of type array"),
        ],
    )
    def test_a_version_with_other_inputs_than_scalar_columns_is_an_error(
        self, inputs: list[dict[str, Any]], message: str
    ) -> None:
        with pytest.raises(UserError, match=f"version 1 of toy {message}"):
            Signature.from_mlflow(inputs, (), "version 1 of toy")

    @given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=5), split=st.integers(0, 20))
    def test_requests_that_are_split_and_concatenated_have_the_same_rows(self, counts: list[int], split: int) -> None:
        schema = signature(("x", "double"), ("s", "string"), keys=("id",))
        integers = iter(range(100))
        requests = []
        for count in counts:
            numbers = [next(integers) for _ in range(count)]
            requests.append(
                schema.validate(count, {"x": numbers, "s": [str(number) for number in numbers], "id": numbers})
            )
        parts = [
            rows.slice(start, stop)
            for rows in requests
            for start, stop in [(0, min(split, rows.count)), (min(split, rows.count), rows.count)]
            if start < stop
        ]
        arrays = schema.to_arrays(parts)
        assert arrays["x"].tolist() == list(range(sum(counts)))
        assert arrays["s"].tolist() == [str(number) for number in range(sum(counts))]
        assert [value for rows in parts for value in rows.keys["id"]] == list(range(sum(counts)))
