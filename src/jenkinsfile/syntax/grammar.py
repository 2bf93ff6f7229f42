"""Loads lark grammars. Their parse tables are cached in the user's cache folder."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import sys
from pathlib import Path

import lark


@functools.cache
def load_grammar(path: Path) -> lark.Lark:
    """Return the LALR parser of a grammar.

    The computation of its tables takes about 0.1 s, so they are cached. The key is a hash of the grammar and of the
    versions of lark and Python. lark's own option `cache=True` uses the shared temporary folder, where another user
    could place a file; the user's cache folder is as trustworthy as the user's programs.
    """
    text = path.read_text(encoding="utf-8")
    key = hashlib.sha256(f"{lark.__version__}\n{sys.version}\n{text}".encode()).hexdigest()
    cache = _cache_folder() / f"{path.stem}-{key[:16]}.pickle"
    with contextlib.suppress(Exception), cache.open("rb") as file:  # a damaged pickle can raise anything
        return lark.Lark.load(file)
    parser = lark.Lark(text, parser="lalr", propagate_positions=True, maybe_placeholders=False)
    with contextlib.suppress(OSError):  # on a full disk, or without a home folder, nothing is cached
        _save(parser, cache)
    return parser


def _cache_folder() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "jenkinsfile")
    except RuntimeError:  # the user has no home folder
        return Path(os.devnull)


def _save(parser: lark.Lark, cache: Path) -> None:
    """Write the cache atomically: several processes may start at the same time."""
    tables = io.BytesIO()
    parser.save(tables)
    cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = cache.with_name(f"{cache.name}.{os.getpid()}")
    draft.write_bytes(tables.getvalue())
    draft.replace(cache)
