"""Serve: answer HTTP requests for predictions with the registry's champion, and follow it."""

import argparse
import os

from continuous_training import command


def main(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from continuous_training.serving.options import Options  # these take long to import
    from continuous_training.serving.supervisor import serve
    from continuous_training.settings import load_settings

    load_settings(arguments.model)  # report a wrong name before any process is started
    values = vars(arguments)
    serve(Options(**{name: values[name] for name in Options.__dataclass_fields__}))


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
    workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
    parser.add_argument("--workers", type=int, default=workers, help="worker processes (default: WEB_CONCURRENCY or 1)")
    parser.add_argument(
        "--max-queue", type=int, default=1000, help="requests in a worker's queue, more get 503 (default: %(default)s)"
    )
    parser.add_argument(
        "--max-body-mb", type=float, default=10, help="size of a request's body in megabytes (default: %(default)s)"
    )
    parser.add_argument("--rate", type=float, help="requests per second for each token (default: no limit)")
    parser.add_argument(
        "--burst", type=float, default=100, help="requests at once for each token, with --rate (default: %(default)s)"
    )
    command.start(main, parser)
