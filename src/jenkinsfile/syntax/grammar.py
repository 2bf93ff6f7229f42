"""Loads lark grammars."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import lark

if TYPE_CHECKING:
    from pathlib import Path


@functools.cache
def load_grammar(path: Path) -> lark.Lark:
    """Return the LALR parser of a grammar.

    Its tables are computed anew in each process, in about 0.1 s: lark could cache them only as a pickle, and nothing here is
    unpickled.
    """
    return lark.Lark(path.read_text(encoding="utf-8"), parser="lalr", propagate_positions=True, maybe_placeholders=False)
