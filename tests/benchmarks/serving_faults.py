"""What the faults of tests/faults.py cost a prediction server that answers as fast as it can: a table, a line for each.

.venv/bin/python tests/benchmarks/serving_faults.py                   # 200,000 requests and more: a quarter of an hour
.venv/bin/python tests/benchmarks/serving_faults.py --requests 20000 --others 3000 --down 10
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "continuous_training"))  # as pytest does

import faults
from conftest import RUN_VARIABLES, aligned, enter
from faults import Found, Versions, Watched

SLOW = 0.05  # seconds of a call of a slow model


def main() -> int:
    """Bring about one fault after the other; return 1 if any has cost what it must not."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--requests", type=int, default=200_000, help="while champions come and go (%(default)s)")
    given.add_argument("--promotions", type=int, default=20, help="meanwhile (%(default)s)")
    given.add_argument("--rollbacks", type=int, default=5, help="meanwhile (%(default)s)")
    given.add_argument("--others", type=int, default=15_000, help="requests during each other fault (%(default)s)")
    given.add_argument("--down", type=float, default=60, help="seconds without the registry (%(default)s)")
    given.add_argument("--kills", type=int, default=5, help="workers killed one after the other (%(default)s)")
    options = given.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    faults.log.setLevel(logging.INFO)
    rows, wrongs = [("fault", "answers", "failed", "wrong", "what became of it")], []
    with workspace() as patch:
        for bring_about in everything(Versions(patch), options):
            began = time.monotonic()
            try:
                found = bring_about()
            except (RuntimeError, pytest.fail.Exception) as error:  # what is waited for and does not come
                wrongs.append(str(error))
                continue
            faults.log.info("%s: %.0f s", found.fault, time.monotonic() - began)
            rows.append(tuple(map(str, found.row.values())))
            wrongs += [f"{found.fault}: {wrong}" for wrong in found.wrongs]
    print("\n".join([*aligned(rows), *wrongs]))
    return 1 if wrongs else 0


@contextmanager
def workspace() -> Iterator[pytest.MonkeyPatch]:
    """Enter a workspace with the toy model and an empty MLflow; yields what changes its environment."""
    import mlflow

    with tempfile.TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
        for name in RUN_VARIABLES.split():
            patch.delenv(name, raising=False)
        folder = Path(made, "workspace")
        folder.mkdir()
        enter(folder, patch)
        mlflow.MlflowClient(f"sqlite:///{folder / '.ct' / 'mlflow.db'}").search_experiments()
        yield patch


def everything(versions: Versions, given: argparse.Namespace) -> Iterator[Callable[[], Found]]:
    """Return what brings about each of the faults, most of them on a server that is started for it."""
    (first,) = versions.good(1)
    few, many = given.others // 10, given.others

    def on_a_server(fault: Callable[..., Found], count: int, /, **more: Any) -> Callable[[], Found]:
        def bring_about() -> Found:
            versions.promote(first)
            with Watched() as server:
                return fault(server, versions, count, **more)

        return bring_about

    moves = {"promoted": given.promotions, "rolled_back": given.rollbacks}
    yield on_a_server(faults.promotions, given.requests, **moves)
    yield lambda: faults.registry_gone(versions, many, seconds=given.down)
    rotten, different = "a version that cannot be loaded", "a version that answers otherwise than offline"
    yield on_a_server(faults.bad_version, many, number=versions.rotten(), fault=rotten)
    yield on_a_server(faults.bad_version, many, number=versions.different(), fault=different)
    yield on_a_server(faults.worker_killed, many, times=given.kills)
    for fault in (faults.log_disk_full, faults.disk_full, faults.supervisor_killed):
        yield on_a_server(fault, many)
    yield on_a_server(faults.ended, many, number=first, fault="SIGTERM")
    yield on_a_server(faults.ended, few, number=versions.slow(SLOW), fault=f"SIGTERM, {SLOW:g} s a call")
    yield lambda: faults.too_many(versions, few, seconds=SLOW)


if __name__ == "__main__":
    sys.exit(main())
