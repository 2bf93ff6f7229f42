"""The steps that read and write files in the workspace."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from jenkinsfile.builds.results import StepError
from jenkinsfile.steps import file_patterns as patterns

if TYPE_CHECKING:
    from jenkinsfile.builds.context import Body, Context
    from jenkinsfile.steps.arguments import Given


def file_exists(context: Context, given: Given, _body: Body) -> bool:
    """Tell whether a file or a folder is there."""
    return given.path("file", context).exists()


def read_file(context: Context, given: Given, _body: Body) -> str:
    """Give the text of a file."""
    path = given.path("file", context)
    try:
        return path.read_text(encoding=given.text("encoding", "UTF-8"), errors="replace")
    except (OSError, LookupError) as error:
        raise StepError(f"cannot read {path}: {error}") from None


def write_file(context: Context, given: Given, _body: Body) -> None:
    """Write a text to a file, whose folders are made."""
    path = given.path("file", context)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(given.text("text"), encoding=given.text("encoding", "UTF-8"))
    except (OSError, LookupError) as error:
        raise StepError(f"cannot write {path}: {error}") from None


def change_directory(context: Context, given: Given, body: Body) -> None:
    """Run the body in another directory, which is made if need be."""
    directory = given.path("path", context)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StepError(f"cannot use {directory}: {error}") from None
    body(context.within(directory=directory.resolve()))


def delete_directory(context: Context, _given: Given, _body: Body) -> None:
    """Delete the directory that steps run in. The workspace itself is somebody's work tree: it stays."""
    directory, workspace = context.directory, context.build.workspace
    if workspace not in directory.parents:
        context.say("(kept: on this machine the workspace is your work tree)")
        return
    shutil.rmtree(directory, ignore_errors=True)


def checkout(context: Context, _given: Given, _body: Body) -> None:
    """Do nothing: what lies in the work tree is what runs."""
    context.say("(checkout: the work tree, as it is)")


def stash(context: Context, given: Given, _body: Body) -> None:
    """Keep files of the workspace for `unstash`."""
    name = given.text("name")
    found = patterns.find(context.directory, given.text("includes", "**"), given.text("excludes", ""))
    if not found and not given.flag("allowEmpty"):
        raise StepError(f"no files are included in the stash «{name}»")
    folder = context.build.folder / "stashes" / name
    shutil.rmtree(folder, ignore_errors=True)
    for file in found:
        copy = folder / file.relative_to(context.directory)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    folder.mkdir(parents=True, exist_ok=True)
    context.say(f"stashed {len(found)} file(s)")


def unstash(context: Context, given: Given, _body: Body) -> None:
    """Bring the files of a stash back."""
    folder = context.build.folder / "stashes" / given.text("name")
    if not folder.is_dir():
        raise StepError(f"no such saved stash «{folder.name}»")
    shutil.copytree(folder, context.directory, dirs_exist_ok=True)
