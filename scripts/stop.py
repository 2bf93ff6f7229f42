"""Stop: end the prediction servers that runs have started on this machine, or one of them."""

import argparse

from continuous_training import command
from continuous_training.errors import UsageError


def main(arguments: argparse.Namespace) -> None:
    """Stop the servers of this workspace."""
    from continuous_training.serving import local_server  # it takes long to import

    if arguments.url and arguments.port:
        raise UsageError("give either an address or --port, not both")
    port = local_server.read_port(arguments.url) if arguments.url else arguments.port
    addresses = local_server.stop_servers(port)
    for url in addresses:
        print(f"the server at {url} has ended")
    if not addresses:
        print("no server of this workspace runs" + (f" at port {port}" if port else ""))


if __name__ == "__main__":
    parser = command.parser(str(__doc__), "ct stop", "ct stop http://127.0.0.1:8001", "ct stop --port 8001")
    parser.add_argument("url", metavar="URL", nargs="?", help="stop the server at this address only")
    parser.add_argument("--port", type=int, help="stop the server at this port only")
    command.start(main, parser)
