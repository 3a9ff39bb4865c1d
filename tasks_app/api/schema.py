"""The OpenAPI 3.1 document: what the views declare, problems, one operation per task type.

Views declare `request_model` (a pydantic model), `query` (their query parameters) and `answers`
(method -> success statuses); what they leave out is described as any JSON object.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse

from tasks_app.api.problems import CONTENT_TYPE
from tasks_app.api.renderers import to_json
from tasks_app.registry import all_handlers, discover

TYPED_PATH: Final = "/api/v1/task-types/{task_type}/tasks"
PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "RFC 9457 problem; `type` opens the page that explains `code`.",
    "required": ["type", "title", "status", "detail", "instance", "code", "request_id", "errors"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}


class ApiSchema(AutoSchema):
    """Describes an `ApiView`."""

    def get_override_parameters(self) -> list[Any]:
        """Give the query parameters that the view declares for GET."""
        return list(getattr(self.view, "query", ())) if self.method == "GET" else []

    def get_request_serializer(self) -> Any:
        """Give the body's model."""
        if self.method not in {"POST", "PATCH", "PUT"}:
            return None
        return getattr(self.view, "request_model", None) or OpenApiTypes.OBJECT

    def get_response_serializers(self) -> Any:
        """Give the successful answers; problems are added to all operations afterwards."""
        declared: Mapping[str, tuple[int, ...]] = getattr(self.view, "answers", {})
        statuses = declared.get(self.method, (200,))
        return {
            status: OpenApiResponse(OpenApiTypes.OBJECT, description="Success")
            for status in statuses
        }

    def get_summary(self) -> str | None:
        """Give the first line of the method's docstring."""
        doc = getattr(getattr(self.view, self.method.lower(), None), "__doc__", None)
        return doc.strip().split("\n")[0].rstrip(".") if doc else None

    def get_description(self) -> str:  # type: ignore[override]  # as the library overrides DRF
        """Give the view's docstring."""
        return (type(self.view).__doc__ or "").strip()

    def get_operation_id(self) -> str:
        """Give a name made of the method and the path, unique by construction."""
        words = self.path.removeprefix("/api/v1/").replace("{", "").replace("}", "")
        return f"{self.method.lower()}_{words.replace('/', '_').replace('-', '_')}"

    def get_tags(self) -> list[str]:
        """Group by the first word of the path."""
        return [self.path.removeprefix("/api/v1/").split("/")[0]]


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # library
    """The bearer token."""

    target_class = "tasks_app.api.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002 - an override
        """Give the security scheme."""
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "tm_<environment>_<id>_<secret>",
        }


def only_api(endpoints: list[Any], **_: Any) -> list[Any]:
    """Keep the endpoints below /api/v1 (preprocessing hook)."""
    return [endpoint for endpoint in endpoints if endpoint[0].startswith("/api/v1/")]


def complete(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add problems to every operation and expand typed submission (postprocessing hook)."""
    components = result.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = PROBLEM
    content = {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    components["responses"] = {"Problem": {"description": "Not carried out.", "content": content}}
    for path in result["paths"].values():
        for operation in path.values():
            operation["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
    _expand_types(result)
    return result


def _expand_types(result: dict[str, Any]) -> None:
    template = result["paths"].get(TYPED_PATH, {}).get("post")
    if template is None:
        return
    discover()
    for handler in all_handlers():
        operation = copy.deepcopy(template)
        name = f"Payload_{handler.type.replace('.', '_').replace('-', '_')}"
        result["components"]["schemas"] |= _as_components(name, handler.payload_schema())
        operation["operationId"] = f"submit_{name.removeprefix('Payload_')}"
        operation["summary"] = f"Submit {handler.type}"
        operation["description"] = handler.description
        operation["parameters"] = [
            one for one in operation.get("parameters", []) if one["in"] != "path"
        ]
        schema = {"$ref": f"#/components/schemas/{name}"}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
        result["paths"][TYPED_PATH.replace("{task_type}", handler.type)] = {"post": operation}


def _as_components(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Move a JSON Schema and its `$defs` under names of their own."""
    schema = copy.deepcopy(schema)
    inner = schema.pop("$defs", {})
    found = {name: schema, **{f"{name}_{key}": value for key, value in inner.items()}}
    _rename(found, f"#/components/schemas/{name}_")
    return found


def _rename(value: Any, prefix: str) -> None:
    if isinstance(value, dict):
        target = value.get("$ref")
        if isinstance(target, str) and target.startswith("#/$defs/"):
            value["$ref"] = prefix + target.removeprefix("#/$defs/")
        mapping = value.get("discriminator", {})
        for key, aim in mapping.get("mapping", {}).items() if isinstance(mapping, dict) else ():
            mapping["mapping"][key] = aim.replace("#/$defs/", prefix)
    for child in value.values() if isinstance(value, dict) else value:
        if isinstance(child, dict | list):
            _rename(child, prefix)


@cache
def openapi_document() -> bytes:
    """Give the document as JSON; made once per process, as handlers stay while it runs."""
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]  # library
    document = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return to_json(document)
