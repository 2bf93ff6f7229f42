"""The error with which a request is refused."""

from __future__ import annotations


class RequestError(Exception):
    """A request that gets no prediction: the HTTP status, MLflow's error code and a message for the client."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def invalid_request(message: str, status: int = 400) -> RequestError:
    """Return the error for a request that is itself malformed."""
    return RequestError(status, "INVALID_PARAMETER_VALUE", message)
