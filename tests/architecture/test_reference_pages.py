"""The reference pages say what the code does."""

from __future__ import annotations

import dataclasses
import inspect
import runpy
from pathlib import Path
from typing import Any

import pytest

from tasks_app import errors
from tasks_app.events import FINAL_EVENT_OF_STATE, EventType
from tasks_app.states import FINISHED, State, Verb, status_of

ROOT = Path(__file__).resolve().parent.parent.parent
GENERATOR: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "generate.py"))
PAGES: dict[Path, str] = GENERATOR["pages"]()
SETTINGS: list[Any] = [kind for _, kind, _ in GENERATOR["SETTINGS"]]
ERRORS: list[type[errors.TaskmillError]] = GENERATOR["error_classes"]()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_generated_page_is_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PAGES[path], "run `make docs`"


def test_the_page_of_states_names_every_state_with_its_status() -> None:
    text = (ROOT / "docs" / "reference" / "states.md").read_text(encoding="utf-8")
    for state in State:
        assert f"| {state} | {status_of(state)} |" in text
    for verb in Verb:
        assert f"| {verb} |" in text


def test_every_error_has_a_docstring_of_its_own_and_a_code_of_its_own() -> None:
    assert [one for one in ERRORS if not inspect.cleandoc(one.__dict__.get("__doc__") or "")] == []
    codes = [one.code for one in ERRORS if "code" in one.__dict__]
    assert len(codes) == len(set(codes))
    inherited = [one for one in ERRORS if "code" not in one.__dict__]
    assert inherited == []


def test_the_default_message_of_an_error_is_the_first_line_of_its_docstring() -> None:
    for one in ERRORS:
        assert str(one()) == (one.__doc__ or "").strip().split("\n")[0]


def test_request_errors_are_client_errors_and_infrastructure_errors_can_be_repeated() -> None:
    for one in ERRORS:
        if issubclass(one, errors.RequestError):
            assert 400 <= one.http_status < 500
        if issubclass(one, errors.InfrastructureError):
            assert one.is_retryable
            assert one.http_status == 503


def test_every_setting_says_what_it_means_and_its_default_is_within_its_bounds() -> None:
    for item in (item for kind in SETTINGS for item in dataclasses.fields(kind)):
        assert item.metadata["doc"].endswith("."), item.name
        least, most = item.metadata["least"], item.metadata["most"]
        if least is not None:
            assert least <= item.default <= most, item.name


def test_every_final_state_has_its_event() -> None:
    assert set(FINAL_EVENT_OF_STATE) == {state.value for state in FINISHED}
    assert set(FINAL_EVENT_OF_STATE.values()) <= set(EventType)
