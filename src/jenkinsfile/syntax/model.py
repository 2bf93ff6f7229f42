"""What a declarative Jenkinsfile says: plain, frozen data with the place of everything in the file."""

from __future__ import annotations

from dataclasses import dataclass

from jenkinsfile.errors import UsageError


@dataclass(frozen=True, order=True)
class Position:
    """A place in the Jenkinsfile, counted from 1."""

    line: int
    column: int = 1


class JenkinsfileError(UsageError):
    """The Jenkinsfile cannot be read, or says something that a local run cannot do: `Jenkinsfile:34: the step ...`."""

    def __init__(self, message: str, position: Position, file: str = "Jenkinsfile", *, column: bool = False) -> None:
        place = f"{position.line}:{position.column}" if column else f"{position.line}"
        super().__init__(f"{file}:{place}: {message}")
        self.message = message
        self.position = position


@dataclass(frozen=True)
class Expression:
    """Groovy source text, as it stands in the file."""

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

    `body` holds the calls between its braces (None: no braces), `code` the Groovy of a `script` or an `expression`.
    """

    name: str
    position: Position
    arguments: tuple[Argument, ...] = ()
    body: tuple[Call, ...] | None = None
    code: Expression | None = None


@dataclass(frozen=True)
class Agent:
    """`agent any`: kind `any`; `agent { docker { image 'x' } }`: kind `docker` with the call as its only setting."""

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
    """`always { ... }` and its kin in `post {}`."""

    name: str
    steps: tuple[Call, ...]
    position: Position


@dataclass(frozen=True)
class When:
    """The conditions of a stage, all of which must hold, and what they are evaluated before."""

    conditions: tuple[Call, ...]
    before: frozenset[str]
    position: Position


@dataclass(frozen=True)
class Input:
    """The question that a stage asks before it runs."""

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
    """The inside of a stage that runs its stages for each combination of its axes."""

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
    """One stage: exactly one of `steps`, `stages`, `parallel` and `matrix` is given, the others are None."""

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
        """The stages directly in this one, whichever way they run."""
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
