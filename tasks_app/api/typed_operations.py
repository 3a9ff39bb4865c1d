"""One operation of the OpenAPI document per task type, so that generated clients are typed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import Any, Final

from tasks_app.registry import Handler, all_handlers, discover

TYPED_PATH: Final = "/api/v1/task-types/{task_type}/tasks"
_REFERENCE: Final = "#/components/schemas/"


def add_typed_operations(document: dict[str, Any]) -> None:
    """Add `POST /task-types/<type>/tasks` with the payload's schema for every registered type.

    Names are made of the type's words; where two types (`a.b`, `a_b`) or the parts of their
    payloads would share one, the later is numbered.
    """
    discover()
    template = document["paths"][TYPED_PATH]["post"]
    schemas = document["components"]["schemas"]
    taken = {one["operationId"] for path in document["paths"].values() for one in path.values()}
    for handler in all_handlers():
        words = handler.type.replace(".", "_").replace("-", "_")
        name = _free_name(f"submit_{words}", taken)
        taken.add(name)
        schema = _add_schema(schemas, f"Payload_{words}", handler.payload_schema())
        operation = _typed(template, handler, schema) | {"operationId": name}
        document["paths"][TYPED_PATH.replace("{task_type}", handler.type)] = {"post": operation}


def _typed(template: dict[str, Any], handler: Handler, schema: dict[str, Any]) -> dict[str, Any]:
    operation = copy.deepcopy(template)
    options = [one for one in operation["parameters"] if one["in"] != "path"]
    needed = operation["description"].rsplit("\n\n", 1)[1]
    return operation | {
        "summary": f"Submit {handler.type}",
        "description": "\n\n".join(filter(None, [handler.description, needed])),
        "parameters": options,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        },
    }


def _add_schema(schemas: dict[str, Any], wanted: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Move a JSON Schema and its `$defs` among the components; give the reference to it."""
    schema = copy.deepcopy(schema)
    inner = schema.pop("$defs", {})
    name = _free_name(wanted, schemas)
    schemas[name] = schema
    names = {}
    for key in inner:
        names[key] = _free_name(f"{name}_{key}", schemas)
        schemas[names[key]] = inner[key]

    def renamed(target: str) -> str:
        return _REFERENCE + names.get(target.removeprefix("#/$defs/"), target)

    for one in (schema, *inner.values()):
        _rename(one, renamed)
    return {"$ref": _REFERENCE + name}


def _free_name(wanted: str, taken: Collection[str]) -> str:
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def _rename(value: Any, renamed: Callable[[str], str]) -> None:
    if isinstance(value, dict):
        target = value.get("$ref")
        if isinstance(target, str) and target.startswith("#/$defs/"):
            value["$ref"] = renamed(target)
        mapping = value.get("discriminator")
        if isinstance(mapping, dict) and isinstance(mapping.get("mapping"), dict):
            mapping["mapping"] = {key: renamed(aim) for key, aim in mapping["mapping"].items()}
    for child in value.values() if isinstance(value, dict) else value:
        if isinstance(child, dict | list):
            _rename(child, renamed)
