"""The manifest of a version: what it consists of, and what is known of it. It is signed, and nothing else is believed.

A version is a folder of files:

manifest.json      this manifest; lists all other files
manifest.sig       its signature
model.skops        the estimator, or the transformers before one of another framework
native/            an estimator of another framework than scikit-learn, in that framework's format
description.json   the framework, and the signature
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
from continuous_training.settings.training import method_of
from continuous_training.versions.file_names import DESCRIPTION, ESTIMATOR, MANIFEST, NATIVE, SIGNATURE
from continuous_training.versions.frameworks import SCIKIT_LEARN

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
        framework: of the estimator; a row of `frameworks.FRAMEWORKS`, or scikit-learn.
        trusted_types: classes outside the package that its estimator may contain.
        inputs, outputs: the signature, in MLflow's JSON.
        targets: the columns that it predicts, in the order of its outputs; empty if it is older than this list.
        python, packages: the version of Python and the packages that it predicts with; empty if they are unknown.
        lineage: tags of the MLflow run: commit, snapshot, fingerprint, training time.
        files: all files of the version but the manifest and its signature.
    """

    format: Literal[1] = 1
    model: str
    run_id: str
    task: Literal["classification", "regression"]
    framework: str = SCIKIT_LEARN
    trusted_types: tuple[str, ...]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    targets: tuple[str, ...] = ()
    lineage: dict[str, str]
    python: str = ""
    packages: dict[PackageName, PackageVersion] = Field(default_factory=dict)
    files: dict[RelativePath, FileEntry] = Field(max_length=MAX_FILES)

    @property
    def method(self) -> str:
        """The method of the estimator that predicts."""
        return method_of(self.task)

    @property
    def megabytes(self) -> float:
        """The size of the estimator's files in megabytes."""
        return sum(entry.size for path, entry in self.files.items() if is_of_estimator(path)) / 1e6


class Description(Value):
    """What Fit, which has no key, knows of a version; Train signs it with the rest."""

    framework: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]


def is_of_estimator(path: str) -> bool:
    """Return whether a file of a version belongs to the estimator."""
    return path == ESTIMATOR or path.startswith(f"{NATIVE}/")


def read_description(folder: Path) -> Description:
    """Read the description in a version's folder.

    Raises:
        UserError: it is missing or malformed.
    """
    path = folder / DESCRIPTION
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"its {DESCRIPTION} is larger than {MAX_BYTES >> 20} MB")
        return Description.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"its {DESCRIPTION} cannot be read: {error}") from None
    except ValidationError as error:
        raise UserError(f"its {DESCRIPTION} is malformed: {first_error(error)}") from None


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
