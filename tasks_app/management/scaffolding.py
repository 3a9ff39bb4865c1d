"""The files with which a new task type begins: a handler and its test."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_IMPORTS: Final = '''"""Task types of this app."""

from __future__ import annotations

from pydantic import BaseModel, Field

from tasks_app.public import TaskContext, handler
'''

_HANDLER: Final = '''

class {name}Payload(BaseModel):
    """What a task of the type {type} is given."""

    items: list[str] = Field(max_length=1000, description="What to go through.")


class {name}Result(BaseModel):
    """What it gives back."""

    done: int


@handler("{type}", timeout=600)
def {function}(payload: {name}Payload, ctx: TaskContext) -> {name}Result:
    """Say here in one sentence what the task does; clients read it."""
    done = 0
    for item in ctx.track(payload.items, message="{{current}} of {{total}}"):
        ctx.log("item done", item=item)
        done += 1
    return {name}Result(done=done)
'''

_TEST: Final = '''"""The task type {type}."""

from __future__ import annotations

import pytest

from {app}.handlers import {function}
from tasks_app.public import ValidationFailed


def test_it_goes_through_its_items() -> None:
    run = {function}.test_run({{"items": ["a", "b"]}})
    assert run.state == "success", run.error
    assert run.result == {{"done": 2}}
    assert run.progress[-1].percent == 100


def test_it_stops_when_it_is_cancelled() -> None:
    assert {function}.test_run({{"items": ["a", "b"]}}, cancel_after=2).state == "cancelled"


def test_a_payload_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValidationFailed):
        {function}.test_run({{}})
'''


def handler_code(task_type: str, *, has_imports: bool = True) -> str:
    """Give the source of a handler, for a new module or for one that is there."""
    function = function_of(task_type)
    name = "".join(word.capitalize() for word in function.split("_"))
    code = _HANDLER.format(type=task_type, function=function, name=name)
    return _IMPORTS + code if has_imports else code.lstrip("\n")


def test_code(task_type: str, *, app: str) -> str:
    """Give the source of its test, which imports it from the `handlers` of the package `app`."""
    return _TEST.format(type=task_type, function=function_of(task_type), app=app)


def function_of(task_type: str) -> str:
    """Give the name of the function: `render_report` for `reports.render-report`."""
    return task_type.rpartition(".")[2].replace("-", "_")


def write_new(files: dict[Path, str]) -> None:
    """Write files; none where one is there already.

    Raises:
        FileExistsError: its argument is the file.
    """
    for path in files:
        if path.exists():
            raise FileExistsError(path)
    for path, text in files.items():
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
