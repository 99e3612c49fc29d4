"""The closed table of faults, and the one place where a fault becomes bytes for a client.

What lives here: for each Kind its side, status, type, code and public text. What must never be shown: addresses of
backends, stack traces, matched text, keys. Shapes: OpenAI's error object (openapi of the OpenAI API) and, under
/v1/messages, Anthropic's (https://docs.anthropic.com/en/api/errors).
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from math import ceil
from typing import Literal

import msgspec

from policies.contract import Kind, Refuse

Side = Literal["client", "policy", "backend", "headgate"]
Shape = Literal["openai", "anthropic"]


@dataclass(frozen=True, slots=True)
class Row:
    """status 0: no reply is possible. retry: what ``x-should-retry`` tells an SDK; None: the SDK's own rule."""

    side: Side
    status: int
    type: str
    code: str | None
    anthropic: str
    text: str
    retry: bool | None = None


_INVALID = "invalid_request_error"

TABLE: dict[Kind, Row] = {
    Kind.BAD_HTTP: Row("client", 400, _INVALID, "bad_http", _INVALID, "The request is not valid HTTP/1.1."),
    Kind.HEAD_TOO_LARGE: Row(
        "client", 431, _INVALID, "head_too_large", "request_too_large", "The request's header fields are too large."
    ),
    Kind.URI_TOO_LONG: Row(
        "client", 414, _INVALID, "uri_too_long", "request_too_large", "The request target is too long."
    ),
    Kind.HEAD_TIMEOUT: Row("client", 408, _INVALID, "timeout", _INVALID, "The request's head did not arrive in time."),
    Kind.BODY_TIMEOUT: Row("client", 408, _INVALID, "timeout", _INVALID, "The request's body came too slowly."),
    Kind.TOO_LARGE: Row(
        "client", 413, _INVALID, "request_too_large", "request_too_large", "The request's body is too large."
    ),
    Kind.INVALID_JSON: Row("client", 400, _INVALID, "invalid_json", _INVALID, "The request's body is not valid JSON."),
    Kind.INVALID_REQUEST: Row(
        "client", 400, _INVALID, "invalid_value", _INVALID, "The request is not allowed as it is."
    ),
    Kind.UNSUPPORTED_ENCODING: Row(
        "client",
        415,
        _INVALID,
        "unsupported_encoding",
        _INVALID,
        "The body must be JSON in UTF-8, without Content-Encoding.",
    ),
    Kind.CLIENT_GONE: Row("client", 0, "", None, "", "The client went away."),
    Kind.SLOW_READER: Row("client", 0, "", None, "", "The client stopped reading."),
    Kind.UNAUTHENTICATED: Row(
        "policy", 401, "authentication_error", "invalid_api_key", "authentication_error", "Missing or invalid API key."
    ),
    Kind.FORBIDDEN: Row("policy", 403, "permission_error", None, "permission_error", "This request is not permitted."),
    Kind.MODEL_NOT_FOUND: Row(
        "client", 404, _INVALID, "model_not_found", "not_found_error", "No backend serves the model asked for."
    ),
    Kind.UNSCANNABLE: Row(
        "policy",
        403,
        "permission_error",
        "unscannable",
        "permission_error",
        "The gateway's policies cannot read this kind of request, so it is not let through.",
    ),
    Kind.BLOCKED: Row(
        "policy", 400, _INVALID, "content_filter", _INVALID, "The request was blocked by a content policy."
    ),
    Kind.RATE_LIMITED: Row(
        "policy", 429, "rate_limit_error", "rate_limit_exceeded", "rate_limit_error", "Rate limit reached."
    ),
    Kind.QUOTA: Row(
        "policy",
        429,
        "insufficient_quota",
        "insufficient_quota",
        "rate_limit_error",
        "The budget is spent.",
        retry=False,
    ),
    Kind.CUT: Row(
        "policy", 400, _INVALID, "content_filter", _INVALID, "The reply was blocked by a content policy.", retry=False
    ),
    Kind.BACKEND_CONNECT: Row(
        "backend", 502, "api_error", "bad_gateway", "api_error", "The backend cannot be reached."
    ),
    Kind.BACKEND_RESET: Row(
        "backend", 502, "api_error", "bad_gateway", "api_error", "The backend closed the connection without a reply."
    ),
    Kind.BACKEND_PROTOCOL: Row(
        "backend", 502, "api_error", "bad_gateway", "api_error", "The backend gave no valid reply."
    ),
    Kind.BACKEND_TIMEOUT: Row(
        "backend", 504, "api_error", "timeout", "timeout_error", "The backend did not reply in time.", retry=False
    ),
    Kind.BACKEND_CUT: Row("backend", 502, "api_error", "bad_gateway", "api_error", "The backend broke off its reply."),
    Kind.BACKEND_IDLE: Row(
        "backend", 504, "api_error", "timeout", "timeout_error", "The backend fell silent in its reply."
    ),
    Kind.BACKEND_UNAVAILABLE: Row(
        "backend",
        503,
        "service_unavailable_error",
        "backend_unavailable",
        "overloaded_error",
        "No backend is available.",
    ),
    Kind.LIMITS_AWAY: Row(
        "headgate", 503, "service_unavailable_error", "limits_unavailable", "overloaded_error", "Limits cannot be checked now."
    ),
    Kind.OVERLOADED: Row(
        "headgate", 503, "service_unavailable_error", "overloaded", "overloaded_error", "Too many connections."
    ),
    Kind.QUEUE_FULL: Row(
        "headgate", 503, "service_unavailable_error", "overloaded", "overloaded_error",
        "The backend is busy, and no more requests may wait for it.",
    ),
    Kind.QUEUE_TIMEOUT: Row(
        "headgate", 503, "service_unavailable_error", "overloaded", "overloaded_error",
        "The backend was busy for as long as this request could wait.",
    ),
    Kind.DRAINING: Row(
        "headgate", 503, "service_unavailable_error", "draining", "overloaded_error", "The gateway is shutting down."
    ),
    Kind.POLICY_ERROR: Row("headgate", 500, "api_error", "policy_error", "api_error", "A policy could not be applied."),
    Kind.INTERNAL: Row("headgate", 500, "api_error", "internal_error", "api_error", "Internal error."),
}


class Fault(Exception):
    """A failure with its row of the table. detail: for the log, safe to print; never shown to the client."""

    def __init__(
        self,
        kind: Kind,
        detail: str = "",
        *,
        message: str | None = None,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(kind.value)
        self.kind = kind
        self.row = TABLE[kind]
        self.detail = detail
        self.message = message or self.row.text
        self.param = param
        self.code = code or self.row.code
        self.retry_after = retry_after
        self.headers = headers

    @classmethod
    def of(cls, refusal: Refuse) -> Fault:
        """The fault for a policy's Refuse."""
        return cls(
            refusal.kind,
            message=refusal.message,
            param=refusal.param,
            code=refusal.code,
            retry_after=refusal.retry_after,
            headers=refusal.headers,
        )


def shape_of(path: str) -> Shape:
    """Errors under /v1/messages are Anthropic-shaped, all others OpenAI-shaped."""
    return "anthropic" if path.startswith("/v1/messages") else "openai"


def error_object(fault: Fault, shape: Shape, request_id: str) -> dict[str, object]:
    """The error as the API's own JSON object."""
    if shape == "anthropic":
        return {
            "type": "error",
            "error": {"type": fault.row.anthropic, "message": fault.message},
            "request_id": request_id,
        }
    return {"error": {"message": fault.message, "type": fault.row.type, "param": fault.param, "code": fault.code}}


def render(fault: Fault, shape: Shape, request_id: str) -> tuple[int, bytes, list[tuple[bytes, bytes]], bytes]:
    """A fault as (status, reason phrase, fields, body). Content-Length is added by whoever frames the message."""
    status = fault.row.status or 500
    fields = [(b"Content-Type", b"application/json"), (b"X-Request-Id", request_id.encode("latin-1", "replace"))]
    if status == 401:
        fields.append((b"WWW-Authenticate", b"Bearer"))
    after = fault.retry_after
    if after is None and status == 503:
        after = 1.0
    if after is not None:
        fields.append((b"Retry-After", b"%d" % max(1, ceil(after))))
        if status == 429:
            fields.append((b"retry-after-ms", b"%d" % max(1, ceil(after * 1000))))
    if fault.row.retry is not None:
        fields.append((b"x-should-retry", b"true" if fault.row.retry else b"false"))
    fields += [(k.encode("latin-1"), v.encode("latin-1")) for k, v in fault.headers]
    return (
        status,
        HTTPStatus(status).phrase.encode(),
        fields,
        msgspec.json.encode(error_object(fault, shape, request_id)),
    )
