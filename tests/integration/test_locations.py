"""What is made says where it is."""

from __future__ import annotations

from typing import Any

import pytest

from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key
from tests.integration.api_client import Api

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("address", "body", "named_by"),
    [
        ("/tasks", {"type": "tests.echo"}, "id"),
        ("/queues", {"name": "night.shift-2"}, "name"),
        ("/webhooks", {"url": "https://example.org/a"}, "id"),
        ("/schedules", {"key": "k", "type": "tests.echo", "cron": "* * * * *"}, "id"),
    ],
)
def test_what_is_made_is_found_where_the_answer_says(
    address: str, body: dict[str, Any], named_by: str
) -> None:
    api = Api(make_key())
    answer = api.post(address, body)
    assert answer.status_code in {201, 202}
    name = answer.json()[named_by]
    assert answer.headers["Location"] == f"/api/v1{address}/{name}"
    found = api.get(answer.headers["Location"])
    assert (found.status_code, found.json()[named_by]) == (200, name)
