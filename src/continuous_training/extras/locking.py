"""The locks: which versions of all packages are installed, with their hashes. `ct lock` makes them of pyproject.toml.

`requirements.lock` has the project's dependencies and those of its extras, except for extras with a lock in this
folder. Such a lock has what its extra needs, in the versions of `requirements.lock` where that has them too.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

from uv import find_uv_bin

from continuous_training.errors import UserError
from continuous_training.extras import BUILDS, FOLDER, is_for_gpu, list_extras

PROJECT, BASE, SERVING = Path("pyproject.toml"), Path("requirements.lock"), Path("jenkins/serving.lock")
COMPILE = (
    *("pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"),
    *("--no-emit-index-url", "--no-header", "--no-annotate"),
)
HEADER = "# Made by: scripts/ct lock\n"
BUILDS_HEADER = (
    f"# No hash and no packages for GPUs: {', '.join(BUILDS)} has one build for processors and one for each version\n"
    "# of CUDA, and install.sh chooses. Each build names exact versions of what it needs.\n"
)


def lock(folder: Path = FOLDER, *, upgrade: bool = False) -> list[Path]:
    """Make all locks again; return their paths.

    Args:
        folder: has the locks of extras. An empty file asks for a new one.
        upgrade: use the newest versions; otherwise those of the locks stay where they are possible.

    Raises:
        UserError: a lock here has no extra in pyproject.toml, or no versions fit together.
    """
    extras: dict[str, list[str]] = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    locks = {name: folder / f"{name}.lock" for name in list_extras(folder)}
    if unknown := sorted(locks.keys() - extras.keys()):
        raise UserError(f"{locks[unknown[0]]} has no extra {unknown[0]} in {PROJECT}: add it there, or remove the lock")
    options = ["--upgrade"] if upgrade else []
    base = [f"--extra={name}" for name in extras if name not in locks]
    _compile(BASE, str(PROJECT), *base, *options)
    _compile(SERVING, str(PROJECT), "-c", str(BASE), *options)
    for name, path in locks.items():
        _compile(path, "-", "-c", str(BASE), *options, requirements=extras[name])
    return [BASE, SERVING, *locks.values()]


def _compile(path: Path, *arguments: str, requirements: list[str] | None = None) -> None:
    """Write a lock.

    Raises:
        UserError: no versions fit together.
    """
    process = subprocess.run(
        [find_uv_bin(), *COMPILE, *arguments, "-o", str(path)],
        input="\n".join(requirements or []),
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise UserError(f"{path} cannot be made: {' '.join(process.stderr.split())}")
    text = path.read_text(encoding="utf-8")
    packages = [
        package for package in re.split(r"^(?=[^\s#])", text, flags=re.MULTILINE)[1:] if not is_for_gpu(package)
    ]
    builds = {package for package in packages if package.partition("==")[0] in BUILDS}
    lines = [f"{package.split()[0]}\n" if package in builds else package for package in packages]
    path.write_text(HEADER + (BUILDS_HEADER if builds else "") + "".join(lines), encoding="utf-8")
