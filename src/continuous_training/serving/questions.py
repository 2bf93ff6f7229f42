"""What the servers of SERVING_URLS are asked: who they are, and which version answers."""

from __future__ import annotations

import os
from typing import Any

import requests
from urllib3.exceptions import NewConnectionError

from continuous_training.problem import Problem
from continuous_training.serving import SERVICE

DEFAULT = "http://127.0.0.1:8000"
SECONDS = 10  # a server that needs longer for one question is as good as gone


def servers() -> list[str]:
    """Return the addresses in SERVING_URLS (comma-separated), or the default one of this machine.

    Raises:
        Problem: SERVING_URLS is set and names none.
    """
    urls = [url.strip().rstrip("/") for url in os.environ.get("SERVING_URLS", DEFAULT).split(",") if url.strip()]
    if not urls:
        raise Problem("SERVING_URLS names no server: set it to their addresses, separated by commas, or leave it out")
    return urls


def told(url: str) -> dict[str, Any]:
    """Ask a server what it serves.

    Raises:
        Problem: something else answers there.
        requests.ConnectionError: nothing listens there.
    """
    elsewhere = f"{url} is taken by something that is not this project's server: stop it, or set SERVING_URLS"
    try:
        answer = requests.get(f"{url}/version", timeout=SECONDS)
        told = answer.json()
    except requests.ConnectionError as error:
        if isinstance(getattr(error.args[0], "reason", None), NewConnectionError):
            raise
        raise Problem(elsewhere) from error
    except (requests.RequestException, ValueError) as error:
        raise Problem(elsewhere) from error
    if not isinstance(told, dict) or told.get("service") != SERVICE:
        raise Problem(elsewhere)
    return told
