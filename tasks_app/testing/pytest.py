"""Fixtures for pytest; `pytest_plugins = ["tasks_app.testing.pytest"]` in the top conftest.

Snapshots of payload schemas are JSON files that belong into version control, one per task type, in
the directory `task_schemas` beside the test; `pytest --update-task-schemas` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks_app.registry import Handler, get_handler
from tasks_app.testing.run import Run
from tasks_app.testing.schemas import find_breaks

OPTION = "--update-task-schemas"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the option that writes the snapshots."""
    parser.getgroup("taskmill").addoption(
        OPTION, action="store_true", help="write the payload schemas that tests compare with"
    )


@pytest.fixture
def run_task() -> Callable[..., Run]:
    """Run one attempt of a registered task type: `run_task("orders.process", {"order": 1})`.

    Options are those of `tasks_app.testing.run_handler`. Unlike a test of the function this proves
    that the type is registered under its public name.
    """

    def run(task_type: str, payload: Any = None, **options: Any) -> Run:
        found: Run = get_handler(task_type).test_run(payload, **options)
        return found

    return run


class SchemaSnapshot:
    """Compares payload schemas with those committed in a directory.

    Args:
        directory: where `<type>.json` lie.
        is_updating: write them instead.
    """

    def __init__(self, directory: Path, *, is_updating: bool) -> None:
        self._directory = directory
        self._is_updating = is_updating

    def assert_compatible(self, declared: Handler) -> None:
        """Fail the test unless payloads of the committed schema still fit the handler."""
        path = self._directory / f"{declared.type}.json"
        schema = declared.payload_schema()
        if self._is_updating:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False)
            path.write_text(text + "\n", encoding="utf-8")
            return
        if not path.exists():
            pytest.fail(f"{path} is missing: run pytest {OPTION} and commit it", pytrace=False)
        breaks = find_breaks(json.loads(path.read_text(encoding="utf-8")), schema)
        if breaks:
            pytest.fail(_report(declared, breaks), pytrace=False)


def _report(declared: Handler, breaks: list[str]) -> str:
    lines = "\n".join(f"  {one}" for one in breaks)
    return (
        f"payloads that {declared.type} took are now refused:\n{lines}\n"
        f"Waiting tasks and old clients would fail. Keep the field, give it a default, or declare "
        f"a new task type; pytest {OPTION} accepts the change."
    )


@pytest.fixture
def task_schema_snapshot(request: pytest.FixtureRequest) -> SchemaSnapshot:
    """Guard the payload of a handler: `task_schema_snapshot.assert_compatible(render_report)`."""
    is_updating = bool(request.config.getoption(OPTION))
    return SchemaSnapshot(request.path.parent / "task_schemas", is_updating=is_updating)
