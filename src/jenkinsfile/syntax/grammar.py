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

    Each process computes its tables again, in about 0.1 s: lark can cache them only as a pickle, which is never loaded
    here.
    """
    return lark.Lark(
        path.read_text(encoding="utf-8"), parser="lalr", propagate_positions=True, maybe_placeholders=False
    )
