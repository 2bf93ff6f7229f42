"""The manifest of a version: what it consists of, and what is known of it. It is signed, and nothing else is believed.

A version is a folder of files:

manifest.json      this manifest; lists all other files
manifest.sig       its signature
model.skops        the estimator
golden.json        some rows and their predictions
code/<package>/    the model's package as it was when the version was trained
requirements.txt   the packages that it needs, and their versions
packages.txt       all packages that were installed then
MLmodel, …         what MLflow stores beside, for its own pages and commands
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from continuous_training.documents import Value, first_error
from continuous_training.errors import UserError
from continuous_training.versions.file_names import ESTIMATOR, MANIFEST, SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 32 * 2**20  # of the manifest
MAX_FILES = 10_000


def _refuse_other_paths(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path != "/".join(parts) or ".." in parts or "/" in parts or "\\" in path or "\0" in path:
        raise ValueError("is not a plain relative path")
    return path


RelativePath = Annotated[str, AfterValidator(_refuse_other_paths)]


# As uv gets them: nothing that it would read as an option or an address
PackageName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
PackageVersion = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+!_-]*$")]


class FileEntry(Value):
    """The size in bytes and the SHA-256 of a file."""

    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(Value):
    """What a version consists of.

    Attributes:
        model: the registered model, whose package is in `code`.
        run_id: the MLflow run that made it.
        task: which method predicts: `predict_proba` or `predict`.
        trusted_types: classes outside the package that its estimator may contain.
        inputs, outputs: the signature, in MLflow's JSON.
        python, packages: the version of Python and the packages that it predicts with; empty if they are unknown.
        lineage: tags of the MLflow run: commit, snapshot, fingerprint, training time.
        files: all files of the version but the manifest and its signature.
    """

    format: Literal[1] = 1
    model: str
    run_id: str
    task: Literal["classification", "regression"]
    trusted_types: tuple[str, ...]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    lineage: dict[str, str]
    python: str = ""
    packages: dict[PackageName, PackageVersion] = Field(default_factory=dict)
    files: dict[RelativePath, FileEntry] = Field(max_length=MAX_FILES)

    @property
    def method(self) -> str:
        """The method of the estimator that predicts."""
        return "predict_proba" if self.task == "classification" else "predict"

    @property
    def megabytes(self) -> float:
        """The size of the estimator's file in megabytes."""
        return self.files[ESTIMATOR].size / 1e6 if ESTIMATOR in self.files else 0.0


def parse_manifest(content: bytes) -> Manifest:
    """Parse a manifest.

    Raises:
        UserError: it is malformed.
    """
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise UserError(f"{MANIFEST} is malformed: {first_error(error)}") from None


def hash_files(folder: Path) -> dict[str, FileEntry]:
    """Return the entries of all files of a version but the manifest and its signature.

    Raises:
        UserError: the folder has a link or another special file.
    """
    return {
        path: FileEntry(size=(folder / path).stat().st_size, sha256=hash_file(folder / path))
        for path in sorted(list_files(folder))
        if path not in {MANIFEST, SIGNATURE}
    }


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(folder: Path) -> Iterator[str]:
    """Yield the path of each file below a folder, relative to it.

    Raises:
        UserError: something is neither a file nor a folder.
    """
    folders = [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                path = Path(entry.path).relative_to(folder).as_posix()
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    yield path
                else:
                    raise UserError(f"{path} is a link or a special file")
