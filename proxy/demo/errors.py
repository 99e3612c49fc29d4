"""Error bodies of the demo backend, in the shape of the API that was called.

Here: the one exception that handlers raise, and the two JSON shapes. Never here: sockets, request text.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

# vLLM names these four types; every other status is named by its HTTP phrase.
_VLLM_TYPES = {
    400: "BadRequestError",
    404: "NotFoundError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}
# https://docs.anthropic.com/en/api/errors
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Refused(Exception):
    """A request that is answered with an HTTP error. `message` is public and holds no request text."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.headers = headers or {}


class HungUp(Exception):
    """The backend itself closed the TCP connection, as a knob asked. There is nothing more to answer."""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def openai_error(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """The error object of vLLM: like OpenAI's, but `code` is the HTTP status as an int."""
    kind = _VLLM_TYPES.get(status, _phrase(status))
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


def anthropic_error(status: int, message: str) -> dict[str, Any]:
    """The error object of the Messages API."""
    kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def error_body(path: str, status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """The error object for a request path: Anthropic's under /v1/messages, vLLM's elsewhere."""
    if path == "/v1/messages" or path.startswith("/v1/messages/"):
        return anthropic_error(status, message)
    return openai_error(status, message, param)
