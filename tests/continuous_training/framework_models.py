"""A small model of each framework, as a team writes it: model.py, and the parameters in training.yaml."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.versions.frameworks import OWN_CLASS
from toy import import_again

if TYPE_CHECKING:
    import pytest

PIPELINE = """
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from {library} import {estimator}


def build(categories, numbers, **parameters):
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, categories), ("passthrough", numbers))
    return make_pipeline(columns, {estimator}(**parameters))
"""
RULE = '''
import json

import numpy as np


class Rule:
    """Events with a large x are late."""

    def fit(self, rows, labels):
        self.classes_ = np.unique(labels)
        self.limit = float(rows["x"].median())
        return self

    def predict_proba(self, rows):
        late = np.where(rows["x"] > self.limit, 0.75, 0.25)
        return np.column_stack([1 - late, late])

    def save(self, folder):
        (folder / "limit.json").write_text(json.dumps(self.limit))

    @classmethod
    def load(cls, folder):
        rule = cls()
        rule.limit = json.loads((folder / "limit.json").read_text())
        return rule


def build(categories, numbers, **parameters):
    return Rule()
'''
TORCH = '''
import json

import numpy as np
import torch
from safetensors.torch import load_file, save_file

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Network:
    """A layer between the numbers and the classes."""

    def __init__(self, numbers, hidden, epochs=30):
        self.numbers, self.hidden, self.epochs = numbers, hidden, epochs

    def fit(self, rows, labels):
        torch.manual_seed(0)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self.module = self._build()
        inputs, targets = self._inputs(rows), torch.tensor(codes, device=DEVICE)
        optimizer = torch.optim.Adam(self.module.parameters(), lr=0.05)
        for _ in range(self.epochs):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(self.module(inputs), targets).backward()
            optimizer.step()
        return self

    def predict_proba(self, rows):
        with torch.inference_mode():
            return self.module(self._inputs(rows)).softmax(1).cpu().numpy()

    def save(self, folder):
        save_file(self.module.state_dict(), folder / "weights.safetensors")
        (folder / "network.json").write_text(json.dumps({"numbers": self.numbers, "hidden": self.hidden}))

    @classmethod
    def load(cls, folder):
        network = cls(**json.loads((folder / "network.json").read_text()))
        network.module = network._build()
        network.module.load_state_dict(load_file(folder / "weights.safetensors", DEVICE))
        return network

    def _build(self):
        layers = torch.nn.Linear(len(self.numbers), self.hidden), torch.nn.ReLU(), torch.nn.Linear(self.hidden, 2)
        return torch.nn.Sequential(*layers).to(DEVICE)

    def _inputs(self, rows):
        return torch.tensor(rows[self.numbers].fillna(0).to_numpy("float32"), device=DEVICE)


def build(categories, numbers, hidden):
    return Network(numbers, hidden)
'''
KERAS = '''
import os

import numpy as np

os.environ["KERAS_BACKEND"] = "torch"
import keras


class Network:
    """A layer between the numbers and the classes."""

    def fit(self, rows, labels):
        keras.utils.set_random_seed(0)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self.model = self._build()
        self.model.compile(optimizer=keras.optimizers.Adam(0.05), loss="sparse_categorical_crossentropy")
        self.model.fit(self._inputs(rows), codes, batch_size=512, epochs=3, verbose=0)
        return self

    def predict_proba(self, rows):
        return np.asarray(self.model.predict_on_batch(self._inputs(rows)))

    def save(self, folder):
        self.model.save_weights(folder / "network.weights.h5")

    @classmethod
    def load(cls, folder):
        network = cls()
        network.model = network._build()
        network.model.load_weights(folder / "network.weights.h5")
        return network

    def _build(self):
        layers = keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2, activation="softmax")
        return keras.Sequential([keras.Input((2,)), *layers])

    def _inputs(self, rows):
        return rows[["x", "y"]].fillna(0).to_numpy("float32")


def build(categories, numbers):
    return Network()
'''
BOOSTERS = {
    "lightgbm": (
        PIPELINE.format(library="lightgbm", estimator="LGBMClassifier"),
        "{n_estimators: 20, random_state: 0, verbose: -1}",
    ),
    "xgboost": (PIPELINE.format(library="xgboost", estimator="XGBClassifier"), "{n_estimators: 20, max_depth: 3}"),
    "catboost": (
        PIPELINE.format(library="catboost", estimator="CatBoostClassifier"),
        "{n_estimators: 20, verbose: 0, allow_writing_files: false}",
    ),
}
NETWORKS = {"torch": (TORCH, "{hidden: 8}"), "keras": (KERAS, "{}")}
MODELS = {**BOOSTERS, OWN_CLASS: (RULE, "{}"), **NETWORKS}
INSTALLED = [name for name in MODELS if name == OWN_CLASS or importlib.util.find_spec(name)]


def use(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a model into the workspace, as the commit before a run does."""
    source, parameters = MODELS[model]
    Path("src/toy/model.py").write_text(source)
    path = Path("src/toy/training.yaml")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(f"  parameters: {parameters}" if "parameters: " in line else line for line in lines))
    import_again(monkeypatch)
