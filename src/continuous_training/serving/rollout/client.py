"""What the servers of SERVING_URLS are asked: who they are, and which version answers.

A server that asks for a token gets the one in SERVING_TOKEN.
"""

from __future__ import annotations

import os
import uuid
from typing import Any

import requests
from urllib3.exceptions import NewConnectionError

from continuous_training.errors import UserError
from continuous_training.http_client import bearer
from continuous_training.serving import SERVICE

DEFAULT = "http://127.0.0.1:8000"
SECONDS = 10  # a server that needs longer for one question is as good as gone
TOKEN = "SERVING_TOKEN"  # noqa: S105 - the variable's name
OWN = "ct-"  # how the ids of its requests begin, which no client has sent: the monitor leaves them out


def servers() -> list[str]:
    """Return the addresses in SERVING_URLS (comma-separated), or the default one of this machine.

    Raises:
        UserError: SERVING_URLS is set and names none.
    """
    urls = [url.strip().rstrip("/") for url in os.environ.get("SERVING_URLS", DEFAULT).split(",") if url.strip()]
    if not urls:
        raise UserError("SERVING_URLS names no server: set it to their addresses, separated by commas, or leave it out")
    return urls


def ask(url: str, path: str, body: dict[str, Any] | None = None) -> requests.Response:
    """Ask a server something, or send it a body.

    Each question has a connection of its own: the kernel gives every new one to any of the server's workers.

    Raises:
        UserError: it wants a token, or another one.
        requests.RequestException: it does not answer.
    """
    token = os.environ.get(TOKEN, "").strip()
    method = "GET" if body is None else "POST"
    sign = bearer(token, TOKEN) if token else None
    own = {"X-Request-ID": f"{OWN}{uuid.uuid4().hex}"}
    answer = requests.request(method, f"{url}{path}", json=body, auth=sign, headers=own, timeout=SECONDS)
    if answer.status_code == requests.codes.unauthorized:
        raise UserError(f"{url} wants {'another' if token else 'a'} token: set {TOKEN}")
    return answer


def told(url: str) -> dict[str, Any]:
    """Ask a server what it serves: its `model_version` is the one that all its workers answer with, if they agree.

    Raises:
        UserError: it wants a token, or something else answers there.
        requests.ConnectionError: nothing listens there.
    """
    elsewhere = f"{url} is taken by something that is not this project's server: stop it, or set SERVING_URLS"
    try:
        told = ask(url, "/version").json()
    except requests.ConnectionError as error:
        if isinstance(getattr(error.args[0], "reason", None), NewConnectionError):
            raise
        raise UserError(elsewhere) from error
    except (requests.RequestException, ValueError) as error:
        raise UserError(elsewhere) from error
    if not isinstance(told, dict) or told.get("service") != SERVICE:
        raise UserError(elsewhere)
    return told
