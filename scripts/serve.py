"""Serve: answer predictions with the registry's champion, and follow it."""

import argparse
import os

from continuous_training import command


def main(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from continuous_training.serving import supervisor as workers
    from continuous_training.serving.options import Options
    from continuous_training.settings import load_settings

    load_settings(arguments.model)  # a wrong name is values before any process is started
    values = vars(arguments)
    workers.serve(Options(**{name: values[name] for name in Options.__dataclass_fields__}))


if __name__ == "__main__":
    parser = command.parser(
        str(__doc__),
        "ct serve --host 0.0.0.0 --port 8080 --workers 4",
        "SERVING_TOKENS=shop:$SHOP_TOKEN ct serve --rate 200",
        "CT_PREDICTIONS=s3://bucket/predictions ct serve",
    )
    command.add_model(parser)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="the port to listen on (default: %(default)s)")
    workers_default = int(os.environ.get("WEB_CONCURRENCY", "1"))
    parser.add_argument("--workers", type=int, default=workers_default, help="processes (WEB_CONCURRENCY; default: 1)")
    parser.add_argument("--waiting", type=int, default=1000, help="requests that may wait for an answer, of a worker")
    parser.add_argument("--megabytes", type=float, default=10, help="that a request may have (default: %(default)s)")
    parser.add_argument("--rate", type=float, help="requests a second that a token may make; without: any number")
    parser.add_argument(
        "--burst", type=float, default=100, help="requests that it may make at once (default: %(default)s)"
    )
    command.start(main, parser)
