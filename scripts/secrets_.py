"""Secrets: make those of jenkins/compose.yaml, random and for nobody else to read."""

import argparse

from continuous_training import command
from continuous_training.errors import UsageError
from continuous_training.jenkins import stack_secrets

UP = "docker compose -f jenkins/compose.yaml"


def main(arguments: argparse.Namespace) -> None:
    """Write what is missing, or show one value; what was written is told by its name only."""
    if arguments.show:
        if arguments.rotate:
            raise UsageError("--show and --rotate exclude each other")
        print(stack_secrets.value(arguments.show))
        return
    change = stack_secrets.fill(arguments.rotate)
    if change.was_open is not None:
        print(f"others could read {stack_secrets.FILE} (mode {change.was_open:o}): now it is yours alone")
    for what, names in (("added", change.added), ("rotated", change.rotated)):
        if names:
            print(f"{stack_secrets.FILE}: {what} {', '.join(names)}")
    if not change.added and not change.rotated:
        print(f"{stack_secrets.FILE} has all secrets already")
    if stack_secrets.DATABASE in change.rotated:
        print(f"PostgreSQL still has its old password: give it the new one by {UP} exec postgres psql mlflow mlflow")
        print("and \\password, before anything is restarted")
    print(f"next: {UP} up{' --force-recreate' if change.rotated else ''}")


if __name__ == "__main__":
    parser = command.parser(
        str(__doc__),
        "ct secrets",
        "ct secrets --show JENKINS_ADMIN_PASSWORD",
        "ct secrets --rotate WEBHOOK_TOKEN SERVING_TOKEN",
    )
    parser.add_argument("--show", metavar="NAME", help="print one value, and nothing else")
    parser.add_argument("--rotate", metavar="NAME", nargs="+", default=[], help="replace these by new ones")
    command.start(main, parser)
