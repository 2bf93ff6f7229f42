"""The effects of the faults in tests/continuous_training/server_faults.py on a server under full load, as a table.

.venv/bin/python tests/benchmarks/serving_faults.py                   # over 200,000 requests: a quarter of an hour
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

import server_faults
from conftest import RUN_VARIABLES, align, enter_workspace
from own_package import Gauge
from server_faults import FaultResult, MonitoredServer, ToyVersions

SLOW = 0.05  # seconds of a call of a slow model


def main() -> int:
    """Cause one fault after the other; return 1 if any has an effect that is not permitted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000, help="during promotions (default: %(default)s)")
    parser.add_argument("--promotions", type=int, default=20, help="their number (default: %(default)s)")
    parser.add_argument("--rollbacks", type=int, default=5, help="their number (default: %(default)s)")
    parser.add_argument("--others", type=int, default=15_000, help="during each other fault (default: %(default)s)")
    parser.add_argument("--down", type=float, default=60, help="seconds without the registry (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=5, help="workers that are killed (default: %(default)s)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    server_faults.log.setLevel(logging.INFO)
    rows, errors = [("fault", "predictions", "failed", "wrong", "outcome")], []
    with workspace() as patch:
        for cause in list_faults(ToyVersions(patch, gauge=Gauge(Path(".ct", "gauge").resolve(), patch)), options):
            start = time.monotonic()
            try:
                result = cause()
            except (RuntimeError, pytest.fail.Exception) as error:  # an expected state was not reached
                errors.append(str(error))
                continue
            server_faults.log.info("%s: %.0f s", result.fault, time.monotonic() - start)
            rows.append(tuple(map(str, result.row.values())))
            errors += [f"{result.fault}: {error}" for error in result.errors]
    print("\n".join([*align(rows), *errors]))
    return 1 if errors else 0


@contextmanager
def workspace() -> Iterator[pytest.MonkeyPatch]:
    """Enter a workspace with the toy model and an empty MLflow; yield the monkeypatch of its environment."""
    import mlflow

    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        for name in RUN_VARIABLES.split():
            patch.delenv(name, raising=False)
        folder = Path(temporary, "workspace")
        folder.mkdir()
        enter_workspace(folder, patch)
        mlflow.MlflowClient(f"sqlite:///{folder / '.ct' / 'mlflow.db'}").search_experiments()
        yield patch


def list_faults(versions: ToyVersions, arguments: argparse.Namespace) -> Iterator[Callable[[], FaultResult]]:
    """Yield a function for each fault; most of them start a server."""
    (first,) = versions.good_versions(1)
    few, many = arguments.others // 10, arguments.others

    def on_server(fault: Callable[..., FaultResult], count: int, /, **options: Any) -> Callable[[], FaultResult]:
        def cause() -> FaultResult:
            versions.promote(first)
            with MonitoredServer() as server:
                return fault(server, versions, count, **options)

        return cause

    changes = {"promotions": arguments.promotions, "rollbacks": arguments.rollbacks}
    yield on_server(server_faults.promote_and_roll_back, arguments.requests, **changes)
    yield lambda: server_faults.kill_registry(versions, many, seconds=arguments.down)
    corrupt, deviating = "a version that cannot be loaded", "a version with other predictions than offline"
    yield on_server(server_faults.promote_bad_version, many, number=versions.register_corrupt(), fault=corrupt)
    yield on_server(server_faults.promote_bad_version, many, number=versions.register_deviating(), fault=deviating)
    yield on_server(server_faults.kill_workers, many, times=arguments.kills)
    for fault in (server_faults.fill_log_disk, server_faults.fill_disk, server_faults.kill_supervisor):
        yield on_server(fault, many)
    yield on_server(server_faults.terminate, many, number=first, fault="SIGTERM")
    yield on_server(
        server_faults.terminate, few, number=versions.slow_version(SLOW), fault=f"SIGTERM, {SLOW:g} s a call"
    )
    yield lambda: server_faults.overload(versions, few, seconds=SLOW)


if __name__ == "__main__":
    sys.exit(main())
