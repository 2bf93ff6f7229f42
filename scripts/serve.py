"""Serve: answer predictions with the registry's champion, and follow it."""

import argparse

from continuous_training import command, settings


def main(given: argparse.Namespace) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    trusted = settings.load(given.model).model.trusted_types
    import uvicorn  # MLflow takes seconds to import, --help and a wrong name should not

    from continuous_training import registry
    from continuous_training.serving import app, follower

    served = app.create(follower.Follower(registry.open_client, given.model, trusted))
    uvicorn.run(served, host=given.host, port=given.port, log_level="warning")


if __name__ == "__main__":
    arguments = command.parser(str(__doc__), "ct serve", "ct serve --host 0.0.0.0 --port 8080")
    arguments.add_argument("--model", default="flight_delays", help="the registered model (default: %(default)s)")
    arguments.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    arguments.add_argument("--port", type=int, default=8000, help="the port to listen on (default: %(default)s)")
    command.start(main, arguments)
