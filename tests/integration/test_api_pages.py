"""The pages for people and the OpenAPI document."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from openapi_spec_validator import validate

from tasks_app.api.schema import openapi_document
from tasks_app.errors import known_problems
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key

pytestmark = pytest.mark.django_db


def document() -> Any:
    import orjson

    openapi_document.cache_clear()
    return orjson.loads(openapi_document())


def test_the_document_is_valid_openapi_and_made_without_a_warning(capfd: Any) -> None:
    found = document()
    validate(found)
    assert found["openapi"].startswith("3.1")
    assert capfd.readouterr().err == ""


def test_each_task_type_has_an_operation_of_its_own_with_its_payload() -> None:
    found = document()
    operation = found["paths"]["/api/v1/task-types/tests.order/tasks"]["post"]
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert "order_id" in found["components"]["schemas"][reference.rsplit("/", 1)[1]]["properties"]


@pytest.mark.parametrize("path", ["/api/schema", "/api/docs", "/api/redoc"])
def test_documentation_opens_to_staff_and_to_keys(path: str, staff: Any) -> None:
    assert Client().get(path).status_code == 401
    answer = Client().get(path, headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/admin/login/?next={path}")
    assert staff().get(path).status_code == 200
    key = {"Authorization": f"Bearer {make_key()}"}
    assert Client().get(path, headers=key).status_code == 200
    assert Client().get(path, headers={"Authorization": "Bearer x"}).status_code == 401


@pytest.mark.parametrize("path", ["/", "/docs/errors", "/api/docs", "/api/redoc"])
def test_pages_load_nothing_from_elsewhere_and_run_no_inline_script(path: str, staff: Any) -> None:
    answer = staff().get(path)
    html = answer.content.decode()
    assert "script-src 'unsafe" not in answer.headers["Content-Security-Policy"]
    assert not re.search(r"<script(?![^>]*\bsrc=)", html)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", html)
    for link in re.findall(r"(?:src|href)=\"(/static/[^\"]+)\"", html):
        found = Client().get(link)
        found.close()
        assert found.status_code == 200, link


def test_the_type_of_every_problem_leads_to_its_section() -> None:
    html = Client().get("/docs/errors").content.decode()
    assert all(f'id="{problem["code"]}"' in html for problem in known_problems())
