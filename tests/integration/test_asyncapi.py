"""The AsyncAPI document is valid, whole, and says what the platform knows."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.test import Client
from jsonschema import Draft7Validator, Draft202012Validator

from notifications.asyncapi.document import build_document
from tasks_app.platform import PlatformEventType
from tasks_app.public import EventType
from tests.factories import make_key

pytestmark = pytest.mark.django_db
SPECIFICATIONS = "@asyncapi/specs@6.11.1"


@pytest.fixture(scope="module")
def official_schema(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The JSON Schema that the makers of AsyncAPI publish on npm."""
    place = tmp_path_factory.mktemp("asyncapi")
    npm = shutil.which("npm")
    is_there = False
    if npm is not None:
        done = subprocess.run(
            [npm, "pack", "--silent", "--prefer-offline", SPECIFICATIONS],
            cwd=place, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        is_there = done.returncode == 0
    if not is_there:
        assert not os.environ.get("CI"), "npm does not give the schema of AsyncAPI"
        pytest.skip("npm is missing, or cannot be reached, for the schema of AsyncAPI")
    return orjson.loads(unpacked(place, "package/schemas/3.1.0-without-$id.json"))


def unpacked(place: Path, name: str) -> bytes:
    [archive] = place.glob("*.tgz")
    with tarfile.open(archive) as files:
        member = files.extractfile(name)
        assert member is not None
        return member.read()


def document() -> Any:
    return orjson.loads(orjson.dumps(build_document()))


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for one in value.values():
            yield from references(one)
    if isinstance(value, list):
        for one in value:
            yield from references(one)


def found_at(value: Any, reference: str) -> Any:
    assert reference.startswith("#/")
    for part in reference[2:].split("/"):
        value = value[part]
    return value


def test_the_document_fits_the_official_schema(official_schema: Any) -> None:
    faults = [
        f"{list(one.absolute_path)}: {one.message[:200]}"
        for one in Draft7Validator(official_schema).iter_errors(document())
    ]
    assert faults == []


def test_every_reference_leads_somewhere_and_every_schema_is_one() -> None:
    found = document()
    assert all(found_at(found, one) for one in set(references(found)))
    for schema in found["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    used = set(references(found))
    for name in found["components"]["messages"]:
        assert f"#/components/messages/{name}" in used


def test_every_transport_and_every_event_type_is_in_it() -> None:
    found = document()
    addresses = {channel["address"] for channel in found["channels"].values()}
    assert addresses >= {
        "/ws/v1/events",
        "/ws/v1/tasks/{task_id}",
        "/api/v1/events/stream",
        "/api/v1/tasks/{task_id}/stream",
        "/hubs/notifications",
        "task/status/{task_id}",
        "task/status/status/{status}",
        "task/progress/{task_id}",
        None,
    }
    schemas = found["components"]["schemas"]
    platform = {kind.value for kind in PlatformEventType}
    assert set(schemas["PlatformEventType"]["enum"]) == platform
    assert "platformEvent" in found["channels"]["eventStream"]["messages"]
    ways = schemas["Delivery"]["properties"]["event"]["anyOf"]
    assert {"$ref": "#/components/schemas/PlatformEvent"} in ways
    assert set(schemas["EventType"]["enum"]) == {kind.value for kind in EventType}
    operations = found["operations"].values()
    channels = {operation["channel"]["$ref"].rsplit("/", 1)[1] for operation in operations}
    assert channels == set(found["channels"])
    for code in (1000, 1013, 4400, 4401, 4403, 4408, 4429):
        assert f"- {code}: " in found["channels"]["events"]["description"]


def test_it_opens_to_keys_and_the_front_page_leads_to_it() -> None:
    assert Client().get("/api/asyncapi.json").status_code == 401
    key = {"Authorization": f"Bearer {make_key()}"}
    answer = Client().get("/api/asyncapi.json", headers=key)
    assert answer.status_code == 200
    assert answer.json()["asyncapi"] == "3.1.0"
    assert b'href="/api/asyncapi.json"' in Client().get("/").content
