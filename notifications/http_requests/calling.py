"""The handler `http.request`: any URL as a task, so that any service in any language is a worker.

It is there where `TASKMILL_HTTP_REQUEST_ENABLED` says so. Whom it may call is decided by
`notifications.egress`, by settings of its own: webhooks show nobody the answers of internal
receivers, this does.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

import orjson
from django.utils import timezone
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator
from typing_extensions import TypedDict

from tasks_app.clock import monotonic
from tasks_app.errors import TaskError
from tasks_app.public import TaskContext

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_OWN_HEADERS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "expect", "te"}
)
_SHOWN_BYTES: Final = 500


def _headers(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not _NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
            raise ValueError(f"{name[:100]!r} is no header that a request may set")
        if not _VALUE.fullmatch(text):
            raise ValueError(f"the header {name} holds more than printable ASCII")
    return value


class HttpRequest(BaseModel):
    """A request to a service."""

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True, validate_by_name=True)

    url: str = Field(min_length=1, max_length=2048, examples=["https://api.example.com/render"])
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "POST"
    headers: Annotated[dict[str, str], Field(max_length=50), AfterValidator(_headers)] = Field(
        default_factory=dict, description="Headers to send, printable ASCII."
    )
    body: str | None = Field(None, description="Text to send, as UTF-8.")
    json_: JsonValue = Field(None, alias="json", description="JSON to send, instead of `body`.")
    expect_status: list[Annotated[int, Field(ge=100, le=599)]] = Field(
        default_factory=list, max_length=50, description="Successes; 200 to 299 where empty."
    )
    timeout: float = Field(30.0, gt=0, le=86_400, description="Seconds for the whole answer.")
    follow_redirects: bool = Field(False, description="Whether to follow up to 5 redirects.")

    @model_validator(mode="after")
    def _one_body(self) -> HttpRequest:
        if self.body is not None and self.has_json:
            raise ValueError("send body or json, not both")
        return self

    @property
    def has_json(self) -> bool:
        """Whether JSON is sent; null is as good as nothing."""
        return self.json_ is not None

    def content(self) -> bytes:
        """Give the bytes to send."""
        return orjson.dumps(self.json_) if self.has_json else (self.body or "").encode()

    def sent_headers(self) -> dict[str, str]:
        """Give the headers to send, with the type of what is sent where none is named."""
        kind = "application/json" if self.has_json else "text/plain; charset=utf-8"
        has_type = any(name.lower() == "content-type" for name in self.headers)
        is_typed = self.has_json or self.body is not None
        return self.headers | ({"Content-Type": kind} if is_typed and not has_type else {})


class HttpAnswer(TypedDict):
    """What the service answered; one of `body` and `json` is null."""

    status: int
    headers: dict[str, str]
    body: str | None
    json: Any
    truncated: bool
    duration: float


async def http_request(payload: HttpRequest, ctx: TaskContext) -> HttpAnswer:
    """Send an HTTP request and give the answer.

    5xx, 408, 425, 429, timeouts and connection errors are tried again, after `Retry-After` where
    there is one; other statuses end the task. Each attempt sends the task's id as
    `Idempotency-Key`.
    """
    from notifications.http_requests.client import Request, send
    from notifications.http_requests.rendering import body_shown, headers_shown
    from notifications.http_requests.verdict import error_of_fault, error_of_status
    from notifications.outbound import header_of, name_fault, shown

    headers = payload.sent_headers()
    own = any(name.lower() == "idempotency-key" for name in headers)
    fixed = {} if own else {"Idempotency-Key": ctx.idempotency_key()}
    if ctx.info.traceparent:
        fixed["Traceparent"] = ctx.info.traceparent
    request = Request(payload.method, payload.url, headers, payload.content(), fixed)
    begun = monotonic()
    try:
        answer = await send(request, seconds=payload.timeout, follows=payload.follow_redirects)
    except TimeoutError as fault:
        raise TaskError("TIMEOUT", f"no whole answer within {payload.timeout:g} s") from fault
    except Exception as fault:
        raise error_of_fault(*name_fault(fault)) from fault
    error = error_of_status(
        answer.status,
        expected=payload.expect_status,
        retry_after=header_of(answer.headers, b"retry-after"),
        head=shown(answer.body[:_SHOWN_BYTES]),
        now=timezone.now().timestamp(),
    )
    if error is not None:
        raise error
    kind = header_of(answer.headers, b"content-type")
    body = body_shown(answer.body, content_type=kind, is_truncated=answer.is_truncated)
    return HttpAnswer(
        status=answer.status,
        headers=headers_shown(answer.headers),
        body=body.get("body"),
        json=body.get("json"),
        truncated=answer.is_truncated,
        duration=round(monotonic() - begun, 3),
    )
