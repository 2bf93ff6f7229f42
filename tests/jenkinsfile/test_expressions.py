"""Parsing and evaluating Groovy expressions."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jenkinsfile.expressions.evaluator import evaluate
from jenkinsfile.expressions.parser import find_calls
from jenkinsfile.expressions.values import EvaluationError
from jenkinsfile.syntax.model import Expression, JenkinsfileError, Position


class Scope:
    values = {"params": {"SIZE": "large", "FORCE": True}, "env": {"HOME": "/root"}, "n": 3, "who": "you", "empty": ""}

    def __init__(self):
        self.calls = []

    def variable(self, name):
        if name not in self.values:
            raise EvaluationError(f"no such property: '{name}'")
        return self.values[name]

    def call(self, name, positional, keywords):
        self.calls.append((name, positional, keywords))
        return {"readFile": ' {"decision": "train"}\n', "sh": 0, "fileExists": False}.get(name)


def value_of(text: str, scope: Scope | None = None):
    return evaluate(Expression(text, Position(7)), scope or Scope())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'a' + 1 + true + null", "a1truenull"),
        ('"$who, ${who.toUpperCase()} and \\$who: ${n + 1}"', "you, YOU and $who: 4"),
        ('"""say "${params.SIZE}" $env.HOME"""', 'say "large" /root'),
        ("params.SIZE == 'large' && !params.MISSING", True),
        ("params.FORCE == true ? 'yes' : 'no'", "yes"),
        ("empty ?: 'default'", "default"),
        ("env.MISSING?.trim() ?: env.HOME", "/root"),
        ("'b' in ['a', 'b']", True),
        ("n in [1, 2]", False),
        ("n > 2 && n <= 3.0", True),
        ("1 == 1.0 && true != 1", True),
        ("(2 + 3) * 4 - 6 / 4", 18.5),
        ("-n % 2", -1),
        ("'release/1.2' ==~ /release\\/.+/", True),
        ("'main' ==~ /ma/", False),
        ("[a: 1, 'b': [2, 3]]['b'][-1]", 3),
        ("[]", []),
        ("[:]", {}),
        ("'a,b,,'.split(',').size()", 2),
        ("readFile('build/plan.json').contains('\"decision\": \"train\"')", True),
        ("sh(script: 'x', returnStatus: true) == 0", True),
        ("fileExists 'x'", False),
        ("return who == 'you';", True),
        ("// why\n who\n  == 'you'", True),
        ("null < 1", True),
        ("'don\\'t' + 'A\\u0042\\n'", "don'tAB\n"),
    ],
)
def test_expressions_have_the_value_that_they_have_in_groovy(text, expected):
    assert value_of(text) == expected


@pytest.mark.parametrize(
    ("text", "call_count"), [("false && sh('x')", 0), ("true || sh('x')", 0), ("true ? 1 : sh('x')", 0)]
)
def test_operators_evaluate_only_the_operands_that_they_need(text, call_count):
    scope = Scope()
    value_of(text, scope)
    assert len(scope.calls) == call_count


def test_steps_get_positional_and_named_arguments():
    scope = Scope()
    value_of("sh(script: \"echo $who\", returnStdout: true) + readFile('f')", scope)
    assert scope.calls == [("sh", [], {"script": "echo you", "returnStdout": True}), ("readFile", ["f"], {})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nobody", "no such property: 'nobody'"),
        ("n.size()", "a number has no method 'size' that a local run supports"),
        ("params.MISSING.trim()", "cannot call 'trim()' on null"),
        ("'a' < 1", "cannot compare a string with a number"),
        ("1 / 0", "cannot calculate"),
        ("who.path", "a string has no property 'path'"),
        ("'x'.toInteger()", "'toInteger()' of a string failed"),
    ],
)
def test_an_evaluation_error_has_the_reason(text, message):
    with pytest.raises(EvaluationError, match="^" + message.replace("(", r"\(").replace(")", r"\)")):
        value_of(text)


@pytest.mark.parametrize("text", ["if (a) { b }", "def x = 1\nx", "list.any { it }", "new File('x')", "a = 1", ""])
def test_code_that_is_not_an_expression_is_an_error_with_its_line(text):
    with pytest.raises(JenkinsfileError, match="^Jenkinsfile:[78]: the expression '.*' is not supported"):
        value_of(text)


def test_only_strings_without_interpolation_are_literals():
    (call,) = find_calls(Expression('f(a: \'x\', b: "y$n", c: """z${n}""", d: """w""")', Position(1)))
    assert call.argument_names == ("a", "b", "c", "d")
    assert call.literals == {"a": "x", "d": "w"}


def test_calls_are_found_without_evaluation():
    calls = find_calls(Expression("[string(credentialsId: 'id', variable: \"V\"),\n sh(a).trim()]", Position(7)))
    assert {(call.name, call.is_method, call.position.line) for call in calls} == {
        ("string", False, 7),
        ("sh", False, 8),
        ("trim", True, 8),
    }


@settings(max_examples=100)
@given(st.text(max_size=30))
def test_a_quoted_string_evaluates_to_itself(text):
    assert value_of(json.dumps(text, ensure_ascii=False).replace("$", "\\$")) == text


@settings(max_examples=200)
@given(st.text(alphabet="ab1 .?:()[]'\"${}+-*/!&|<>=,n\\", max_size=25))
def test_arbitrary_text_has_a_value_or_is_one_of_two_errors(text):
    with contextlib.suppress(JenkinsfileError, EvaluationError):
        value_of(text)


@settings(max_examples=100)
@given(
    st.integers(-1000, 1000),
    st.integers(-1000, 1000),
    st.sampled_from(["+", "-", "*", "<", "<=", ">", ">=", "==", "!="]),
)
def test_arithmetic_and_comparison_are_those_of_python(left, right, operator):
    import operator as op

    names = {
        "+": op.add,
        "-": op.sub,
        "*": op.mul,
        "<": op.lt,
        "<=": op.le,
        ">": op.gt,
        ">=": op.ge,
        "==": op.eq,
        "!=": op.ne,
    }
    assert value_of(f"({left}) {operator} ({right})") == names[operator](left, right)
