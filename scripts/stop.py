"""Stop: end the prediction server that a run started on this machine."""

import argparse

from continuous_training import command


def main(_: argparse.Namespace) -> None:
    """Stop the server of this workspace, if one runs."""
    from continuous_training.serving import local_server as daemon

    url = daemon.stop()
    print(f"the server at {url} has ended" if url else "no server of this workspace runs")


if __name__ == "__main__":
    command.start(main, command.parser(str(__doc__), "ct stop"))
