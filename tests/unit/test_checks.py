"""System checks: each configuration fault has its id, and the defaults have none."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks

from tasks_app import checks
from tasks_app.conf import TasksConf


def test_the_defaults_are_sound_and_the_checks_are_registered() -> None:
    found = TasksConf()
    assert checks.check_lease(found) + checks.check_grace(found) + checks.check_window(found) == []
    assert [one for one in run_checks() if one.id.startswith("taskmill.E")] == []


@pytest.mark.parametrize(
    ("check", "value", "identity"),
    [
        (checks.check_lease, TasksConf(lease_seconds=3, lease_margin_seconds=2), "taskmill.E001"),
        (checks.check_grace, TasksConf(kill_grace_seconds=60), "taskmill.W001"),
        (checks.check_window, TasksConf(window_least=9, window_most=8), "taskmill.E002"),
        (checks.check_rate_limit, "fast", "taskmill.E003"),
        (checks.check_rate_limit, "0/second", "taskmill.E003"),
        (checks.check_queues, ["good", "Not Good"], "taskmill.E004"),
        (checks.check_environment, "li_ve", "taskmill.E005"),
        (checks.check_metrics_access, "opne", "taskmill.E006"),
        (checks.check_hosts, ["example.org", "*"], "taskmill.W002"),
        (checks.check_names, {"TASKMILL_QEUES": "TASKMILL_QUEUES"}, "taskmill.W003"),
    ],
)
def test_a_fault_has_its_id_and_a_hint(check: Any, value: Any, identity: str) -> None:
    (found,) = check(value)
    assert found.id == identity
    assert found.hint


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (checks.check_rate_limit, ""),
        (checks.check_rate_limit, "6000/minute"),
        (checks.check_queues, ["default", "orders.eu-1"]),
        (checks.check_environment, "staging2"),
        (checks.check_hosts, ["example.org"]),
    ],
)
def test_a_sound_value_passes(check: Any, value: Any) -> None:
    assert check(value) == []
