"""The model of a declarative Jenkinsfile: plain, immutable data. Every element has its position in the file."""

from __future__ import annotations

from dataclasses import dataclass

from jenkinsfile.errors import UsageError


@dataclass(frozen=True, order=True)
class Position:
    """A position in the Jenkinsfile. Lines and columns count from 1."""

    line: int
    column: int = 1


class JenkinsfileError(UsageError):
    """The Jenkinsfile has an error, or uses what a local run does not support: `Jenkinsfile:34: the step ...`."""

    def __init__(self, message: str, position: Position, file: str = "Jenkinsfile", *, column: bool = False) -> None:
        location = f"{position.line}:{position.column}" if column else f"{position.line}"
        super().__init__(f"{file}:{location}: {message}")
        self.message = message
        self.position = position


@dataclass(frozen=True)
class Expression:
    """The source text of a Groovy expression."""

    text: str
    position: Position


@dataclass(frozen=True)
class Argument:
    """One argument of a call; `name` is None for a positional one."""

    name: str | None
    value: Expression


@dataclass(frozen=True)
class Call:
    """A step, an option, a parameter, a trigger, a condition, a tool, or a setting of an agent.

    `body` holds the calls between its braces (None: it has no braces), `code` the Groovy source of `script {}` and
    `expression {}`.
    """

    name: str
    position: Position
    arguments: tuple[Argument, ...] = ()
    body: tuple[Call, ...] | None = None
    code: Expression | None = None


@dataclass(frozen=True)
class Agent:
    """`agent any` has the kind `any`; `agent { docker { … } }` the kind `docker`, and that call as its setting."""

    kind: str
    settings: tuple[Call, ...]
    position: Position


@dataclass(frozen=True)
class Variable:
    """One line of `environment {}`."""

    name: str
    value: Expression
    position: Position


@dataclass(frozen=True)
class PostCondition:
    """One condition of `post {}`, such as `always { ... }`, with its steps."""

    name: str
    steps: tuple[Call, ...]
    position: Position


@dataclass(frozen=True)
class When:
    """The conditions of a stage, all of which must hold; `before` has those of `beforeInput` … that are true."""

    conditions: tuple[Call, ...]
    before: frozenset[str]
    position: Position


@dataclass(frozen=True)
class Input:
    """The `input {}` of a stage, which waits for approval before the stage runs."""

    settings: tuple[Call, ...]
    parameters: tuple[Call, ...]
    position: Position


@dataclass(frozen=True)
class Axis:
    """One axis of a matrix, or of an `exclude`."""

    settings: tuple[Call, ...]
    position: Position


@dataclass(frozen=True)
class Matrix:
    """The `matrix {}` of a stage, which runs its stages for each combination of its axes."""

    axes: tuple[Axis, ...]
    stages: tuple[Stage, ...]
    position: Position
    excludes: tuple[tuple[Axis, ...], ...] = ()
    agent: Agent | None = None
    when: When | None = None
    input: Input | None = None
    environment: tuple[Variable, ...] = ()
    options: tuple[Call, ...] = ()
    tools: tuple[Call, ...] = ()
    post: tuple[PostCondition, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One stage. Exactly one of `steps`, `stages`, `parallel` and `matrix` is not None."""

    name: str
    position: Position
    agent: Agent | None = None
    when: When | None = None
    input: Input | None = None
    environment: tuple[Variable, ...] = ()
    options: tuple[Call, ...] = ()
    tools: tuple[Call, ...] = ()
    steps: tuple[Call, ...] | None = None
    stages: tuple[Stage, ...] | None = None
    parallel: tuple[Stage, ...] | None = None
    matrix: Matrix | None = None
    fail_fast: bool = False
    post: tuple[PostCondition, ...] = ()

    @property
    def children(self) -> tuple[Stage, ...]:
        """The stages directly inside this one, in sequence, in parallel or in a matrix."""
        return self.stages or self.parallel or (self.matrix.stages if self.matrix else ())


@dataclass(frozen=True)
class Pipeline:
    """A whole `pipeline {}`."""

    agent: Agent
    stages: tuple[Stage, ...]
    position: Position
    environment: tuple[Variable, ...] = ()
    options: tuple[Call, ...] = ()
    parameters: tuple[Call, ...] = ()
    triggers: tuple[Call, ...] = ()
    tools: tuple[Call, ...] = ()
    libraries: tuple[Call, ...] = ()
    post: tuple[PostCondition, ...] = ()
