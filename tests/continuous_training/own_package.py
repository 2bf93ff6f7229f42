"""A package of a model, of which one version or another is installed."""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from typing import TYPE_CHECKING

from toy import import_again

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


class Gauge:
    """A package of two versions, the later of which turns predictions around; one of them is installed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        for version, sign in (("1.0", 1), ("2.0", -1)):
            wheel = folder / "wheels" / f"gauge-{version}-py3-none-any.whl"
            wheel.parent.mkdir(parents=True, exist_ok=True)
            self._write(wheel, version, sign)
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder / version)
        monkeypatch.setenv("UV_FIND_LINKS", str(folder / "wheels"))
        monkeypatch.setenv("UV_NO_INDEX", "1")

    def _write(self, wheel: Path, version: str, sign: int) -> None:
        info = f"gauge-{version}.dist-info"
        files = {
            "gauge.py": f"SIGN = {sign}\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: gauge\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{name},sha256={_digest(text)},{len(text)}\n" for name, text in files.items())
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
                archive.writestr(name, text)

    def install(self, version: str) -> None:
        for folder in ("1.0", "2.0"):
            if str(self._folder / folder) in sys.path:
                sys.path.remove(str(self._folder / folder))
        self._monkeypatch.syspath_prepend(self._folder / version)
        self._monkeypatch.setenv("PYTHONPATH", str(self._folder / version))
        self._monkeypatch.delitem(sys.modules, "gauge", raising=False)
        import_again(self._monkeypatch)


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
