"""Tunnel: forward webhooks from the internet to a Jenkins on this machine, with ngrok."""

import argparse

from continuous_training import command

SECRET = "scripts/ct secrets --show"  # noqa: S105 - a command that shows one


def main(arguments: argparse.Namespace) -> None:
    """Open the tunnel, print its addresses, and keep it open until SIGTERM or Ctrl-C."""
    from continuous_training.jenkins import tunnel

    with tunnel.open_tunnel(arguments.jenkins) as open_tunnel:
        print(f"{open_tunnel.url} forwards to {arguments.jenkins}, webhooks only")
        print(f"GitHub, with {SECRET} GITHUB_WEBHOOK_SECRET: {open_tunnel.url}{tunnel.GITHUB}")
        print(f"Pings, with {SECRET} WEBHOOK_TOKEN: {open_tunnel.url}{tunnel.PINGS}")
        print("Press Ctrl-C to close the tunnel", flush=True)
        open_tunnel.wait()


if __name__ == "__main__":
    parser = command.parser(
        str(__doc__),
        "ct tunnel    # with NGROK_AUTHTOKEN in the environment",
        "ct tunnel --jenkins http://localhost:9090",
    )
    parser.add_argument(
        "--jenkins",
        default="http://localhost:8080",
        help="the address of Jenkins on this machine (default: %(default)s)",
    )
    command.start(main, parser)
