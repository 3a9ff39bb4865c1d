"""The pages on Celery's and Django's tasks, as a reader would follow them: their files in an app of
one's own, an engine and a worker, the calls from another process.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tasks_app.models import Task
from tasks_app.models.history import Event
from tests.engines import start_engine
from tests.factories import make_tenant
from tests.feeding import FINISHED
from tests.processes import ROOT, process_environment, running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)
FILE = re.compile(r"^```python (shop/\w+\.py)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@contextmanager
def followed(page: str, directory: Path, **variables: str) -> Iterator[dict[str, str]]:
    """Lay the files of a page down and run the platform with them; gives the environment."""
    make_tenant("default")
    for name, text in FILE.findall((ROOT / "docs" / "how-to" / page).read_text()):
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    variables |= {"PYTHONPATH": str(directory), "TASKMILL_APPS": "shop"}
    engine = start_engine(**variables)
    try:
        with running_worker(**variables):
            yield variables
    finally:
        engine.stop()


def called(code: str, variables: dict[str, str]) -> Any:
    """Run code in a process of its own; gives the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", code],
        cwd=ROOT,
        env={**os.environ, **process_environment(**variables)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ended(task_id: str) -> Task:
    def look() -> Task | None:
        row = Task.objects.get(id=uuid.UUID(task_id))
        return row if row.state in FINISHED else None

    found = wait_for(look, seconds=40)
    assert found is not None
    return found


def test_the_tasks_of_a_celery_app_are_tracked_without_a_change(
    valkey: Any, tmp_path: Path
) -> None:
    code = (
        "import json; from shop.orders import order_paid\n"
        "print(json.dumps([one.id for one in order_paid(7)]))\n"
    )
    read = (
        "import json; from celery.result import AsyncResult\n"
        "print(json.dumps([AsyncResult({!r}).state, AsyncResult({!r}).get()]))\n"
    )
    with followed("move-from-celery.md", tmp_path, TASKMILL_ADOPT="shop.tasks") as variables:
        export, receipt = called(code, variables)
        row = ended(export)
        assert (row.type, row.state) == ("celery.shop.tasks.export_orders", "success")
        assert (row.attempt, row.result) == (2, {"orders": 1, "task": export})
        assert "task.progress" in Event.objects.filter(task_id=export).values_list(
            "type", flat=True
        )
        row = ended(receipt)
        assert (row.type, row.queue, row.result) == ("receipts.send", "mail", "receipt 7")
        assert called(read.format(receipt, receipt), variables) == ["SUCCESS", "receipt 7"]


def test_tasks_of_django_s_framework_are_enqueued_and_read(valkey: Any, tmp_path: Path) -> None:
    code = (
        "import json; from shop.signup import sign_up\n"
        "print(json.dumps([one.id for one in sign_up(7)]))\n"
    )
    known = (
        "import json; from tasks_app.registry import all_handlers\n"
        "print(json.dumps([one.type for one in all_handlers()]))\n"
    )
    read = (
        "import json; from shop.tasks import welcome\n"
        "found = welcome.get_result({!r})\n"
        "print(json.dumps([found.status, found.return_value, found.attempts]))\n"
    )
    with followed("use-django-tasks.md", tmp_path) as variables:
        assert "django.shop.tasks.welcome" in called(known, variables)
        greeting, report = called(code, variables)
        row = ended(greeting)
        assert (row.type, row.queue, row.priority) == ("django.shop.tasks.welcome", "mail", 10)
        row = ended(report)
        assert (row.result, row.priority) == ({"attempt": 1, "letters": 6}, -5)
        found = called(read.format(greeting), variables)
        assert found == ["SUCCESSFUL", "welcome, 7", 1]
