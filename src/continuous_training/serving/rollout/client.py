"""HTTP client of the servers in SERVING_URLS. It sends the token in SERVING_TOKEN, if there is one."""

from __future__ import annotations

import os
import uuid
from typing import Any

import requests
from urllib3.exceptions import NewConnectionError

from continuous_training.errors import UserError
from continuous_training.http_client import bearer
from continuous_training.serving import SERVICE

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_SECONDS = 10
TOKEN = "SERVING_TOKEN"  # noqa: S105 - the variable's name
OWN_REQUEST_PREFIX = "ct-"  # of the ids of its requests, which the monitor ignores because no client has sent them


def read_server_urls() -> list[str]:
    """Return the addresses in SERVING_URLS (comma-separated), or the default one on this machine.

    Raises:
        UserError: SERVING_URLS is set and has no address.
    """
    urls = [url.strip().rstrip("/") for url in os.environ.get("SERVING_URLS", DEFAULT_URL).split(",") if url.strip()]
    if not urls:
        raise UserError(
            "SERVING_URLS has no address: set it to the servers' addresses, separated by commas, or unset it"
        )
    return urls


def call_server(url: str, path: str, body: dict[str, Any] | None = None) -> requests.Response:
    """Send a GET request, or a POST request if there is a body.

    Each request has its own connection: the kernel assigns every new one to any of the server's workers.

    Raises:
        UserError: the server requires a token, or a different one.
        requests.RequestException: it does not respond.
    """
    token = os.environ.get(TOKEN, "").strip()
    response = requests.request(
        "GET" if body is None else "POST",
        f"{url}{path}",
        json=body,
        auth=bearer(token, TOKEN) if token else None,
        headers={"X-Request-ID": f"{OWN_REQUEST_PREFIX}{uuid.uuid4().hex}"},
        timeout=TIMEOUT_SECONDS,
    )
    if response.status_code == requests.codes.unauthorized:
        raise UserError(f"{url} requires {'a different' if token else 'a'} token: set {TOKEN}")
    return response


def read_status(url: str) -> dict[str, Any]:
    """Return the status of a server; its `model_version` is the one that all its workers serve, if it is the same.

    Raises:
        UserError: it requires a token, or another program uses the address.
        requests.ConnectionError: no program listens there.
    """
    other_program = f"the program at {url} is not a prediction server of this project: stop it, or set SERVING_URLS"
    try:
        status = call_server(url, "/version").json()
    except requests.ConnectionError as error:
        if isinstance(getattr(error.args[0], "reason", None), NewConnectionError):
            raise
        raise UserError(other_program) from error
    except (requests.RequestException, ValueError) as error:
        raise UserError(other_program) from error
    if not isinstance(status, dict) or status.get("service") != SERVICE:
        raise UserError(other_program)
    return status
