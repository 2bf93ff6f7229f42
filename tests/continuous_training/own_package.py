"""A package of a model, of which one version or another is installed."""

from __future__ import annotations

import sys
import zipfile
from typing import TYPE_CHECKING

from toy import import_again
from wheels import install_only_from, write_wheel

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


class Gauge:
    """A package of two versions, the later of which turns predictions around; one of them is installed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        for version, sign in (("1.0", 1), ("2.0", -1)):
            with zipfile.ZipFile(write_wheel(folder / "wheels", "gauge", version, f"SIGN = {sign}\n")) as archive:
                archive.extractall(folder / version)
        install_only_from(folder / "wheels", monkeypatch)

    def install(self, version: str) -> None:
        for folder in ("1.0", "2.0"):
            if str(self._folder / folder) in sys.path:
                sys.path.remove(str(self._folder / folder))
        self._monkeypatch.syspath_prepend(self._folder / version)
        self._monkeypatch.setenv("PYTHONPATH", str(self._folder / version))
        self._monkeypatch.delitem(sys.modules, "gauge", raising=False)
        import_again(self._monkeypatch)
