"""Check model: run the model's behaviour tests on the candidate and fresh rows."""

import argparse
import logging

from continuous_training import command

log = logging.getLogger(__name__)


def main(_: argparse.Namespace) -> None:
    """Write the results of the behaviour tests; Compare rejects a candidate that fails one."""
    from continuous_training.documents import Candidate, ModelCheck, Run, Snapshot
    from continuous_training.settings import load_settings
    from continuous_training.stages import check_model

    run = Run.read()
    snapshot, candidate, timer = Snapshot.read(), Candidate.read(), ModelCheck.begin(run)
    document = check_model.check(run, load_settings(run.model), snapshot, candidate, timer)
    document.write()
    for check in document.checks:
        log.info("%s %s%s", "✓" if check.passed else "✗", check.name, "" if check.passed else f": {check.message}")


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct check-model"))
