"""MLflow's protocol: what a body is read as, held against MLflow's own server, and where this one is stricter."""

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
from continuous_training.serving.protocols import mlflow_protocol as protocol
from continuous_training.serving.protocols.signature import Refused, Rows, Signature, part

FORMATS = ["dataframe_split", "dataframe_records", "instances", "inputs"]
JSON, CSV = "application/json", "text/csv"
# NumPy, and so MLflow, drops a NUL at a text's end; pandas writes a CR without quotes.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)
CELLS = {
    "double": st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    "float": st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-(2**24), 2**24),
    "long": st.integers(-(2**63), 2**63 - 1),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "boolean": st.booleans(),
    "string": TEXTS | st.sampled_from(["NA", "1", "true", "null"]),
    "datetime": st.none()
    | st.datetimes(datetime(1678, 1, 1), datetime(2261, 12, 31)).map(lambda time: time.isoformat(timespec="seconds")),
}
COLUMNS = [(f"a {kind}", kind) for kind in CELLS]
TABLES = st.lists(st.tuples(*CELLS.values()).map(list), min_size=1, max_size=5)


def signature(*columns: tuple[str, str], optional: tuple[str, ...] = (), keys: tuple[str, ...] = ()) -> Signature:
    inputs = [{"name": name, "type": kind, "required": name not in optional} for name, kind in columns]
    return Signature.of(inputs, keys, "version 1 of toy")


def body_of(form: str, names: list[str], rows: list[list[Any]]) -> str:
    """Write a table as a client would."""
    if form == CSV:
        return pd.DataFrame(rows, columns=names, dtype=object).to_csv(index=False)
    records = [dict(zip(names, row, strict=True)) for row in rows]
    told: dict[str, Any] = {
        "dataframe_split": {"columns": names, "data": rows},
        "dataframe_records": records,
        "instances": records,
        "inputs": {name: [row[place] for row in rows] for place, name in enumerate(names)},
    }
    return json.dumps({form: told[form]})


def read(body: str | bytes, asked: Signature, content_type: str = JSON) -> Rows:
    return protocol.read(body if isinstance(body, bytes) else body.encode(), content_type, asked)


def refusal(body: str | bytes, asked: Signature, content_type: str = JSON) -> str:
    with pytest.raises(Refused) as caught:
        read(body, asked, content_type)
    assert caught.value.status == 400
    return caught.value.message


def at_mlflows(body: str, columns: list[tuple[str, str]], content_type: str = JSON) -> pd.DataFrame:
    """Read a body as MLflow's server does, up to what it hands to the model."""
    schema = Schema([ColSpec(kind, name) for name, kind in columns])
    if content_type == CSV:
        return _enforce_schema(scoring_server.parse_csv_input(StringIO(body), schema), schema)
    data, _ = scoring_server._split_data_and_params(body)
    return _enforce_schema(scoring_server.infer_and_parse_data(data, schema), schema)


def known(cells: Any) -> list[Any]:
    return [None if pd.isna(cell) else cell for cell in cells]


class TestAsMlflow:
    @pytest.mark.parametrize("form", FORMATS)
    @settings(max_examples=50, deadline=None)
    @given(rows=TABLES, unknown=st.booleans())
    def test_a_table_is_read_as_its_server_reads_it(self, form: str, rows: list[list[Any]], unknown: bool) -> None:
        if unknown and form.startswith("dataframe"):  # its two other formats make the text None of a null
            rows = [[None if isinstance(cell, str) and cell == "1" else cell for cell in row] for row in rows]
        body = body_of(form, [name for name, _ in COLUMNS], rows)
        asked = signature(*COLUMNS)
        ours, theirs = asked.arrays([read(body, asked)]), at_mlflows(body, COLUMNS)
        assert list(ours) == list(theirs.columns)
        for name, kind in COLUMNS:
            if kind == "string":
                assert list(ours[name]) == list(theirs[name])
            else:
                assert ours[name].dtype == theirs[name].dtype
                np.testing.assert_array_equal(ours[name], theirs[name].to_numpy())

    @settings(max_examples=50, deadline=None)
    @given(rows=TABLES)
    def test_so_is_csv(self, rows: list[list[Any]]) -> None:
        columns, rows = COLUMNS[:-1], [row[:-1] for row in rows]  # its server takes no times in CSV
        body = body_of(CSV, [name for name, _ in columns], rows)
        asked = signature(*columns)
        ours, theirs = asked.arrays([read(body, asked, CSV)]), at_mlflows(body, columns, CSV)
        for name, kind in columns:
            if kind == "string":
                assert list(ours[name]) == known(theirs[name])
            else:
                assert ours[name].dtype == theirs[name].dtype
                near = {"rtol": 1e-6 if kind == "float" else 1e-12, "atol": 1e-300}  # pandas loses the last digits
                np.testing.assert_allclose(ours[name], theirs[name].to_numpy(), **near)

    @pytest.mark.parametrize("form", FORMATS)
    def test_the_order_of_the_columns_is_the_models(self, form: str) -> None:
        asked = signature(("b", "double"), ("a", "double"))
        assert list(asked.arrays([read(body_of(form, ["a", "b"], [[1, 2]]), asked)])) == ["b", "a"]

    @pytest.mark.parametrize("form", [*FORMATS, CSV])
    def test_columns_that_the_model_does_not_know_are_ignored(self, form: str) -> None:
        asked = signature(("x", "double"))
        body = body_of(form, ["more", "x", "id"], [["a", 1.0, 7], ["b", 2.0, 8]])
        assert read(body, asked, CSV if form == CSV else JSON) == Rows(2, {"x": [1.0, 2.0]}, {})

    @pytest.mark.parametrize("form", [*FORMATS, CSV])
    def test_columns_that_name_a_row_are_kept_beside_those_of_the_model(self, form: str) -> None:
        asked = signature(("x", "double"), keys=("id", "day"))
        body = body_of(form, ["id", "x", "more"], [[7, 1.0, "a"], [8, None, "b"]])
        assert read(body, asked, CSV if form == CSV else JSON) == Rows(2, {"x": [1.0, None]}, {"id": [7, 8]})

    @pytest.mark.parametrize(("cells", "kept"), [("7\n08", [7, 8]), ("7\nNA", [7, None]), ("7\nb8", ["7", "b8"])])
    def test_a_key_in_csv_is_an_integer_if_all_of_its_column_are(self, cells: str, kept: list[Any]) -> None:
        first, second = cells.split("\n")
        rows = read(f"id,x\n{first},1\n{second},2\n", signature(("x", "double"), keys=("id",)), CSV)
        assert rows.keys == {"id": kept}

    @pytest.mark.parametrize("params", ["null", "{}", '{"threshold": 0.5}'])
    def test_params_are_accepted_and_ignored_as_for_scikit_learn_models(self, params: str) -> None:
        body = f'{{"inputs": {{"x": [1.0]}}, "params": {params}}}'
        assert read(body, signature(("x", "double"))).columns == {"x": [1.0]}

    def test_optional_columns_may_be_missing(self) -> None:
        asked = signature(("x", "double"), ("y", "double"), ("s", "string"), optional=("y", "s"))
        assert read('{"inputs": {"x": [1.0, 2.0]}}', asked).columns == {
            "x": [1.0, 2.0],
            "y": [None] * 2,
            "s": [None] * 2,
        }

    @pytest.mark.parametrize(
        "body", ['{"inputs": {"x": 1.5}}', '{"inputs": [{"x": 1.5}]}', '{"instances": {"x": [1.5]}}']
    )
    def test_a_single_row_may_be_written_shorter(self, body: str) -> None:
        assert read(body, signature(("x", "double"))).columns == {"x": [1.5]}

    def test_csv_may_have_a_byte_order_mark_blank_lines_and_quotes(self) -> None:
        body = '\ufeffx,s\r\n 1.5 ,"a, ""b""\nc"\r\n\r\n"2",NA\r\n'
        rows = read(body, signature(("x", "double"), ("s", "string")), CSV)
        assert rows.columns == {"x": [1.5, 2.0], "s": ['a, "b"\nc', None]}

    @pytest.mark.parametrize(
        "answers",
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
        ids=lambda answers: f"{answers.dtype} {answers.shape}",
    )
    def test_answers_are_written_as_its_server_writes_them(self, answers: np.ndarray) -> None:
        theirs = StringIO()
        scoring_server.predictions_to_json(answers, theirs)
        assert json.loads(protocol.write(answers)) == json.loads(theirs.getvalue())

    def test_an_answer_that_is_no_number_is_written_null_so_that_it_is_json(self) -> None:
        assert protocol.write(np.array([0.5, math.nan, math.inf])) == b'{"predictions":[0.5,null,null]}'


class TestStricterThanMlflow:
    @pytest.mark.parametrize(
        ("kind", "cell", "theirs", "message"),
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
            ("datetime", "0", pd.Timestamp(0), "0 is not a time such as 2013-04-01T12:00:00, without a zone"),
        ],
    )
    @pytest.mark.filterwarnings("ignore::RuntimeWarning")  # MLflow's overflows
    def test_a_cell_of_another_type_is_refused_rather_than_converted(
        self, kind: str, cell: str, theirs: object, message: str
    ) -> None:
        body = f'{{"dataframe_split": {{"columns": ["a"], "data": [[{cell}]]}}}}'
        assert at_mlflows(body, [("a", kind)])["a"].tolist() == [theirs]
        assert refusal(body, signature(("a", kind))) == f"column «a», row 0: {message}"

    @pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
    def test_what_is_no_number_and_no_json_is_refused_although_python_reads_it(self, literal: str) -> None:
        body = f'{{"dataframe_split": {{"columns": ["a"], "data": [[{literal}]]}}}}'
        assert not np.isfinite(at_mlflows(body, [("a", "double")])["a"][0])
        message = refusal(body, signature(("a", "double")))
        assert re.search("not JSON.*a value that is not known is written null", message)

    @pytest.mark.parametrize("form", ["instances", "inputs"])
    def test_a_null_among_texts_is_none_in_every_format_rather_than_the_text_none(self, form: str) -> None:
        body = body_of(form, ["x", "s"], [[1.0, "a"], [2.0, None]])
        columns = [("x", "double"), ("s", "string")]
        assert at_mlflows(body, columns)["s"].tolist() == ["a", "None"]
        assert read(body, signature(*columns)).columns["s"] == ["a", None]

    def test_a_line_of_csv_with_a_cell_too_many_is_refused_rather_than_shifted(self) -> None:
        assert at_mlflows("x,y\n1,2,3\n", [("x", "double"), ("y", "double")], CSV).to_numpy().tolist() == [[2.0, 3.0]]
        asked = signature(("x", "double"), ("y", "double"))
        assert refusal("x,y\n1,2\n1,2,3\n", asked, CSV) == "row 1 has 3 cells for 2 columns"

    def test_a_line_of_csv_with_a_cell_too_few_is_refused_rather_than_filled_up(self) -> None:
        assert known(at_mlflows("x,y\n1\n", [("x", "double"), ("y", "double")], CSV)["y"]) == [None]
        asked = signature(("x", "double"), ("y", "double"))
        assert refusal("x,y\n1\n", asked, CSV) == "row 0 has 1 cells for 2 columns"

    def test_a_column_that_is_there_twice_is_refused_rather_than_chosen(self) -> None:
        assert at_mlflows("x,x\n1,2\n", [("x", "double")], CSV)["x"].tolist() == [1.0]
        assert refusal("x,x\n1,2\n", signature(("x", "double")), CSV) == "the column «x» is there twice"

    def test_a_control_character_in_a_number_of_csv_is_refused_rather_than_taken_for_nothing(self) -> None:
        assert known(at_mlflows("x\n\x001\n", [("x", "double")], CSV)["x"]) == [None]
        assert refusal("x\n\x001\n", signature(("x", "double")), CSV) == "column «x», row 0: '\\x001' is not a number"

    def test_times_may_be_written_in_csv_too(self) -> None:
        body = "t\n2013-04-01T12:00:00\n"
        with pytest.raises(MlflowException):
            at_mlflows(body, [("t", "datetime")], CSV)
        assert read(body, signature(("t", "datetime")), CSV).columns == {"t": ["2013-04-01T12:00:00"]}

    @pytest.mark.parametrize("params", ["[]", "0", '""', "false", '"a"', "[[[1]]]"])
    def test_params_that_are_no_object_are_refused(self, params: str) -> None:
        body = f'{{"inputs": {{"x": [1.0]}}, "params": {params}}}'
        assert refusal(body, signature(("x", "double"))).startswith("params must be an object")


class TestTimes:
    @pytest.mark.parametrize(
        "time",
        [
            *("2013-04-01", "2013-04-01T12", "2013-04-01T12:30", "2013-04-01 12:30:45", "2013-04-01T12:30:45.5"),
            *("2013-04-01T12:30:45.123456789", "2012-02-29", "1678-01-01", "2261-12-31T23:59:59"),
        ],
    )
    def test_a_time_is_what_pandas_makes_of_it(self, time: str) -> None:
        asked = signature(("t", "datetime"))
        array = asked.arrays([read(json.dumps({"inputs": {"t": [time, None]}}), asked)])["t"]
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
    def test_whatever_could_be_read_in_two_ways_or_not_at_all_is_refused(self, time: str) -> None:
        message = refusal(json.dumps({"inputs": {"t": ["2013-04-01", time]}}), signature(("t", "datetime")))
        assert message.startswith("column «t», row 1: '")


class TestRefusals:
    XS = signature(("x", "double"), ("s", "string"), keys=("id",))

    @pytest.mark.parametrize("form", FORMATS)
    def test_a_cell_is_named_by_column_and_row(self, form: str) -> None:
        body = body_of(form, ["x", "s"], [[1.0, "a"], [2.0, "b"], ["3", "c"]])
        assert refusal(body, self.XS) == "column «x», row 2: '3' is not a number"

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("x,s\n1,a\ninf,b\n", "column «x», row 1: 'inf' is not a number"),
            ("x,s\n1e400,a\n", "column «x», row 0: '1e400' is not a number"),
            ("x,s\n1_000,a\n", "column «x», row 0: '1_000' is not a number"),
            ("x,s\ntrue,a\n", "column «x», row 0: 'true' is not a number"),
            ("x,s\n1,a\nx,b\n", "column «x», row 1: 'x' is not a number"),
            ("", "the body is not CSV: its first line must name the columns"),
            ("\r\n\n", "the body is not CSV: its first line must name the columns"),
            ("x,s", "there are no rows: send one at least"),
            ('x,s\n1,"a', "the body is not CSV: unexpected end of data"),
            ('x,s\n1,"a"b\n', "the body is not CSV: ',' expected after '\"'"),
            ("x;s\n1;a\n", "the column «x» is missing; the model takes x, s"),
            (
                b"x,s\n1,\xff\n",
                "the body is not CSV: 'utf-8' codec can't decode byte 0xff in position 6: invalid start byte",
            ),
            ("x,s\n1," + "a" * 200_000, "the body is not CSV: field larger than field limit (131072)"),
        ],
    )
    def test_csv(self, body: str | bytes, message: str) -> None:
        assert refusal(body, self.XS, CSV) == message

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("a,b\n1,\n,2\n", "column «a», row 1: null is not an integer"),
            ("a,b\n1.0,2\n", "column «a», row 0: '1.0' is not an integer"),
            ("a,b\n9223372036854775808,2\n", "column «a», row 0: 9223372036854775808 is not an integer"),
            ("a,b\n99999999999999999999,2\n", "column «a», row 0: '99999999999999999999' is not an integer"),
        ],
    )
    def test_integers_of_csv(self, body: str, message: str) -> None:
        assert refusal(body, signature(("a", "long")), CSV) == message

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
            ('{"dataframe_split": {"columns": ["x", "x"], "data": [[1, 2]]}}', "the column «x» is there twice"),
            (
                '{"dataframe_split": {"columns": ["x", "s"], "data": [[1, "a"], [1]]}}',
                "row 1 has 1 cells for 2 columns",
            ),
            ('{"dataframe_records": {"x": 1, "s": "a"}}', "the rows must be a list of objects"),
            ('{"dataframe_records": [[1, "a"]]}', "the rows must be a list of objects"),
            ('{"dataframe_records": []}', "there are no rows: send one at least"),
            ('{"instances": [1, 2]}', "the rows must be a list of objects"),
            ('{"inputs": 5}', "the columns must be an object, a list of cells for each name"),
            ('{"inputs": {}}', "the columns must be an object, a list of cells for each name"),
            ('{"inputs": {"x": [1, 2], "s": ["a"]}}', "the columns must be of the same length"),
            ('{"inputs": {"x": [], "s": []}}', "there are no rows: send one at least"),
            ('{"inputs": {"s": ["a"]}}', "the column «x» is missing; the model takes x, s"),
            ('{"inputs": {"x": [[1]], "s": ["a"]}}', "column «x», row 0: a list is not a number"),
            ('{"inputs": {"x": [{"x": 1}], "s": ["a"]}}', "column «x», row 0: an object is not a number"),
            ('{"inputs": {"x": [1], "s": [null, 2]}}', "the columns must be of the same length"),
            ('{"inputs": {"x": [1, 2], "s": [null, 2]}}', "column «s», row 1: 2 is not a string"),
            ('{"inputs": {"x": [1e400], "s": ["a"]}}', "the body is not JSON: number is infinity"),
            ('{"inputs": {"x": [1], "s": ["\\ud800"]}}', "the body is not JSON"),
            (b'{"inputs": {"x": [1], "s": ["\xff"]}}', "the body is not JSON"),
            ('{"inputs": {"x": [1], "s": ["a"]}}'.encode("utf-16"), "the body is not JSON"),
            ('{"inputs": {"x": [1], "s": ["a"]}}'.encode("utf-8-sig"), "the body is not JSON: UTF-8 byte order mark"),
            ('{"inputs": {"x": [1], "s": ["a"]}', "the body is not JSON"),
            (
                '{"inputs": {"x": [1], "s": ["a"], "id": [[7]]}}',
                "column «id»: a key is a string, a number, true, false or null",
            ),
        ],
    )
    def test_json(self, body: str | bytes, message: str) -> None:
        assert refusal(body, self.XS).startswith(message)

    @pytest.mark.parametrize("depth", [500, 1000, 1020, 5000, 100_000])
    def test_a_cell_of_any_depth(self, depth: int) -> None:
        body = f'{{"inputs": {{"x": [{"[" * depth}{"]" * depth}], "s": ["a"]}}}}'
        assert refusal(body, self.XS).startswith(
            ("column «x», row 0: a list is not a number", "the body is not JSON: depth")
        )

    @pytest.mark.parametrize("cell", ["a\nb", "a\u2028b", "\x1b[31m", "a" * 1_000_000, "é\x85", "\U000e0001" * 99])
    def test_what_was_sent_is_told_back_in_one_short_line(self, cell: str) -> None:
        message = refusal(json.dumps({"inputs": {"x": [cell], "s": ["a"]}}), self.XS)
        assert message.isprintable()
        assert len(message) < 100

    def test_a_name_that_is_there_twice_is_told_back_so_too(self) -> None:
        message = refusal(json.dumps({"dataframe_split": {"columns": ["a\n" * 1000] * 2, "data": []}}), self.XS)
        assert message.isprintable()
        assert len(message) < 100

    def test_a_row_without_a_column_that_others_have_has_a_null_there(self) -> None:
        body = '{"dataframe_records": [{"x": 1, "s": "a"}, {"s": "b"}]}'
        assert read(body, self.XS).columns["x"] == [1, None]
        assert refusal(body, signature(("x", "long"))) == "column «x», row 1: null is not an integer"

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
    def test_another_content_type_is_415(self, content_type: str) -> None:
        with pytest.raises(Refused) as caught:
            read('{"inputs": {"x": [1], "s": ["a"]}}', self.XS, content_type)
        assert caught.value.status == 415

    @pytest.mark.parametrize(
        "content_type",
        [JSON, "Application/JSON", "application/json;charset=utf-8", 'application/json ; charset="UTF-8"'],
    )
    def test_the_same_content_type_may_be_written_in_several_ways(self, content_type: str) -> None:
        assert read('{"inputs": {"x": [1], "s": ["a"]}}', self.XS, content_type).count == 1

    def test_rows_that_bring_a_name_of_their_own_each_do_not_cost_their_number_squared(self) -> None:
        body = json.dumps({"instances": [{"x": 1, "s": "a", f"more {row}": 1} for row in range(5000)]})
        tracemalloc.start()
        assert read(body, self.XS).count == 5000
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 50_000_000  # bytes; a table of all of their names would have 25 million cells


class TestSignature:
    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ([], "does not say which columns it takes: log it with a signature made from a DataFrame"),
            ([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 3]}}], "does not say which columns"),
            ([{"type": "double", "required": True}], "does not say which columns"),
            ([{"name": "a", "type": "binary"}], "asks for «a» of type binary, which is no plain cell"),
            ([{"name": "a", "type": "array", "items": {"type": "double"}}], "asks for «a» of type array"),
        ],
    )
    def test_a_version_that_asks_for_anything_but_plain_columns_is_not_served(
        self, inputs: list[dict[str, Any]], message: str
    ) -> None:
        with pytest.raises(UserError, match=f"version 1 of toy {message}"):
            Signature.of(inputs, (), "version 1 of toy")

    @settings(deadline=None)
    @given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=5), cut=st.integers(0, 20))
    def test_requests_that_are_cut_and_put_together_are_the_same_rows(self, counts: list[int], cut: int) -> None:
        asked = signature(("x", "double"), ("s", "string"), keys=("id",))
        cells = iter(range(100))
        requests = []
        for count in counts:
            numbers = [next(cells) for _ in range(count)]
            requests.append(asked.rows(count, {"x": numbers, "s": [str(one) for one in numbers], "id": numbers}))
        parts = [
            part(rows, start, stop)
            for rows in requests
            for start, stop in [(0, min(cut, rows.count)), (min(cut, rows.count), rows.count)]
            if start < stop
        ]
        arrays = asked.arrays(parts)
        assert arrays["x"].tolist() == list(range(sum(counts)))
        assert arrays["s"].tolist() == [str(one) for one in range(sum(counts))]
        assert [cell for rows in parts for cell in rows.keys["id"]] == list(range(sum(counts)))
