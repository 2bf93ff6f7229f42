"""Compare: compare the candidate with the champion on the same fresh rows."""

import argparse
import logging

from continuous_training import command
from continuous_training.errors import UserError

log = logging.getLogger(__name__)


def main(_: argparse.Namespace) -> None:
    """Write the verdict as JSON and as text. A rejected candidate is a result, but a champion that is lost an error."""
    from continuous_training.documents import (
        VERDICT_TEXT,
        Candidate,
        ModelCheck,
        Plan,
        Run,
        Snapshot,
        Verdict,
        write_atomically,
    )
    from continuous_training.registry import connection
    from continuous_training.settings import load_settings
    from continuous_training.stages import compare  # scikit-learn takes seconds to import, --help should not

    run = Run.read()
    snapshot, candidate, model_check, timer = Snapshot.read(), Candidate.read(), ModelCheck.read(), Verdict.begin(run)
    verdict = compare.compare(
        connection.open_client(), run, load_settings(run.model), snapshot, candidate, model_check, timer
    )
    hold = Plan.read().hold
    note = f"\n{hold.describe(run.model)}; an approval or FORCE promotes all the same" if hold else ""
    write_atomically(VERDICT_TEXT, f"{verdict.summary}{note}\n")
    verdict.write()
    log.info("%s", verdict.summary)
    if verdict.lost_champion:
        raise UserError(verdict.lost_champion)


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct compare"))
