"""Groovy's expressions, as far as a pipeline needs them without a script block."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jenkinsfile.expressions import evaluator as expressions
from jenkinsfile.expressions.values import EvaluationError
from jenkinsfile.syntax.model import Expression, JenkinsfileError, Position


class Scope:
    values = {"params": {"SIZE": "large", "FORCE": True}, "env": {"HOME": "/root"}, "n": 3, "who": "you", "empty": ""}

    def __init__(self):
        self.called = []

    def variable(self, name):
        if name not in self.values:
            raise EvaluationError(f"no such property: «{name}»")
        return self.values[name]

    def call(self, name, positional, named):
        self.called.append((name, positional, named))
        return {"readFile": ' {"decision": "train"}\n', "sh": 0, "fileExists": False}.get(name)


def value(text: str, scope: Scope | None = None):
    return expressions.evaluate(Expression(text, Position(7)), scope or Scope())


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
def test_an_expression_has_groovys_value(text, expected):
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "called"), [("false && sh('x')", 0), ("true || sh('x')", 0), ("true ? 1 : sh('x')", 0)]
)
def test_what_need_not_be_evaluated_is_not(text, called):
    scope = Scope()
    value(text, scope)
    assert len(scope.called) == called


def test_steps_get_their_arguments_by_place_and_by_name():
    scope = Scope()
    value("sh(script: \"echo $who\", returnStdout: true) + readFile('f')", scope)
    assert scope.called == [("sh", [], {"script": "echo you", "returnStdout": True}), ("readFile", ["f"], {})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nobody", "no such property: «nobody»"),
        ("n.size()", "a number has no method «size» that ct run knows"),
        ("params.MISSING.trim()", "cannot call «trim()» on null"),
        ("'a' < 1", "cannot compare a string with a number"),
        ("1 / 0", "cannot calculate"),
        ("who.path", "a string has no property «path»"),
        ("'x'.toInteger()", "«toInteger()» of a string failed"),
    ],
)
def test_an_expression_without_a_value_says_why(text, message):
    with pytest.raises(EvaluationError, match="^" + message.replace("(", r"\(").replace(")", r"\)")):
        value(text)


@pytest.mark.parametrize("text", ["if (a) { b }", "def x = 1\nx", "list.any { it }", "new File('x')", "a = 1", ""])
def test_what_is_more_than_an_expression_is_refused_with_its_line(text):
    with pytest.raises(JenkinsfileError, match="^Jenkinsfile:[78]: the expression «.*» is not supported"):
        value(text)


def test_calls_are_found_without_being_made():
    found = expressions.uses(Expression("[string(credentialsId: 'id', variable: \"V\"),\n sh(a).trim()]", Position(7)))
    assert {(use.name, use.method, use.position.line) for use in found} == {
        ("string", False, 7),
        ("sh", False, 8),
        ("trim", True, 8),
    }


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_any_string_survives_being_quoted(text):
    assert value(json.dumps(text, ensure_ascii=False).replace("$", "\\$")) == text


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab1 .?:()[]'\"${}+-*/!&|<>=,n\\", max_size=25))
def test_arbitrary_text_gives_a_value_or_one_of_two_errors(text):
    with contextlib.suppress(JenkinsfileError, EvaluationError):
        value(text)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(-1000, 1000),
    st.integers(-1000, 1000),
    st.sampled_from(["+", "-", "*", "<", "<=", ">", ">=", "==", "!="]),
)
def test_arithmetic_and_comparison_are_the_usual_ones(left, right, operator):
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
    assert value(f"({left}) {operator} ({right})") == names[operator](left, right)
