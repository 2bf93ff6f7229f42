"""Groovy expressions: their grammar, their parser, their values, and the evaluation without `eval`."""
