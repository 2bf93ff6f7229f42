"""Lock: pin the versions of all packages, of pyproject.toml and of each extra that models import."""

import argparse

from continuous_training import command


def main(arguments: argparse.Namespace) -> None:
    """Write the locks and print their paths."""
    from continuous_training.extras import locking

    for path in locking.lock(upgrade=arguments.upgrade):
        print(path)


if __name__ == "__main__":
    parser = command.parser(
        f"{__doc__}\n\nIt needs a package index. Versions stay where they are possible.", "ct lock", "ct lock --upgrade"
    )
    parser.add_argument("--upgrade", action="store_true", help="use the newest versions")
    command.start(main, parser)
