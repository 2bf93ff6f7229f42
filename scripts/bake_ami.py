"""Bake an AMI with all packages, so that training on EC2 starts a minute after the launch."""

import argparse

from continuous_training import command


def main(arguments: argparse.Namespace) -> None:
    """Bake an image for the commit of build/run.json for each platform, and print their ids."""
    from continuous_training.compute.ec2 import bake_ami  # imports DuckDB and pyarrow: a second that --help should save
    from continuous_training.compute.ec2.aws import Aws
    from continuous_training.documents import Run, Snapshot
    from continuous_training.settings import load_settings

    run = Run.read()
    report = bake_ami.bake(Aws(), run, load_settings(run.model), Snapshot.read(), arguments.source, arguments.keep)
    print(report.model_dump_json() if arguments.json else "\n".join(report.images.values()))


def parse_count(text: str) -> int:
    """Parse a number of images, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of images, at least 1")
    return int(text)


if __name__ == "__main__":
    parser = command.parser(str(__doc__), "ct bake-ami", "ct bake-ami --from ami-0123456789abcdef0 --keep 5 --json")
    parser.add_argument(
        "--from", dest="source", metavar="AMI", help="the image to start from (default: the newest stock Ubuntu 24.04)"
    )
    parser.add_argument(
        "--keep", type=parse_count, default=3, metavar="N", help="how many images to keep of each platform (default: 3)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object: images, lock, removed")
    command.start(main, parser)
