"""The file of a scikit-learn estimator, in skops' format: a ZIP archive with a tree of nodes and arrays.

skops itself refuses types that it does not know. That is not enough for a file that anybody may have written: a type
that is trusted as one kind of node can be called if the file names it as another kind, attributes can make an estimator
read or load other files, and a small archive can need any amount of memory. So each archive is examined before skops
reads it.
"""

from __future__ import annotations

import importlib
import io
import json
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from skops.io._protocol import PROTOCOL

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

SCHEMA = "schema.json"
MAX_EXPANSION = 100  # of a compressed archive: uncompressed bytes for each byte
MAX_BYTES = 4 * 2**30  # of a compressed archive, uncompressed
MAX_SCHEMA_BYTES = 256 * 2**20
NESTED = ".npz"  # a sparse matrix: an archive in the archive

OBJECT, FUNCTION, TYPE, PARTIAL = "ObjectNode", "FunctionNode", "TypeNode", "PartialNode"
CHECK_ARRAY = "sklearn.utils.validation.check_array"
SCORES = ("chi2", "f_classif", "f_regression", "r_regression")
# What scikit-learn's own estimators contain although skops does not trust it, and as which kind of node
TRUSTED = {
    "sklearn.tree._tree.Tree": {"TreeNode"},
    "sklearn.utils._bunch.Bunch": {"DictNode"},
    "numpy.dtype": {"DTypeNode"},
    "functools.partial": {PARTIAL},
    "scipy.interpolate._bsplines.BSpline": {OBJECT},
    **{
        f"scipy.sparse._{kind}.{kind}_{form}": {"SparseMatrixNode"}
        for kind in ("csc", "csr")
        for form in ("array", "matrix")
    },
    # Functions of arrays, which read no files
    CHECK_ARRAY: {FUNCTION},
    "numpy.mean": {FUNCTION},
    "scipy._lib.array_api_compat.numpy._aliases.asarray": {FUNCTION},
    **{f"sklearn.cluster._kmeans._kmeans_single_{method}": {FUNCTION} for method in ("elkan", "lloyd")},
    **{f"sklearn.feature_selection._univariate_selection.{name}": {FUNCTION} for name in SCORES},
    **{f"sklearn.feature_selection._mutual_info.mutual_info_{name}": {FUNCTION} for name in ("classif", "regression")},
}
SCIKIT_LEARN = "sklearn"
NOT_OF_ESTIMATORS = {"conftest", "datasets", "externals", "tests", "_testing"}  # parts of scikit-learn's modules
# Attributes with which scikit-learn's estimators read files, and the value with which they do not
FILE_ATTRIBUTES = {"memory": None, "input": "content"}

SameId = dict[object, list[dict[str, Any]]]


class Node(NamedTuple):
    """A node of the tree: its kind, and the module and the name of its class or function."""

    kind: str
    module: str
    name: str
    state: dict[str, Any]

    @property
    def full_name(self) -> str:
        """The name with its module."""
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Trust:
    """What an archive may contain in addition to what skops trusts by default, and `TRUSTED`.

    Attributes:
        package: the model's package: its classes and functions.
        classes: the full names of other classes.
    """

    package: str
    classes: Collection[str] = ()

    def kinds(self, node: Node) -> set[str] | None:
        """Return the kinds of node that a node's class or function is trusted as; None if skops has to decide.

        Raises:
            UserError: it is not what its name says.
        """
        library, *parts = node.module.split(".")
        if node.full_name in TRUSTED:
            return TRUSTED[node.full_name]
        if library == self.package:
            _check_definition(node)
            return {OBJECT, FUNCTION, TYPE}
        if library == SCIKIT_LEARN and NOT_OF_ESTIMATORS.isdisjoint(parts):
            if node.kind == OBJECT and isinstance(_check_definition(node), type):
                return {OBJECT, TYPE}
            if node.kind == FUNCTION and parts[:1] == ["metrics"] and not isinstance(_check_definition(node), type):
                return {FUNCTION}
        if node.full_name in self.classes:
            if not isinstance(_check_definition(node), type):
                raise UserError(f"model.trusted_types has {node.full_name}, which is not a class")
            return {OBJECT, TYPE}
        return None


def examine(file: IO[bytes], trust: Trust) -> list[str]:
    """Check that skops can open an archive without doing anything but to make an estimator of a bounded size.

    Args:
        file: the archive.
        trust: what it may contain.

    Returns:
        The names that skops has to trust. It refuses all others that it does not trust by default.

    Raises:
        UserError: it cannot be read, is too large, or contains something that is not trusted.
    """
    nodes = _read_archive(file)
    same_id: SameId = defaultdict(list)
    trusted: dict[str, set[str]] = {}  # the kinds of node by name: skops trusts a name as any kind
    for node in nodes:
        same_id[node.state.get("__id__")].append(node.state)
        kinds = trust.kinds(node)
        if kinds is not None:
            trusted[node.full_name] = kinds
    for node in nodes:
        if node.kind not in trusted.get(node.full_name, {node.kind}):
            raise UserError(f"its estimator names {node.full_name} as {node.kind}, which would call it")
        if node.kind == PARTIAL:
            _check_partial(node, trust, same_id)
        elif node.kind == OBJECT:
            _check_attributes(node, same_id)
    return sorted(trusted)


def examine_file(path: Path, trust: Trust) -> list[str]:
    """Do the same with an archive by its path.

    Raises:
        UserError: as for `examine`.
    """
    try:
        with path.open("rb") as file:
            return examine(file, trust)
    except OSError as error:
        raise UserError(f"its estimator cannot be read: {error}") from None


def _read_archive(file: IO[bytes]) -> list[Node]:
    """Return all nodes of an archive of a bounded size.

    Raises:
        UserError: it cannot be read, or is too large.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            _check_sizes(archive, file.seek(0, io.SEEK_END), "its estimator's archive")
            for entry in archive.infolist():
                if entry.filename.endswith(NESTED):
                    with zipfile.ZipFile(io.BytesIO(archive.read(entry))) as nested:
                        _check_sizes(nested, entry.file_size, entry.filename)
            return _read_nodes(json.loads(archive.read(SCHEMA)))
    except UserError:
        raise
    except Exception as error:  # whatever a reader of hostile bytes raises
        raise UserError(f"its estimator is not a file of skops: {str(error) or type(error).__name__}") from None


def _check_sizes(archive: zipfile.ZipFile, size: int, name: str) -> None:
    """Check an archive's sizes by its directory, before anything is uncompressed."""
    entries = archive.infolist()
    if len({entry.filename for entry in entries}) < len(entries):
        raise UserError(f"{name} has two entries of the same name")
    total = sum(entry.file_size for entry in entries)
    if total > max(size, min(MAX_EXPANSION * size, MAX_BYTES)):
        raise UserError(f"{name} has {size / 1e6:.1f} MB, and {total / 1e6:,.0f} MB uncompressed, which is too much")
    if any(entry.filename == SCHEMA and entry.file_size > MAX_SCHEMA_BYTES for entry in entries):
        raise UserError(f"{SCHEMA} in {name} has more than {MAX_SCHEMA_BYTES >> 20} MB, which is too much")


def _read_nodes(root: object) -> list[Node]:
    """Return all nodes of the tree.

    Raises:
        ValueError: one is malformed, or the tree is of another version of the format.
    """
    if not isinstance(root, dict) or "__loader__" not in root:
        raise ValueError("it has no tree")
    if root.get("protocol") != PROTOCOL:
        raise ValueError(f"it has version {root.get('protocol')} of the format; this version of skops has {PROTOCOL}")
    nodes = []
    for state in _list_states(root):
        kind, module, name = (state.get(key) for key in ("__loader__", "__module__", "__class__"))
        if not (isinstance(kind, str) and isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a part has no class")  # noqa: TRY004 - the file is malformed
        if not isinstance(state.get("__id__", 0), int):
            raise ValueError("a part's id is not a number")  # noqa: TRY004
        nodes.append(Node(kind, module, name, state))
    return nodes


def _list_states(root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the state of each node, without recursion: a file may be nested as deeply as it likes."""
    values: list[object] = [root]
    while values:
        value = values.pop()
        if isinstance(value, list):
            values.extend(value)
        elif isinstance(value, dict):
            if "__loader__" in value:
                yield value
            values.extend(value.values())


def _check_definition(node: Node) -> object:
    """Return the class or function of a node, if it is defined where the node says, and under this name.

    A module's name for something that it has imported, such as `os.system`, would be trusted otherwise.

    Raises:
        UserError: it is not defined there.
    """
    try:
        definition = getattr(importlib.import_module(node.module), node.name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"its estimator needs {node.full_name}, which does not exist: {error}") from None
    if getattr(definition, "__module__", None) != node.module or definition.__qualname__ != node.name:
        raise UserError(f"its estimator needs {node.full_name}, which is not defined there but imported")
    return definition


def _check_partial(node: Node, trust: Trust, same_id: SameId) -> None:
    content = node.state.get("content")
    for function in _variants(content.get("func") if isinstance(content, dict) else None, same_id):
        module, name = (str(function.get(key)) for key in ("__module__", "__class__"))
        if f"{module}.{name}" != CHECK_ARRAY and module.partition(".")[0] != trust.package:
            raise UserError(f"its estimator holds a functools.partial of {module}.{name}, which is not trusted")


def _check_attributes(node: Node, same_id: SameId) -> None:
    """Raise a UserError if an estimator would read files."""
    for state in _variants(node.state.get("content"), same_id):
        attributes = state.get("content")
        for attribute, harmless in FILE_ATTRIBUTES.items():
            if isinstance(attributes, dict) and attribute in attributes:
                for value in _variants(attributes[attribute], same_id):
                    if value.get("__loader__") != "JsonNode" or value.get("content") != json.dumps(harmless):
                        raise UserError(f"its estimator's {node.name} reads files: {attribute} must be {harmless!r}")


def _variants(state: object, same_id: SameId) -> list[dict[str, Any]]:
    """Return what skops may read in place of a node: for nodes with the same id, it is the first that it meets."""
    if not isinstance(state, dict):
        return [{}]
    return same_id[state["__id__"]] if state.get("__id__") else [state]
