"""Compare: judge the candidate against the champion on the same fresh rows."""

import argparse
import logging

from continuous_training import command, compare, registry, settings
from continuous_training.documents import Candidate, Run, Snapshot, Stopwatch

log = logging.getLogger(__name__)


def main(_: argparse.Namespace) -> None:
    """Write the verdict; a rejected candidate is a result, not an error."""
    run = Run.read()
    taken, candidate, timer = Snapshot.read(), Candidate.read(), Stopwatch(run.build_tag)
    verdict = compare.judge(registry.open_client(), run, settings.load(run.model), taken, candidate, timer)
    verdict.write()
    for metric in verdict.metrics:
        champion = "" if metric.champion is None else f"   champion {metric.champion:.4f}"
        log.info("%-20s candidate %.4f%s", metric.name, metric.candidate, champion)
    for rule in verdict.rules:
        log.info("%s %s", "✓" if rule.passed else "✗", rule.said)
    log.info("Verdict: %s", verdict.decision)


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct compare"))
