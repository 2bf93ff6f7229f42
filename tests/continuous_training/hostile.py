"""Hostile versions of a model: each is made from a good one and tries to run code, read files, or exhaust the machine.

scripts/ct test -- tests/continuous_training/versions/test_hostile.py -s      # prints what is said of each

Those of `TAMPERED` are changed after they were signed. Those of `SIGNED` are signed as they are, as if the key were
stolen or Train deceived: then the examination of the estimator alone has to stop them.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from continuous_training.errors import UserError
from continuous_training.serving.following.assignment import VersionReference
from continuous_training.serving.following.hosts import examine_version, start_host
from continuous_training.versions import examination
from continuous_training.versions.file_names import ESTIMATOR, MANIFEST, NATIVE, SIGNATURE
from continuous_training.versions.frameworks import OWN_CLASS
from continuous_training.versions.frameworks.classes import FILE as CLASSES
from continuous_training.versions.manifest import Manifest, hash_files
from continuous_training.versions.opening import OpenVersion
from continuous_training.versions.process import VersionProcess
from continuous_training.versions.signing import sign

if TYPE_CHECKING:
    from collections.abc import Callable

    from continuous_training.versions.examination import Policy
    from continuous_training.versions.host import HostStarter

MARKER = "hostile-code-has-run"  # the file that hostile code would create in the current folder
PROGRAM = f"open({MARKER!r}, 'w').close()"
METADATA = "MLmodel"


class HostileVersion(NamedTuple):
    """A hostile version: how it is made in the folder of a good one, and what is said of it.

    A version without a message is harmless: what it tries is ignored, and it predicts as the good one does.
    """

    name: str
    make: Callable[[Path], object]
    message: str | None


def sign_again(folder: Path) -> None:
    """Sign the files as they are now."""
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    write_manifest(folder, manifest.model_copy(update={"files": hash_files(folder)}).model_dump_json())


def write_manifest(folder: Path, content: str) -> None:
    """Write a signed manifest with any content."""
    (folder / MANIFEST).write_text(content)
    (folder / SIGNATURE).write_text(sign(content.encode()))


def edit_manifest(**changes: Any) -> Callable[[Path], None]:
    """Return a function that changes fields of the manifest and signs it."""

    def edit(folder: Path) -> None:
        content = json.loads((folder / MANIFEST).read_bytes())
        write_manifest(folder, json.dumps(content | changes))

    return edit


def list_file(path: str) -> Callable[[Path], None]:
    """Return a function that lists a file with this path in the manifest and signs it."""

    def edit(folder: Path) -> None:
        content = json.loads((folder / MANIFEST).read_bytes())
        content["files"][path] = {"size": 0, "sha256": "0" * 64}
        write_manifest(folder, json.dumps(content))

    return edit


def append(name: str, text: str) -> Callable[[Path], object]:
    """Return a function that appends a text to a file of the version."""
    return lambda folder: (folder / name).write_text((folder / name).read_text() + text)


def replace_by_link(folder: Path) -> None:
    """Replace the estimator by a link to itself elsewhere."""
    target = folder.with_name(f"{folder.name}-elsewhere")
    (folder / ESTIMATOR).rename(target)
    (folder / ESTIMATOR).symlink_to(target)


def store(estimator: object) -> Callable[[Path], object]:
    """Return a function that replaces the estimator by another one."""
    return lambda folder: skops.io.dump(estimator, folder / ESTIMATOR)


def broken_tree() -> object:
    """Return a tree whose first node refers to nodes that do not exist."""
    rows, labels = pd.DataFrame({"shade": "red", "x": np.arange(40.0), "y": 0.0}), np.arange(40) > 20
    model = make_pipeline(make_column_transformer(("passthrough", ["x"])), DecisionTreeClassifier()).fit(rows, labels)
    state = model[-1].tree_.__getstate__()
    state["nodes"]["left_child"][0] = state["nodes"]["right_child"][0] = 2**31 - 2
    model[-1].tree_.__setstate__(state)
    return model


def edit_schema(edit: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Return a function that edits the tree of the estimator's archive."""

    def rewrite(folder: Path) -> None:
        schema = json.loads(read_entries(folder)["schema.json"])
        edit(schema)
        write_entries(folder, {**read_entries(folder), "schema.json": json.dumps(schema).encode()})

    return rewrite


def read_entries(folder: Path) -> dict[str, bytes]:
    """Return the entries of the estimator's archive."""
    with zipfile.ZipFile(folder / ESTIMATOR) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_entries(folder: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """Replace the estimator's archive."""
    with zipfile.ZipFile(folder / ESTIMATOR, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def add_node(node: dict[str, Any]) -> Callable[[Path], None]:
    """Return a function that adds a node to the attributes of the estimator."""
    return edit_schema(lambda schema: schema["content"]["content"].__setitem__("extra", node))


def node(kind: str, name: str, **state: Any) -> dict[str, Any]:
    """Return a node of skops' tree."""
    module, _, class_name = name.rpartition(".")
    return {"__loader__": kind, "__module__": module, "__class__": class_name, **state}


def text(value: object) -> dict[str, Any]:
    """Return the node of a value that JSON has."""
    return node("JsonNode", "builtins.str", content=json.dumps(value), is_json=True)


def items(kind: str, name: str, *values: dict[str, Any]) -> dict[str, Any]:
    """Return the node of a sequence."""
    return node(kind, name, content=list(values))


def partial(function: dict[str, Any], *arguments: object) -> dict[str, Any]:
    """Return the node of a functools.partial."""
    content = {
        "func": function,
        "args": items("TupleNode", "builtins.tuple", *map(text, arguments)),
        "kwds": node("DictNode", "builtins.dict", content={}, key_types=items("ListNode", "builtins.list")),
        "namespace": text(None),
    }
    return node("PartialNode", "functools.partial", content=content)


def set_attribute(name: str, value: object) -> Callable[[Path], None]:
    """Return a function that sets an attribute of the outermost estimator."""
    return edit_schema(lambda schema: schema["content"]["content"].__setitem__(name, text(value)))


def cover_id(folder: Path) -> None:
    """Give a harmless attribute the id of a hostile one, which skops reads first in place of both."""

    def edit(schema: dict[str, Any]) -> None:
        attributes = schema["content"]["content"]
        hostile = {**text("/tmp/cache"), "__id__": 7}
        schema["content"]["content"] = {"first": hostile, **attributes, "memory": {**text(None), "__id__": 7}}

    edit_schema(edit)(folder)


def expand(folder: Path) -> None:
    """Add an array of zeros that needs a gigabyte, compressed to a thousandth."""
    content = io.BytesIO()
    np.save(content, np.zeros(30_000_000))
    write_entries(folder, {**read_entries(folder), "0.npy": content.getvalue()}, zipfile.ZIP_DEFLATED)


def expand_nested(folder: Path) -> None:
    """Add a sparse matrix, an archive of its own, that needs a gigabyte."""
    content = io.BytesIO()
    matrix = scipy.sparse.csr_matrix((np.zeros(15_000_000), np.zeros(15_000_000, int), [0, 15_000_000]), shape=(1, 1))
    scipy.sparse.save_npz(content, matrix)
    write_entries(folder, {**read_entries(folder), "0.npz": content.getvalue()})


def write_twice(folder: Path) -> None:
    """Write two trees: which one is examined, and which one is read?"""
    with zipfile.ZipFile(folder / ESTIMATOR, "a") as archive:
        archive.writestr("schema.json", b"{}")


def nest_deeply(folder: Path) -> None:
    """Nest a tree more deeply than any recursion can follow."""
    depth = 100_000
    content = b'{"__loader__": "ListNode", "content": ' + b"[" * depth + b"]" * depth + b"}"
    write_entries(folder, {**read_entries(folder), "schema.json": content})


def cut(folder: Path) -> None:
    """Cut the estimator's archive in the middle."""
    content = (folder / ESTIMATOR).read_bytes()
    (folder / ESTIMATOR).write_bytes(content[: len(content) // 2])


def edit_metadata(old: str, new: str) -> Callable[[Path], None]:
    """Return a function that changes MLflow's metadata."""

    def edit(folder: Path) -> None:
        content = (folder / METADATA).read_text()
        assert old in content
        (folder / METADATA).write_text(content.replace(old, new))

    return edit


def add_code(folder: Path) -> None:
    """Let MLflow's metadata put a folder with hostile code first on the path of modules."""
    (folder / "hostile").mkdir()
    for name in ("numpy", "sitecustomize", "toy"):
        (folder / "hostile" / f"{name}.py").write_text(PROGRAM)
    edit_metadata("code: code", "code: hostile")(folder)


def sign_with_other_key(folder: Path) -> None:
    """Sign the version with a key that is not the pipeline's."""
    other = dict(os.environ, CT_SIGNING_KEY="A" * 43)
    before = os.environ.get("CT_SIGNING_KEY")
    os.environ.update(other)
    try:
        sign_again(folder)
    finally:
        os.environ.pop("CT_SIGNING_KEY")
        if before is not None:
            os.environ["CT_SIGNING_KEY"] = before


def store_native(framework: str, files: dict[str, bytes]) -> Callable[[Path], None]:
    """Return a function that replaces the estimator by one of another framework, with these files."""

    def replace(folder: Path) -> None:
        (folder / ESTIMATOR).unlink()
        (folder / NATIVE).mkdir()
        for name, content in {CLASSES: b'{"classes": [false, true], "dtype": "bool"}', **files}.items():
            (folder / NATIVE / name).write_bytes(content)
        edit_manifest(framework=framework)(folder)

    return replace


HOSTILE_TEXT = make_pipeline(CountVectorizer(input="filename"), LogisticRegression())

TAMPERED = (
    HostileVersion("no signature", lambda folder: (folder / SIGNATURE).unlink(), "it is not signed"),
    HostileVersion("no manifest", lambda folder: (folder / MANIFEST).unlink(), "it is not signed"),
    HostileVersion("signed with another key", sign_with_other_key, "its signature is of none of the accepted keys"),
    HostileVersion("the manifest is changed", append(MANIFEST, " "), "its signature is of none of the accepted keys"),
    HostileVersion(
        "the signature is no base64", append(SIGNATURE, "ä"), "its signature is of none of the accepted keys"
    ),
    HostileVersion(
        "the signature is empty", lambda folder: (folder / SIGNATURE).write_text(""), "of none of the accepted"
    ),
    HostileVersion("the manifest is huge", append(MANIFEST, " " * 40_000_000), "manifest.json is larger than 32 MB"),
    HostileVersion("a file is changed", append(METADATA, "\n"), "its file MLmodel is not as signed"),
    HostileVersion("the estimator is another", store(LogisticRegression()), "its file model.skops is not as signed"),
    HostileVersion("a file is added", lambda folder: (folder / "x.py").write_text(PROGRAM), "x.py is not listed"),
    HostileVersion(
        "a module is added", lambda folder: (folder / "code/os.py").write_text(PROGRAM), "code/os.py is not"
    ),
    HostileVersion(
        "a file is missing", lambda folder: (folder / "golden.json").unlink(), "its file golden.json is missing"
    ),
    HostileVersion("a file is a link", replace_by_link, "model.skops is a link or a special file"),
    HostileVersion("a file is a pipe", lambda folder: os.mkfifo(folder / "pipe"), "pipe is a link or a special file"),
    HostileVersion("of another model", edit_manifest(model="other"), "it was signed as a version of other, not of toy"),
    HostileVersion("of another run", edit_manifest(run_id="other"), "it was signed as the model of MLflow run other"),
    HostileVersion("a path leads out", list_file("../x"), "is not a plain relative path"),
    HostileVersion("a path is absolute", list_file("/etc/passwd"), "is not a plain relative path"),
    HostileVersion("a format of the future", edit_manifest(format=2), "manifest.json is malformed: format"),
    HostileVersion("an unknown task", edit_manifest(task="fit_predict"), "manifest.json is malformed: task"),
    HostileVersion(
        "no manifest at all", lambda folder: write_manifest(folder, "[" * 100_000), "manifest.json is malformed"
    ),
)
SIGNED = (
    HostileVersion("Pipeline.memory", set_attribute("memory", "/tmp/cache"), "memory must be None"),
    HostileVersion("Pipeline.memory behind another id", cover_id, "memory must be None"),
    HostileVersion("a vectorizer that reads files", store(HOSTILE_TEXT), "CountVectorizer reads files"),
    HostileVersion(
        "a function as a dictionary",
        add_node(node("DictNode", "sklearn.utils.validation.check_array", content={}, key_types=text([]))),
        "names sklearn.utils.validation.check_array as DictNode, which would call it",
    ),
    HostileVersion(
        "a function as a constructor",
        add_node(
            node("ConstructorFromReduceNode", "os.system", content=items("TupleNode", "builtins.tuple", text("true")))
        ),
        "os.system, not trusted",
    ),
    HostileVersion(
        "a function of the package as a constructor",
        add_node(node("ConstructorFromReduceNode", "toy.model.build", content=items("TupleNode", "builtins.tuple"))),
        "names toy.model.build as ConstructorFromReduceNode, which would call it",
    ),
    HostileVersion(
        "a partial of os.system",
        add_node(partial(node("FunctionNode", "os.system"), f"touch {MARKER}")),
        "functools.partial of os.system",
    ),
    HostileVersion(
        "a function of scikit-learn that reads files",
        add_node(node("FunctionNode", "sklearn.datasets._base.load_files")),
        "sklearn.datasets._base.load_files, not trusted",
    ),
    HostileVersion(
        "a class of scikit-learn as a function",
        edit_schema(
            lambda schema: schema["content"]["content"].update(
                extra=node("ObjectNode", "sklearn.model_selection._split.KFold", content=text(None)),
                other=node("FunctionNode", "sklearn.model_selection._split.KFold"),
            )
        ),
        "names sklearn.model_selection._split.KFold as FunctionNode, which would call it",
    ),
    HostileVersion("a framework that does not exist", store_native("os", {}), "its framework 'os' is none of"),
    HostileVersion(
        "a class of another package",
        store_native(OWN_CLASS, {"class.json": b'{"module": "subprocess", "class": "Popen"}'}),
        "its class subprocess.Popen is not one of the package toy",
    ),
    HostileVersion(
        "what a module of the package has imported, as its class",
        store_native(OWN_CLASS, {"class.json": b'{"module": "toy.model", "class": "OneHotEncoder"}'}),
        "its class toy.model.OneHotEncoder is not defined there",
    ),
    HostileVersion(
        "classes that are objects",
        store_native("lightgbm", {"booster.txt": b"", CLASSES: b'{"classes": [{}], "dtype": "object"}'}),
        "its estimator cannot be opened",
    ),
    HostileVersion(
        "no booster of LightGBM", store_native("lightgbm", {"booster.txt": b"x"}), "its estimator cannot be opened"
    ),
    HostileVersion(
        "no booster of XGBoost",
        store_native("xgboost", {"booster.ubj": b"x", "parameters.json": b'{"missing": NaN, "enable_categorical": 0}'}),
        "its estimator cannot be opened",
    ),
    HostileVersion(
        "no booster of CatBoost", store_native("catboost", {"booster.cbm": b"x"}), "its estimator cannot be opened"
    ),
    HostileVersion("a function of os", add_node(node("FunctionNode", "os.system")), "os.system, not trusted"),
    HostileVersion(
        "what a module of the package has imported",
        add_node(node("FunctionNode", "toy.model.make_pipeline")),
        "toy.model.make_pipeline, which is not defined there but imported",
    ),
    HostileVersion(
        "a name with a dot",
        add_node({"__loader__": "FunctionNode", "__module__": "toy.model", "__class__": "make_pipeline.__globals__"}),
        "which does not exist",
    ),
    HostileVersion(
        "a method",
        add_node(
            node("MethodNode", "toy.model.Any", content={"func": "mro", "obj": node("TypeNode", "toy.model.Any")})
        ),
        "its estimator",
    ),
    HostileVersion(
        "operator.methodcaller",
        add_node(
            node("OperatorFuncNode", "operator.methodcaller", attrs=items("TupleNode", "builtins.tuple", text("x")))
        ),
        "operator.methodcaller, not trusted",
    ),
    HostileVersion(
        "an unknown class", add_node(node("ObjectNode", "subprocess.Popen")), "subprocess.Popen, not trusted"
    ),
    HostileVersion("an unknown kind of node", add_node(node("EvalNode", "x.y")), "its estimator cannot be opened"),
    HostileVersion(
        "an older format of skops", edit_schema(lambda schema: schema.update(protocol=0)), "version 0 of the"
    ),
    HostileVersion("a small file of many zeros", expand, "uncompressed, which is too much"),
    HostileVersion("a small sparse matrix of many zeros", expand_nested, "uncompressed, which is too much"),
    HostileVersion("a tree with nodes that do not exist", store(broken_tree()), "killed by signal 11 (SIGSEGV)"),
    HostileVersion("two trees", write_twice, "two entries of the same name"),
    HostileVersion("a tree without end", nest_deeply, "its estimator is not a file of skops"),
    HostileVersion("half an archive", cut, "its estimator is not a file of skops"),
    HostileVersion("an empty file", lambda folder: (folder / ESTIMATOR).write_bytes(b""), "is not a file of skops"),
    HostileVersion(
        "another method in MLmodel", edit_metadata("predict_fn: predict_proba", "predict_fn: fit_predict"), None
    ),
    HostileVersion("code in MLmodel", add_code, None),
    HostileVersion(
        "a path in MLmodel", edit_metadata("pickled_model: model.skops", "pickled_model: /etc/passwd"), None
    ),
    HostileVersion(
        "pickle in MLmodel", edit_metadata("serialization_format: skops", "serialization_format: pickle"), None
    ),
)


def make(version: HostileVersion, good: Path, folder: Path) -> None:
    """Make a hostile version from a good one."""
    shutil.copytree(good, folder)
    version.make(folder)
    if version in SIGNED:
        sign_again(folder)


def open_as_judge(folder: Path, policy: Policy, run_id: str) -> str | None:
    """Open a version as Check model, Compare, the monitor and the replay do; return what is said of it, or None."""
    try:
        manifest = examination.examine(folder, policy, run_id)
        with VersionProcess(folder, manifest) as process:
            OpenVersion(folder, manifest, process).check_golden_predictions()
    except UserError as error:
        return str(error)
    return None


def open_as_server(folder: Path, policy: Policy, run_id: str, starter: HostStarter) -> str | None:
    """Open a version as the server does; return what is said of it, or None if it predicts."""
    reference = VersionReference(identity="toy@1", name="toy", number="1", run_id=run_id)
    try:
        manifest, _ = examine_version(folder, reference, policy)
        start_host(starter, folder, manifest, reference, folder.with_suffix(".host"), ()).close()
    except UserError as error:
        return str(error)
    return None
