"""training.yaml: its sections, how it is read, and its hashes.

Each section is a class in a module of its own subject; `training_yaml` reads the file, `mistakes` describes what is
wrong in it, and `reference` makes the documentation of its keys.
"""

from pathlib import Path

from continuous_training.settings.comparison import Compare
from continuous_training.settings.data import Checks, Column, Data
from continuous_training.settings.hashes import TESTS, lock_hash, package_hash, source_hash, terms_hash
from continuous_training.settings.moments import future_warning, parse_as_of, time_windows
from continuous_training.settings.production import Measure, Monitor, RolloutPhase, Serving, Triggers
from continuous_training.settings.refit import Refit
from continuous_training.settings.search import Range, Search
from continuous_training.settings.training import Compute, Model
from continuous_training.settings.training_yaml import Settings, load_settings, parse_settings

BRANCH = "main"  # the one that trains; the Jenkinsfile ends a run of any other after Lint and Test
STATE = Path(".ct")

__all__ = [
    "BRANCH",
    "STATE",
    "TESTS",
    "Checks",
    "Column",
    "Compare",
    "Compute",
    "Data",
    "Measure",
    "Model",
    "Monitor",
    "Range",
    "Refit",
    "RolloutPhase",
    "Search",
    "Serving",
    "Settings",
    "Triggers",
    "future_warning",
    "load_settings",
    "lock_hash",
    "package_hash",
    "parse_as_of",
    "parse_settings",
    "source_hash",
    "terms_hash",
    "time_windows",
]
