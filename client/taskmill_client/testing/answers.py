"""How the fake answers, and refuses."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs

import httpx

from taskmill_client.wire import JsonObject, JsonObjects, encode

URL: Final = "http://taskmill.test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A problem to answer with."""

    status: int
    code: str
    detail: str
    retry_after: float | None
    errors: JsonObjects = field(default_factory=list)


class Refused(Exception):
    """The request is refused."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retry_after: float | None = None,
        errors: JsonObjects | None = None,
    ) -> None:
        super().__init__(detail)
        self.refusal = Refusal(
            status=status, code=code, detail=detail, retry_after=retry_after, errors=errors or []
        )


def query_of(request: httpx.Request) -> dict[str, str]:
    """Give the parameters of a request, the last one of each name."""
    return {name: found[-1] for name, found in queries_of(request).items()}


def queries_of(request: httpx.Request) -> dict[str, list[str]]:
    """Give all parameters of a request.

    Raises:
        Refused: one is empty.
    """
    found = parse_qs(request.url.query.decode(), keep_blank_values=True)
    for name in found:
        if "" in found[name]:
            raise invalid(f"/query/{name}", "invalid", f"{name} must have 1 or more characters")
    return found


def body_of(request: httpx.Request) -> JsonObject:
    """Give the JSON object of a request."""
    found = json.loads(request.content or b"{}")
    if not isinstance(found, dict):
        raise invalid("", "dict_type", "Input should be an object")
    return found


def invalid(pointer: str, code: str, detail: str) -> Refused:
    """Give the refusal of a wrong field."""
    fault = {"pointer": pointer, "code": code, "detail": detail}
    return Refused(422, "validation_failed", f"{pointer}: {detail}", errors=[fault])


def json_answer(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """Give an answer."""
    named = {"Content-Type": "application/json", **(headers or {})}
    return httpx.Response(status, headers=named, content=encode(value))


def problem_answer(request: httpx.Request, refusal: Refusal) -> httpx.Response:
    """Give the answer of a refusal."""
    body = {
        "type": f"{URL}/docs/errors#{refusal.code}",
        "title": refusal.code.replace("_", " ").capitalize(),
        "status": refusal.status,
        "detail": refusal.detail,
        "instance": request.url.path,
        "code": refusal.code,
        "request_id": str(uuid.uuid4()),
        "errors": refusal.errors,
    }
    headers = {"Content-Type": "application/problem+json"}
    if refusal.retry_after is not None:
        headers["Retry-After"] = f"{refusal.retry_after:g}"
    return httpx.Response(refusal.status, headers=headers, content=encode(body))
