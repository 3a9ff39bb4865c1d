"""The OpenAPI 3.1 document: what the views say of themselves, and what follows from it.

Each view's `operations` name bodies, parameters and answers; the scope comes from its `scopes`.
From these follow the problems that an operation can be answered with and the headers of every
answer. `typed_operations` adds one operation per task type.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from typing_extensions import override

from tasks_app.api.answers import Problem
from tasks_app.api.operation import REPLY_HEADERS, REQUEST_HEADERS, Operation, Reply
from tasks_app.api.problems import CONTENT_TYPE
from tasks_app.api.renderers import to_json
from tasks_app.api.typed_operations import add_typed_operations
from tasks_app.errors import (
    ConfigurationError,
    Forbidden,
    IdempotencyConflict,
    IdempotencyMismatch,
    MalformedJson,
    NotAuthenticated,
    PayloadTooLarge,
    PreconditionFailed,
    RateLimited,
    RequestError,
    ScopeMissing,
    StoreUnavailable,
    TaskmillError,
    TaskNotFound,
    TaskPurged,
    UnknownTaskType,
    UnsupportedMediaType,
    ValidationFailed,
)

SCHEMA_REFERENCE: Final = "#/components/schemas/{model}"
SECURITY: Final = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "tm_<environment>_<id>_<secret>",
        "description": "An API key; each operation names the scope that it needs.",
    }
}
TAGS: Final = {
    "tasks": "Submit work, watch it, steer it.",
    "streams": "Events as they happen, and tokens to watch them with.",
    "history": "What a task did and left behind.",
    "task types": "What can be submitted, with one typed operation each.",
    "limits": "Concurrency keys: who holds them, who waits, and the limit in force.",
    "queues": "Where tasks wait: settings, numbers, pause and resume.",
    "dead letters": "Tasks out of attempts.",
    "webhooks": "Receivers of signed events, and what was sent to them.",
    "schedules": "Recurring and planned work.",
    "platform": "Workers, numbers and probes.",
}
_PATH_PARAMETERS: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "task_id": ({"type": "string", "format": "uuid"}, "The task's id."),
    "task_type": ({"type": "string"}, "The task type, such as `orders.process`."),
}
_PLACEHOLDER: Final = re.compile(r"{(\w+)}")
_EVERYWHERE: Final = (RequestError, Forbidden)
_WITH_A_KEY: Final = (NotAuthenticated, ScopeMissing, RateLimited)
_WITH_A_BODY: Final = (MalformedJson, PayloadTooLarge, UnsupportedMediaType, ValidationFailed)
_WITH_IDEMPOTENCY: Final = (IdempotencyConflict, IdempotencyMismatch, ValidationFailed)
_OURS: Final = (TaskmillError, StoreUnavailable)
_PROBLEM: Final = {CONTENT_TYPE: {"schema": {"$ref": SCHEMA_REFERENCE.format(model="Problem")}}}


class ApiSchema(AutoSchema):
    """Describes an `ApiView`."""

    view: Any

    @override
    def get_operation(
        self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any
    ) -> dict[str, Any]:
        """Give the operation object, and put the models that it names into the registry.

        Raises:
            ConfigurationError: the view does not describe this method.
        """
        operation = self.view.operations.get(method)
        if operation is None:
            raise ConfigurationError(f"{type(self.view).__name__}.operations lacks {method}")
        _register(registry, Problem)
        scope = None if self.view.is_public else self.view.scopes[method]
        found: dict[str, Any] = {
            "operationId": operation.name,
            "tags": [operation.tag],
            "summary": operation.summary,
            "description": _description(operation, scope),
            "parameters": list(_parameters(operation, path)),
            "responses": _responses(
                registry,
                operation,
                path,
                is_public=self.view.is_public,
                is_read=method == "GET",
            ),
            "security": [] if self.view.is_public else [{"apiKey": []}],
        }
        if operation.body is not None or operation.any_body:
            schema = {} if operation.body is None else _register(registry, operation.body)
            found["requestBody"] = {
                "required": operation.is_body_required,
                "content": {kind: {"schema": schema} for kind in operation.media_types},
            }
        return found


def _description(operation: Operation, scope: str | None) -> str:
    if scope is None:
        return f"{operation.description}\n\nOpen to all: needs no API key."
    needed = f"an API key with the scope `{scope}`" if scope else "an API key"
    return f"{operation.description}\n\nNeeds {needed}."


def _parameters(operation: Operation, path: str) -> Iterator[dict[str, Any]]:
    of_path = {one.name: (one.schema, one.description) for one in operation.path}
    for name in _PLACEHOLDER.findall(path):
        schema, text = _PATH_PARAMETERS.get(name) or of_path[name]
        yield {"name": name, "in": "path", "required": True, "schema": schema, "description": text}
    for one in operation.query:
        yield {
            "name": one.name,
            "in": "query",
            "schema": one.schema,
            "description": one.description,
        }
    for name in (*operation.headers, "X-Request-Id"):
        schema, text = REQUEST_HEADERS[name]
        yield {"name": name, "in": "header", "schema": schema, "description": text}


def _responses(
    registry: Any, operation: Operation, path: str, *, is_public: bool, is_read: bool
) -> dict[str, Any]:
    usual = ["X-Request-Id", *([] if is_public else ["RateLimit", "RateLimit-Policy"])]
    found = {
        str(status): _reply(registry, reply, usual) for status, reply in operation.replies.items()
    }
    by_status: dict[str, dict[type[TaskmillError], None]] = defaultdict(dict)
    for kind in problems_of(operation, path, is_public=is_public, is_read=is_read):
        by_status[str(kind.http_status)][kind] = None
    for status in sorted(by_status):
        found.setdefault(status, _problem(list(by_status[status]), usual))
    return found | {"5XX": _problem(_OURS, usual[:1])}


def _reply(registry: Any, reply: Reply, usual: list[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "description": reply.description,
        "headers": _headers([*reply.headers, *usual]),
    }
    if reply.has_body:
        schema = {} if reply.model is None else _register(registry, reply.model, "serialization")
        shown["content"] = {reply.media_type: {"schema": schema}}
    return shown


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _problem(kinds: Iterable[type[TaskmillError]], usual: list[str]) -> dict[str, Any]:
    kinds = list(kinds)
    lines = [f"`{one.code}`: {(one.__doc__ or '').strip().split(chr(10))[0]}" for one in kinds]
    more = ["Retry-After"] if any(one.is_retryable for one in kinds) else []
    more += ["WWW-Authenticate"] if NotAuthenticated in kinds else []
    return {
        "description": "\n\n".join(lines),
        "headers": _headers([*more, *usual]),
        "content": _PROBLEM,
    }


def problems_of(
    operation: Operation, path: str, *, is_public: bool, is_read: bool
) -> Iterator[type[TaskmillError]]:
    """Give the request errors that an operation can be answered with.

    Args:
        is_read: it refuses query parameters that it does not have.
    """
    yield from _EVERYWHERE
    if not is_public:
        yield from _WITH_A_KEY
    if operation.body is not None or operation.any_body:
        yield from _WITH_A_BODY
    if operation.query or (is_read and not is_public):
        yield ValidationFailed
    if "Idempotency-Key" in operation.headers:
        yield from _WITH_IDEMPOTENCY
    if "If-Match" in operation.headers:
        yield PreconditionFailed
    if "{task_id}" in path:
        yield TaskNotFound
        yield TaskPurged
    if "{task_type}" in path:
        yield UnknownTaskType
    yield from operation.problems


class _Plain(GenerateJsonSchema):
    """Leaves out titles made of field names, and defaults that say nothing to a client."""

    @override
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    @override
    def default_schema(self, schema: Any) -> dict[str, Any]:
        if self.mode == "serialization" or schema.get("default") is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


def _register(
    registry: Any, model: type[BaseModel], mode: JsonSchemaMode = "validation"
) -> dict[str, str]:
    """Put a model and those that it uses among the components; give the reference to it.

    Raises:
        ConfigurationError: two different models have one name.
    """
    schema = model.model_json_schema(
        ref_template=SCHEMA_REFERENCE, schema_generator=_Plain, mode=mode
    )
    inner = schema.pop("$defs", {})
    for name, one in (inner | {model.__name__: schema}).items():
        component = ResolvedComponent(name, ResolvedComponent.SCHEMA, one, name)  # type: ignore[no-untyped-call]  # library
        registry.register_on_missing(component)
        if registry[component].schema != one:
            raise ConfigurationError(f"two models are called {name}")
    return {"$ref": SCHEMA_REFERENCE.format(model=model.__name__)}


def only_api(endpoints: list[Any], **_: Any) -> list[Any]:
    """Keep the endpoints below /api/v1 (preprocessing hook)."""
    return [endpoint for endpoint in endpoints if endpoint[0].startswith("/api/v1/")]


def complete(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add headers, security, tags and typed submission (postprocessing hook)."""
    components = result.setdefault("components", {})
    components["headers"] = {
        name: {"schema": schema, "description": text}
        for name, (schema, text) in REPLY_HEADERS.items()
    }
    components["securitySchemes"] = SECURITY
    result["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    add_typed_operations(result)
    return result


@cache
def openapi_document() -> bytes:
    """Give the document as JSON; made once per process, as handlers stay while it runs."""
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]  # library
    document = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return to_json(document)
