"""The steps that read and write files in the workspace."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from jenkinsfile.builds.results import StepError
from jenkinsfile.steps.file_patterns import find_files

if TYPE_CHECKING:
    from jenkinsfile.builds.context import Body, Context
    from jenkinsfile.steps.arguments import StepArguments


def file_exists(context: Context, arguments: StepArguments, _body: Body) -> bool:
    """Return whether a file or a folder exists."""
    return arguments.path("file", context).exists()


def read_file(context: Context, arguments: StepArguments, _body: Body) -> str:
    """Return the text of a file."""
    path = arguments.path("file", context)
    try:
        return path.read_text(encoding=arguments.text("encoding", "UTF-8"), errors="replace")
    except (OSError, LookupError) as error:
        raise StepError(f"cannot read {path}: {error}") from None


def write_file(context: Context, arguments: StepArguments, _body: Body) -> None:
    """Write text to a file. Missing folders are created."""
    path = arguments.path("file", context)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(arguments.text("text"), encoding=arguments.text("encoding", "UTF-8"))
    except (OSError, LookupError) as error:
        raise StepError(f"cannot write {path}: {error}") from None


def change_directory(context: Context, arguments: StepArguments, body: Body) -> None:
    """Run the body in another directory, which is created if it does not exist."""
    directory = arguments.path("path", context)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StepError(f"cannot use {directory}: {error}") from None
    body(context.replace(directory=directory.resolve()))


def delete_directory(context: Context, _arguments: StepArguments, _body: Body) -> None:
    """Delete the current directory. The workspace itself is the user's work tree and is never deleted."""
    directory, workspace = context.directory, context.build.workspace
    if workspace not in directory.parents:
        context.log("(not deleted: in a local run the workspace is your work tree)")
        return
    shutil.rmtree(directory, ignore_errors=True)


def checkout(context: Context, _arguments: StepArguments, _body: Body) -> None:
    """Do nothing: a local run uses the work tree."""
    context.log("(checkout: a local run uses the work tree as it is)")


def stash(context: Context, arguments: StepArguments, _body: Body) -> None:
    """Save files of the workspace for `unstash`."""
    name = arguments.text("name")
    files = find_files(context.directory, arguments.text("includes", "**"), arguments.text("excludes", ""))
    if not files and not arguments.boolean("allowEmpty"):
        raise StepError(f"no files are included in the stash '{name}'")
    folder = context.build.folder / "stashes" / name
    shutil.rmtree(folder, ignore_errors=True)
    for file in files:
        copy = folder / file.relative_to(context.directory)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    folder.mkdir(parents=True, exist_ok=True)
    context.log(f"stashed {len(files)} file(s)")


def unstash(context: Context, arguments: StepArguments, _body: Body) -> None:
    """Restore the files of a stash."""
    folder = context.build.folder / "stashes" / arguments.text("name")
    if not folder.is_dir():
        raise StepError(f"there is no stash '{folder.name}'")
    shutil.copytree(folder, context.directory, dirs_exist_ok=True)
