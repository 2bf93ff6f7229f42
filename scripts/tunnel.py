"""Tunnel: let webhooks from outside reach a Jenkins on this machine, by ngrok."""

import argparse

from continuous_training import command
from continuous_training.jenkins import tunnel

SECRET = "scripts/ct secrets --show"  # noqa: S105 - a command that shows one


def main(arguments: argparse.Namespace) -> None:
    """Open the tunnel, say what is where, and keep it open until SIGTERM or Ctrl-C."""
    with tunnel.opened(arguments.jenkins) as opened:
        print(f"{opened.url} leads to {arguments.jenkins}, for webhooks and nothing else")
        print(f"GitHub, with {SECRET} GITHUB_WEBHOOK_SECRET: {opened.url}{tunnel.GITHUB}")
        print(f"Pings, with {SECRET} WEBHOOK_TOKEN: {opened.url}{tunnel.PINGS}")
        print("Ctrl-C ends it", flush=True)
        opened.wait()


if __name__ == "__main__":
    parser = command.parser(
        str(__doc__),
        "ct tunnel    # with NGROK_AUTHTOKEN in the environment",
        "ct tunnel --jenkins http://localhost:9090",
    )
    parser.add_argument("--jenkins", default="http://localhost:8080", help="its address here (default: %(default)s)")
    command.start(main, parser)
