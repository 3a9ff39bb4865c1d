"""The Prometheus files shipped: well formed, and about figures that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks_app.metrics import metric_sources
from tasks_app.services.measuring import SOURCE_UP

PLACE = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
ALERTS: dict[str, Any] = yaml.safe_load((PLACE / "alerts.yml").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
METRICS = {one.name: one for source in metric_sources() for one in source.metrics}
METRICS[SOURCE_UP.name] = SOURCE_UP
USED = re.compile(r"\b(taskmill_\w+)\{(\w+)=")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_names_figures_and_labels_that_exist_and_says_what_to_do(
    rule: dict[str, Any],
) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Taskmill[A-Za-z]+", rule["alert"])
    assert re.fullmatch(r"\d+[sm]", rule["for"])
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "description"}
    named = re.findall(r"\btaskmill_\w+", rule["expr"])
    assert named or rule["alert"] == "TaskmillDown"
    assert set(named) <= METRICS.keys()
    for name, label in USED.findall(rule["expr"]):
        assert label in METRICS[name].labels
    grouped = re.findall(r"by \((\w+)\)", rule["expr"])
    assert all(any(label in METRICS[name].labels for name in named) for label in grouped)
    shown = re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))
    assert set(shown) <= set(grouped)
    assert rule["expr"].count("(") == rule["expr"].count(")")


def test_alerts_are_named_once_and_cover_what_operators_asked_for() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    [backlog] = [rule for rule in RULES if rule["alert"] == "TaskmillBacklog"]
    assert "> 10000" in backlog["expr"]
    assert backlog["for"] == "5m"
    asked = {"TaskmillQueueUnserved", "TaskmillDeadLetters"}
    asked |= {"TaskmillFeedLag", "TaskmillSinkLag", "TaskmillNoLeader", "TaskmillNoWorker"}
    assert asked <= set(names)


def test_the_example_of_a_scrape_reads_the_alerts_and_the_right_address() -> None:
    found = yaml.safe_load((PLACE / "prometheus.yml").read_text(encoding="utf-8"))
    assert found["rule_files"] == ["alerts.yml"]
    [job] = found["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    assert job["job_name"] == "taskmill"
    assert job["authorization"]["type"] == "Bearer"
