"""HTTP client: JSON requests with a timeout and bounded retries, and errors without tokens or secret URLs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    Authentication = Callable[[requests.PreparedRequest], requests.PreparedRequest]

TIMEOUT_SECONDS = 10
RETRIES = Retry(total=3, backoff_factor=1, status_forcelist=(429, 502, 503, 504), allowed_methods={"POST"})


def post(
    address: str, body: dict[str, Any], server: str, authentication: Authentication | None = None
) -> requests.Response:
    """Post a JSON body and return the response, whatever its status. A busy server gets at most four requests.

    Raises:
        UserError: the server does not answer. The message names `server`, not the address, which may be secret.
    """
    with requests.Session() as session:
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
        try:
            return session.post(address, json=body, auth=authentication, timeout=TIMEOUT_SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            raise UserError(f"{server} cannot be reached ({type(error).__name__})") from None


def bearer(token: str, variable: str) -> Authentication:
    """Return the authentication of a request by a bearer token. Unlike a header, a .netrc file does not replace it.

    Raises:
        UserError: the variable's value cannot be sent in a header; the library's own error would log the token.
    """
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise UserError(
            f"{variable} is not a valid token: it contains characters other than letters, digits and punctuation"
        )

    def authenticate(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return authenticate
