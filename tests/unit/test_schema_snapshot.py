"""The schema snapshot: which changes of a payload it refuses, and how its fixture behaves."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, TypeAdapter, create_model

from tasks_app.testing.schemas import find_breaks

pytest_plugins = ["pytester"]


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Line(BaseModel):
    sku: str
    count: int = 1


class Fewer(BaseModel):
    sku: str


class Stricter(BaseModel):
    sku: str
    count: int


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


def schema(**fields: Any) -> dict[str, Any]:
    return create_model("Payload", **fields).model_json_schema()


OLD = schema(order=(int, ...), note=(str, ""))


@pytest.mark.parametrize(
    ("old", "new", "breaks"),
    [
        (OLD, OLD, []),
        (OLD, schema(order=(int, ...), note=(str, ""), colour=(str, "red")), []),
        (OLD, schema(order=(int, 1), note=(str, "")), []),
        (OLD, schema(order=(int | str, ...), note=(str | None, "")), []),
        (OLD, schema(order=(float, ...), note=(str, "")), []),
        (OLD, schema(order=(int, ...)), ["payload.note is gone"]),
        (OLD, schema(order=(int, ...), note=(str, ...)), ["payload.note is newly required"]),
        (
            OLD,
            schema(order=(int, ...), note=(str, ""), colour=(str, ...)),
            ["payload.colour is newly required"],
        ),
        (OLD, schema(order=(str, ...), note=(str, "")), ["payload.order no longer takes integer"]),
        (
            schema(order=(int | None, None)),
            schema(order=(int, 1)),
            ["payload.order no longer takes null"],
        ),
        (
            schema(format=(Literal["pdf", "xlsx"], "pdf")),
            schema(format=(Literal["pdf"], "pdf")),
            ["payload.format no longer takes 'xlsx'"],
        ),
        (schema(format=(Literal["pdf"], "pdf")), schema(format=(str, "pdf")), []),
        (
            schema(colour=(Colour, "red")),
            schema(colour=(Literal["red"], "red")),
            ["payload.colour no longer takes 'blue'"],
        ),
        (schema(lines=(list[Line], [])), schema(lines=(list[Line], [])), []),
        (
            schema(lines=(list[Line], [])),
            schema(lines=(list[Stricter], [])),
            ["payload.lines[].count is newly required"],
        ),
        (
            schema(line=(Line, ...)),
            schema(line=(Fewer | None, None)),
            ["payload.line.count is gone"],
        ),
        (schema(line=(Line, ...)), schema(line=(Line | None, None)), []),
        (Tree.model_json_schema(), Tree.model_json_schema(), []),
        (TypeAdapter(dict[str, int]).json_schema(), TypeAdapter(dict[str, int]).json_schema(), []),
    ],
)
def test_a_change_is_refused_only_where_an_old_payload_would_be(
    old: dict[str, Any], new: dict[str, Any], breaks: list[str]
) -> None:
    assert find_breaks(old, new) == breaks


HANDLER = """
from pydantic import BaseModel
from tasks_app.registry import handler

class Order(BaseModel):
    order: int
    {field}

@handler("shop.order")
def order(payload: Order) -> int:
    return payload.order

def test_payload_stays_compatible(task_schema_snapshot):
    task_schema_snapshot.assert_compatible(order)

def test_the_type_runs(run_task):
    assert run_task("shop.order", {{"order": 3, "note": "now"}}).result == 3
"""


class Project:
    """A handler author's project with one test file."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        self.snapshot: Path = pytester.path / "task_schemas" / "shop.order.json"

    def run(self, field: str, *options: str) -> pytest.RunResult:
        self._pytester.makepyfile(test_order=HANDLER.format(field=field))
        self._pytester.makeconftest('pytest_plugins = ["tasks_app.testing.pytest"]')
        return self._pytester.runpytest_subprocess(
            "--ds=config.settings", "-W", "error", "-p", "no:cacheprovider", *options
        )


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return Project(pytester)


def test_the_fixture_guards_a_payload_from_its_first_snapshot_on(project: Project) -> None:
    first = project.run("note: str = ''")
    first.assert_outcomes(passed=1, failed=1)
    first.stdout.fnmatch_lines(["*shop.order.json is missing: run pytest --update-task-schemas*"])

    project.run("note: str = ''", "--update-task-schemas").assert_outcomes(passed=2)
    assert '"order"' in project.snapshot.read_text(encoding="utf-8")
    broken = project.run("colour: str")
    broken.assert_outcomes(failed=2)
    broken.stdout.fnmatch_lines(["*payload.note is gone*", "*payload.colour is newly required*"])
