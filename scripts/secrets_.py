"""Secrets: create the random secrets of jenkins/compose.yaml in jenkins/.env, readable only for you."""

import argparse

from continuous_training import command
from continuous_training.errors import UsageError

UP = "docker compose -f jenkins/compose.yaml"


def main(arguments: argparse.Namespace) -> None:
    """Write missing secrets, or print one. Names of new secrets are printed, never their values."""
    from continuous_training.jenkins import stack_secrets

    if arguments.show:
        if arguments.rotate:
            raise UsageError("--show and --rotate exclude each other")
        print(stack_secrets.value(arguments.show))
        return
    change = stack_secrets.fill(arguments.rotate)
    if change.open_mode is not None:
        print(f"{stack_secrets.FILE} was readable for others (mode {change.open_mode:o}); it no longer is")
    for what, names in (("added", change.additions), ("rotated", change.rotations)):
        if names:
            print(f"{stack_secrets.FILE}: {what} {', '.join(names)}")
    if not change.additions and not change.rotations:
        print(f"{stack_secrets.FILE} already has all secrets")
    if stack_secrets.DATABASE_PASSWORD in change.rotations:
        print(f"PostgreSQL still has its old password: set the new one with {UP} exec postgres psql mlflow mlflow")
        print("and \\password, before you restart any service")
    print(f"next: {UP} up{' --force-recreate' if change.rotations else ''}")


if __name__ == "__main__":
    parser = command.parser(
        str(__doc__),
        "ct secrets",
        "ct secrets --show JENKINS_ADMIN_PASSWORD",
        "ct secrets --rotate WEBHOOK_TOKEN SERVING_TOKEN",
    )
    parser.add_argument("--show", metavar="NAME", help="print one value, and nothing else")
    parser.add_argument("--rotate", metavar="NAME", nargs="+", default=[], help="replace these secrets")
    command.start(main, parser)
