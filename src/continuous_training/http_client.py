"""Posting JSON to somebody else's server: with patience, and without showing a token or a secret address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    Sign = Callable[[requests.PreparedRequest], requests.PreparedRequest]

SECONDS = 10
AGAIN = Retry(total=3, backoff_factor=1, status_forcelist=(429, 502, 503, 504), allowed_methods={"POST"})


def post(address: str, body: dict[str, Any], who: str, sign: Sign | None = None) -> requests.Response:
    """Post a body, and return what is answered, whatever that is; busy servers are asked four times in all.

    Raises:
        UserError: nobody answers. `who` is named in it, and the address is not: it may be a secret.
    """
    with requests.Session() as session:
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=AGAIN))
        try:
            return session.post(address, json=body, auth=sign, timeout=SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            raise UserError(f"{who} cannot be reached ({type(error).__name__})") from None


def bearer(token: str, variable: str) -> Sign:
    """Make what signs a request with a token; requests lets a .netrc replace a header, but not this.

    Raises:
        UserError: no header can hold the token of that variable; the libraries' own errors would show it in the log.
    """
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise UserError(f"{variable} is no token: it has more in it than letters, digits and signs")

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return sign
