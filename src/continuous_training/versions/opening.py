"""Opening a version of the registry: downloaded, examined, and then in a process of its own."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from continuous_training.errors import UserError
from continuous_training.versions import examination, golden_predictions
from continuous_training.versions.download import download
from continuous_training.versions.process import VersionProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from continuous_training.versions.examination import Policy
    from continuous_training.versions.manifest import Manifest

PANDAS_TYPES = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}


class OpenVersion(NamedTuple):
    """A version that can predict: its files, its manifest, and its process."""

    folder: Path
    manifest: Manifest
    process: VersionProcess

    def check_golden_predictions(self) -> None:
        """Check that it predicts what it did when it was made.

        Raises:
            UserError: it does not: its code, its packages or the processor have changed.
        """
        rows, golden = golden_predictions.read_golden_predictions(self.folder)
        predictions = self.process.predict(self._to_frame(rows))
        if difference := golden_predictions.describe_difference(predictions, golden):
            raise UserError(f"its predictions for its golden rows differ from those when it was made: {difference}")

    def _to_frame(self, rows: dict[str, list[object]]) -> pd.DataFrame:
        frame = pd.DataFrame(rows["data"], columns=pd.Index(rows["columns"]), dtype=object)
        for column in self.manifest.inputs:
            name, kind = column["name"], column["type"]
            if kind == "datetime":
                frame[name] = pd.to_datetime(frame[name], format="ISO8601")
            elif kind in PANDAS_TYPES:
                frame[name] = frame[name].astype(PANDAS_TYPES[kind])
        return frame


@contextmanager
def examined_version(uri: str, policy: Policy, run_id: str | None) -> Iterator[tuple[Path, Manifest]]:
    """Download and examine a version; its files are removed at the end.

    Args:
        uri: its address.
        policy: which versions may be opened.
        run_id: the MLflow run that it is from; None if it does not matter.

    Raises:
        UserError: it cannot be downloaded, or is not as it was signed.
    """
    with tempfile.TemporaryDirectory(prefix="ct-version-") as temporary:
        folder = Path(temporary)
        download(uri, folder, run_id)
        try:
            manifest = examination.examine(folder, policy, run_id)
        except UserError as error:
            raise UserError(f"the model {uri} is not opened: {error}") from error
        yield folder, manifest


@contextmanager
def open_version(uri: str, policy: Policy, run_id: str | None) -> Iterator[OpenVersion]:
    """Open a version in a process of its own, which ends with the context. The arguments are those above.

    Raises:
        UserError: it cannot be downloaded, is not as it was signed, contains something that is not trusted, or cannot
            be opened.
    """
    with examined_version(uri, policy, run_id) as (folder, manifest):
        try:
            process = VersionProcess(folder, manifest)
        except UserError as error:
            raise UserError(f"the model {uri} is not opened: {error}") from error
        with process:
            yield OpenVersion(folder, manifest, process)


def read_golden_predictions(uri: str, policy: Policy, run_id: str | None) -> tuple[dict[str, Any], NDArray[Any]]:
    """Return the golden rows of a version, in MLflow's format `dataframe_split`, and their predictions.

    Raises:
        UserError: it cannot be downloaded, or is not as it was signed.
    """
    with examined_version(uri, policy, run_id) as (folder, _):
        return golden_predictions.read_golden_predictions(folder)
