"""Serve: answer predictions with the registry's champion, and follow it."""

import argparse
import os

from continuous_training import command, settings
from continuous_training.serving import workers


def main(given: argparse.Namespace) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    settings.load(given.model)  # a wrong name is told before any process is started
    told = vars(given)
    workers.serve(workers.Options(**{name: told[name] for name in workers.Options.__dataclass_fields__}))


if __name__ == "__main__":
    arguments = command.parser(
        str(__doc__),
        "ct serve --host 0.0.0.0 --port 8080 --workers 4",
        "env SERVING_TOKENS=shop:$SHOP_TOKEN ct serve --rate 200",
        "env CT_PREDICTIONS=s3://bucket/predictions ct serve",
    )
    command.add_model(arguments)
    arguments.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    arguments.add_argument("--port", type=int, default=8000, help="the port to listen on (default: %(default)s)")
    workers_default = int(os.environ.get("WEB_CONCURRENCY", "1"))
    arguments.add_argument(
        "--workers", type=int, default=workers_default, help="processes (WEB_CONCURRENCY; default: 1)"
    )
    arguments.add_argument(
        "--waiting", type=int, default=1000, help="requests that may wait for an answer, of a worker"
    )
    arguments.add_argument("--megabytes", type=float, default=10, help="that a request may have (default: %(default)s)")
    arguments.add_argument("--rate", type=float, help="requests a second that a token may make; without: any number")
    arguments.add_argument(
        "--burst", type=float, default=100, help="requests that it may make at once (default: %(default)s)"
    )
    command.start(main, arguments)
