"""Reads a Dockerfile and its build context, to check an image without building it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from docker.utils.build import exclude_paths

from conftest import ROOT
from http_stub import http_stub


class Instruction(NamedTuple):
    word: str
    rest: str
    here_document: str = ""


Stage = list[Instruction]


def stages(dockerfile: Path) -> list[Stage]:
    """Parse a Dockerfile into stages, without comments and with joined lines."""
    parsed_stages: list[Stage] = []
    lines = iter(dockerfile.read_text().splitlines())
    for line in lines:
        if not line.strip() or _is_comment(line):
            continue
        joined = line
        while joined.endswith("\\"):
            following = next(lines)
            joined = joined if _is_comment(following) else joined[:-1] + following
        word, _, rest = joined.strip().partition(" ")
        if word.upper() == "FROM":
            parsed_stages.append([])
        ending = re.search(r"<<'(\w+)'", rest)
        here_document = "".join(f"{text}\n" for text in iter(lines.__next__, ending[1])) if ending else ""
        parsed_stages[-1].append(Instruction(word.upper(), rest.strip(), here_document))
    return parsed_stages


def all_of(stage: Stage, word: str) -> list[str]:
    return [instruction.rest for instruction in stage if instruction.word == word]


def environment(stage: Stage) -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in all_of(stage, "ENV") for pair in shlex.split(rest))


def copied_files(stage: Stage) -> list[tuple[str, str]]:
    """Return the sources and targets that are copied from the build context."""
    pairs = []
    for rest in all_of(stage, "COPY"):
        if not rest.startswith("--from=") and "<<" not in rest:
            *sources, target = (word for word in rest.split() if not word.startswith("--"))
            pairs += [(source, target) for source in sources]
    return pairs


def build_context(dockerfile: Path, folder: Path) -> set[str]:
    """Return the files of a folder that are in the build context, by the rules of Docker's library."""
    ignored = dockerfile.with_name(f"{dockerfile.name}.dockerignore")  # the name that Docker looks for
    patterns = [line for line in ignored.read_text().splitlines() if not line.startswith("#")]
    paths = exclude_paths(folder, patterns, dockerfile.relative_to(ROOT).as_posix())
    return {path for path in paths if (folder / path).is_file()}


@contextmanager
def health(status: int) -> Iterator[int]:
    """Serve /health with a status; yield the port, for the health check of the image."""
    with http_stub(lambda request: (status if request.path == "/health" else 404, "")) as address:
        yield int(address.rpartition(":")[2])


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")
