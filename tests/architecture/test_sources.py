"""Rules of the source tree that no other tool enforces."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("config", "tasks_app", "notifications", "scheduler", "client")
MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_FUNCTION = 50
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
STATE_WRITE = re.compile(
    r"UPDATE\s+taskmill_task\b.*?\bSET\b(?P<set>.*?)(\bWHERE\b|\bFROM\b|$)", re.S
)


def sources() -> list[Path]:
    """Every module of the product but the migrations."""
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return sorted(path for path in found if "migrations" not in path.parts)


def test_the_layers_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "client")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_no_module_is_called_for_nothing_in_particular() -> None:
    assert [path for path in sources() if path.stem in BANNED_NAMES] == []


def test_no_file_is_longer_than_five_hundred_lines() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {path: n for path, n in lengths.items() if n > MOST_LINES_OF_A_FILE} == {}


def test_no_function_is_longer_than_fifty_lines() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and _lines_of_code(node) > MOST_LINES_OF_A_FUNCTION
    ]
    assert too_long == []


def _lines_of_code(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From `def` to the end, without the docstring."""
    first = node.body[0]
    is_documented = ast.get_docstring(node) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if is_documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


def _writes_state(text: str) -> bool:
    """Whether a text holds SQL that sets the state of a task, or inserts or deletes one."""
    if re.search(r"INSERT\s+INTO\s+taskmill_task\b", text):
        return True
    return any(re.search(r"\bstate\s*=", found["set"]) for found in STATE_WRITE.finditer(text))


def _orm_writes(tree: ast.AST) -> Iterator[int]:
    """Lines that save, create or update tasks through the ORM, or assign to a `.state` of a row."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            is_write = node.func.attr in {"create", "bulk_create", "update", "get_or_create"}
            if is_write and re.search(r"\bTask\.objects\b", ast.unparse(node.func)):
                yield node.lineno
            if node.func.attr in {"update", "bulk_update"} and any(
                keyword.arg == "state" for keyword in node.keywords
            ):
                yield node.lineno


@pytest.mark.parametrize(
    "path",
    [path for path in sources() if "transitions" not in path.parts],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_only_the_transitions_write_the_state_of_a_task(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not _writes_state(text)
    assert list(_orm_writes(ast.parse(text))) == []


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE taskmill_task SET state = 'queued' WHERE id = 1",
        "UPDATE taskmill_task t SET priority = 1,\n   state = CASE WHEN true THEN 'x' END FROM y",
        "INSERT INTO taskmill_task (id) VALUES (1)",
    ],
)
def test_the_scan_sees_a_write_of_the_state(text: str) -> None:
    assert _writes_state(text)


def test_the_scan_lets_other_columns_pass() -> None:
    assert not _writes_state("UPDATE taskmill_task SET progress = 1 WHERE state = 'running'")


def test_the_transitions_are_found_by_the_scan() -> None:
    written = {
        path.stem
        for path in sources()
        if "transitions" in path.parts and _writes_state(path.read_text(encoding="utf-8"))
    }
    assert {"working", "dispatching", "operating", "recovering", "submitting"} <= written


def test_tasks_and_what_hangs_on_them_are_deleted_in_one_place() -> None:
    deleting = re.compile(r"DELETE\s+FROM\s+taskmill_(task|attempt|once)\b")
    found = [path.stem for path in sources() if deleting.search(path.read_text(encoding="utf-8"))]
    assert found == ["purging"]


def test_only_the_environment_module_reads_the_environment() -> None:
    client = ROOT / "client" / "taskmill_client" / "configuration.py"
    allowed = {ROOT / "config" / "env.py", client}
    reading = re.compile(r"\bos\.(environ|getenv)\b")
    assert [
        path
        for path in sources()
        if path not in allowed
        and "noqa: TID251" not in path.read_text(encoding="utf-8")
        and reading.search(path.read_text(encoding="utf-8"))
    ] == []
