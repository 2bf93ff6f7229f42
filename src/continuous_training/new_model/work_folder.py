"""A folder for files that `ct new` needs while it runs, on the file system of the repository."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from continuous_training.settings import STATE

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def work_folder() -> Iterator[Path]:
    """Create an empty folder, which is removed at the end."""
    STATE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="new-", dir=STATE) as folder:
        yield Path(folder)
