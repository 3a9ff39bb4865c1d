"""Holds requests and answers of the API against its OpenAPI document."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tasks_app.api.schema import openapi_document

URN = "urn:document"


def document() -> Any:
    """Give the document with the task types registered by now."""
    openapi_document.cache_clear()
    return orjson.loads(openapi_document())


def operations(found: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give `(method, path, operation)` of all."""
    for path, item in found["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def closed(found: Any) -> Any:
    """Give the document with every open object of its components closed: what an answer holds
    beyond its schema is then a fault too.
    """
    found = copy.deepcopy(found)
    for schema in found["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return found


class Contract:
    """The document, ready to judge."""

    def __init__(self) -> None:
        self.document = document()
        self.by_name = {
            operation["operationId"]: (method, path, operation)
            for method, path, operation in operations(self.document)
        }
        self._strict = _registry(closed(self.document))
        self._plain = _registry(self.document)

    def successes(self, name: str) -> set[int]:
        """Give the statuses of an operation's answers that are no problems and no outages."""
        return {int(one) for one in self.by_name[name][2]["responses"] if one[0] in "23"}

    def find(self, method: str, path: str) -> str:
        """Give the name of the operation that a request means; literal paths go first."""
        fits = [
            (path_template.count("{"), name)
            for name, (verb, path_template, _) in self.by_name.items()
            if verb == method and re.fullmatch(re.sub(r"{\w+}", "[^/]+", path_template), path)
        ]
        return min(fits)[1]

    def check_request(self, name: str, url: str, body: Any, headers: Any) -> None:
        """Prove that a request which was carried out is one that the document describes."""
        _, _, operation = self.by_name[name]
        known = {(one["in"], one["name"]): one["schema"] for one in operation["parameters"]}
        for parameter, values in parse_qs(urlsplit(url).query).items():
            schema = known["query", parameter]
            is_list = schema.get("type") == "array"
            self._judge(self._plain, schema, values if is_list else _typed(schema, values[0]))
        for header, value in headers.items():
            self._judge(self._plain, known["header", header.replace("_", "-")], value)
        if body is not None:
            [schema, *_] = [one["schema"] for one in operation["requestBody"]["content"].values()]
            self._judge(self._plain, schema, body)

    def check_answer(self, name: str, answer: Any) -> None:
        """Prove that an answer's status, headers and body are as documented."""
        responses = self.by_name[name][2]["responses"]
        status = str(answer.status_code)
        found = responses.get(status) or responses[f"{status[0]}XX"]
        self._check_headers(found, answer)
        if "content" not in found:
            assert answer.content == b""
            return
        kind = answer.headers["Content-Type"]
        if kind == "text/event-stream":
            assert kind in found["content"]
            return
        self._judge(self._strict, found["content"][kind]["schema"], answer.json())
        if kind == "application/problem+json":
            assert f"`{answer.json()['code']}`" in found["description"]

    def _check_headers(self, found: Any, answer: Any) -> None:
        schemas = self.document["components"]["headers"]
        for header in set(schemas) & set(answer.headers):
            assert header in found["headers"], f"{header} is not documented"
            schema = schemas[header]["schema"]
            self._judge(self._plain, schema, _typed(schema, answer.headers[header]))
        assert "X-Request-Id" in answer.headers

    @staticmethod
    def _judge(registry: Any, schema: Any, value: Any) -> None:
        validator = Draft202012Validator(
            _anchored(schema), registry=registry, format_checker=FormatChecker()
        )
        faults = [
            f"{list(one.absolute_path)}: {one.message}" for one in validator.iter_errors(value)
        ]
        assert faults == []


def _typed(schema: Any, text: str) -> Any:
    kind = schema.get("type")
    if kind in {"integer", "number", "boolean"}:
        return orjson.loads(text)
    return text


def _registry(found: Any) -> Any:
    return Registry().with_resource(URN, DRAFT202012.create_resource(found))


def _anchored(schema: Any) -> Any:
    if "$ref" in schema:
        return schema | {"$ref": URN + schema["$ref"]}
    return schema
