"""Loads lark grammars; their parse tables are cached."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, cast

import lark
from lark.grammar import Rule
from lark.lexer import TerminalDef


@functools.cache
def load_grammar(path: Path) -> lark.Lark:
    """Return the LALR parser of a grammar.

    The computation of its tables takes 0.1 s, so they are stored in the user's cache folder: as JSON, since lark's own
    cache is a pickle. Where that folder cannot be used, each process computes them.
    """
    text = path.read_text(encoding="utf-8")
    key = hashlib.sha256(f"{lark.__version__}\n{text}".encode()).hexdigest()[:16]
    cache = _cache_folder() / f"{path.stem}-{key}.json"
    # Loaded as by the standalone parsers that lark generates. A file that cannot be used is written anew.
    with contextlib.suppress(Exception):
        data, memo = json.loads(cache.read_bytes(), object_hook=_restore_integers)
        return cast("lark.Lark", lark.Lark._load_from_dict(data, memo))  # type: ignore[no-untyped-call]
    parser = lark.Lark(text, parser="lalr", propagate_positions=True, maybe_placeholders=False)
    with contextlib.suppress(OSError):
        _write(json.dumps(parser.memo_serialize([TerminalDef, Rule])), cache)
    return parser


def _cache_folder() -> Path:
    # expanduser, as Path.home() fails for a user without a home folder
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "jenkinsfile"  # noqa: PTH111


def _restore_integers(value: dict[str, Any]) -> dict[int | str, Any]:
    """JSON has no integers as keys; names in a grammar are never digits."""
    return {int(key) if key.isdecimal() else key: item for key, item in value.items()}


def _write(text: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(text)
    Path(file.name).replace(path)
