"""The Groovy expressions of a declarative pipeline: their grammar, their parser and their values."""
