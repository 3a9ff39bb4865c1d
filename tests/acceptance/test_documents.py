"""The words of the README and the tutorial are run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.installations import Installation
from tests.processes import ROOT

README = ROOT / "README.md"
SCHEDULES = ROOT / "docs" / "how-to" / "schedule-tasks.md"
DEAD_LETTERS = ROOT / "docs" / "how-to" / "handle-dead-letters.md"
WAITING = ROOT / "docs" / "how-to" / "explain-waiting-tasks.md"
ADMISSION = ROOT / "docs" / "how-to" / "limit-and-deduplicate-submissions.md"
SHARES = ROOT / "docs" / "how-to" / "share-a-queue-fairly.md"
QUEUES = ROOT / "docs" / "how-to" / "steer-queues.md"
LIMITS = ROOT / "docs" / "how-to" / "limit-concurrency-and-rate.md"
TUTORIAL = ROOT / "docs" / "tutorial" / "your-first-task.md"


def blocks(page: Path, language: str) -> list[str]:
    """Give the fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.M | re.S)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A platform with the tutorial's app installed."""
    apps = tmp_path_factory.mktemp("apps")
    shop = apps / "shop"
    shop.mkdir()
    (shop / "__init__.py").touch()
    (shop / "handlers.py").write_text(blocks(TUTORIAL, "python")[0])
    made = Installation(TASKMILL_APPS="shop", PYTHONPATH=str(apps))
    try:
        made.start()
        yield made
    finally:
        made.end()
        made.remove()


def shell(installation: Installation, script: str) -> list[Any]:
    """Run a script as a reader would, in the checkout; gives the JSON values that it printed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=os.environ | installation.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "["))]


def test_the_readme_s_screen_of_curl_does_what_it_says(installation: Installation) -> None:
    script = next(block for block in blocks(README, "sh") if "make -s env" in block)
    submitted, waited, kept, seen, cancelled, events, listed, stats = shell(installation, script)
    assert submitted["status"] == "pending"
    assert submitted["priority"] == 5
    assert waited["status"] == "success"
    assert waited["result"] == {"hello": "world"}
    assert seen["id"] == kept["id"]
    assert cancelled["id"] == kept["id"]
    assert cancelled["status"] in {"processing", "cancelled"}
    assert events["results"][0]["type"] == "task.created"
    assert any(event["type"].startswith("task.cancel") for event in events["results"])
    assert [task["status"] for task in listed["results"]] == ["success"]
    assert stats


def test_the_tutorial_s_handler_runs_and_its_payload_is_checked(
    installation: Installation,
) -> None:
    curl = next(block for block in blocks(TUTORIAL, "sh") if "shop.pack" in block)
    enter = 'eval "$(make -s env)"\n'
    [task] = shell(installation, enter + curl)
    assert task["result"] == {"packed": 2}
    [refused] = shell(installation, enter + curl.replace('"items": ["cup", "tea"]', ""))
    assert refused["status"] == 422
    assert refused["errors"][0]["pointer"] == "/payload/items"


def test_the_guide_s_curl_for_schedules_does_what_it_says(installation: Installation) -> None:
    [curl] = blocks(SCHEDULES, "sh")
    preview, changed, run, paused, resumed, firings, listed, refused = shell(installation, curl)
    assert preview["results"][0]["local"] == "2027-03-28T03:00:00+02:00"
    assert preview["results"][0]["note"]
    assert (changed["cron"], changed["interval_seconds"]) == (None, 3600.0)
    assert (paused["status_reason"], resumed["status"]) == ("stocktaking", "active")
    assert firings["results"][0]["task_id"] == run["task_id"]
    assert "demo.nightly" in {row["key"] for row in listed["results"]}
    assert (refused["status"], refused["errors"][0]["pointer"]) == (422, "/cron")


def test_the_readme_s_handler_can_be_declared_and_run() -> None:
    [code] = blocks(README, "python")
    check = """
run = process_order.test_run({"order_id": 3})
assert run.state == "success", run
assert run.result == {"items": 3}
assert process_order.test_run({"order_id": 0}).error.code == "NOT_FOUND"
"""
    setup = "import django\ndjango.setup()\n"
    done = subprocess.run(
        [sys.executable, "-c", setup + code + check],
        cwd=ROOT,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_page_on_queues_steers_a_queue(installation: Installation) -> None:
    answers = shell(installation, "\n".join(blocks(QUEUES, "sh")))
    made, changed, listed, shown, paused, submitted, tasks, resumed, failed, retried, cleaned = (
        answers
    )
    assert (made["name"], made["concurrency"], made["max_retry"]) == ("reports", 4, 1)
    assert (changed["order"], changed["concurrency"]) == ("newest", None)
    assert "reports" in {one["name"] for one in listed["results"]}
    assert shown["name"] == "reports"
    assert (paused["is_paused"], paused["pause_reason"]) == (True, "the printer is on fire")
    assert submitted["process_timeout"] == 120
    assert [one["state"] for one in tasks["results"]] == ["queued"]
    assert resumed["is_paused"] is False
    assert failed["results"] == []
    assert (retried, cleaned) == ({"count": 0}, {"count": 0})


def test_the_page_on_sharing_names_fair_keys_and_the_ageing_of_a_queue(
    installation: Installation,
) -> None:
    one, other, made, changed, *reserved = shell(installation, "\n".join(blocks(SHARES, "sh")))
    assert [one["fair_key"], other["fair_key"]] == ["customer-17", "customer-18"]
    assert (made["ageing_seconds"], changed["ageing_seconds"]) == (600, 30)
    assert [queue["max_share"] for queue in reserved] == [75, 75, None]


def test_the_page_on_limits_limits_a_key_and_a_type(installation: Installation) -> None:
    pinned, ran, held, shown, lifted, limited, free = shell(
        installation, "\n".join(blocks(LIMITS, "sh"))
    )
    assert (pinned["concurrency"], pinned["limit"], pinned["rate"]) == (3, 3, "1/h")
    assert ran["status"] == "success"
    assert held["status"] == "pending"
    assert (shown["waiting"], shown["holders"], shown["limit"]) == (1, [], 3)
    assert shown["rate_until"] is not None
    assert (lifted["concurrency"], lifted["rate"]) == (None, None)
    assert (limited["limits"]["concurrency"], limited["limits"]["rate"]) == (50, "6000/min")
    assert (free["limits"]["concurrency"], free["limits"]["rate"]) == (None, None)


def test_the_handler_on_the_page_on_limits_can_be_declared() -> None:
    [code] = blocks(LIMITS, "python")
    declared: dict[str, Any] = {}
    exec(code, declared)
    options = declared["print_letter"].options
    assert (options.concurrency, str(options.rate)) == (2, "100/15min")


def test_the_page_on_dead_letters_retries_and_purges_them(installation: Installation) -> None:
    answers = shell(installation, "\n".join(blocks(DEAD_LETTERS, "sh")))
    tasks, (grouped, listed, refused, retried, begun, shown, aborted, kept, purged) = (
        answers[:3],
        answers[3:],
    )
    assert {one["status"] for one in tasks} == {"failed"}
    [group] = grouped["results"]
    assert (group["count"], group["code"]) == (3, "SERVICE_UNAVAILABLE")
    assert group["frame"] == "tasks_app/handlers.py in flaky"
    assert [one["id"] for one in listed["results"]] == [one["id"] for one in tasks[::-1]]
    assert (refused["status"], refused["errors"][0]["pointer"]) == (422, "/payload/failures")
    assert (retried["id"], retried["payload"]) == (group["sample_id"], {"failures": 0})
    assert (begun["state"], begun["total"]) == ("running", 2)
    assert (shown["id"], shown["wanted"]) == (begun["id"], {"group_id": group["id"]})
    assert (aborted["state"], aborted["retried"] <= 1) == ("aborted", True)
    assert (kept, purged["count"] >= 1) == ({"count": 0}, True)


def test_the_page_on_waiting_tasks_explains_one(installation: Installation) -> None:
    answers = shell(installation, "\n".join(blocks(WAITING, "sh")))
    _, paused, first, second, listed, early, resumed, board = answers
    assert paused["is_paused"] is True
    (why, behind) = second["waiting"]
    assert (why["reason"], why["pause_reason"]) == ("queue_paused", "out of paper")
    assert behind == {"reason": "behind", "position": 1, "estimated_start": None}
    assert {one["id"] for one in listed["results"]} == {first["id"], second["id"]}
    assert (early["results"], resumed["is_paused"]) == ([], False)
    assert (board["name"], board["is_unserved"]) == ("letters", False)


def test_the_page_on_submissions_limits_and_deduplicates(installation: Installation) -> None:
    bounded, first, second, refused, changed, *rest = shell(
        installation, "\n".join(blocks(ADMISSION, "sh"))
    )
    assert (bounded["max_waiting"], changed["max_submissions_per_minute"]) == (2, 600)
    assert (first["state"], second["state"]) == ("scheduled", "scheduled")
    assert (refused["status"], refused["code"]) == (429, "quota_exceeded")
    assert (refused["quota"], refused["limit"], refused["used"]) == ("max_waiting", 2, 2)
    bound, seen, free, held, again, rejected, latest, mailed, unmailed, typed, typed_again = rest
    assert bound["max_waiting"]["limit"] == seen["max_waiting"]["limit"] == 100_000
    assert seen["max_waiting"]["used"] >= 2
    assert {one["limit"] for one in free.values()} == {None}
    assert again["id"] == held["id"]
    assert (rejected["status"], rejected["task_id"]) == (409, held["id"])
    assert (latest["state"], latest["payload"]) == ("scheduled", {"n": 4})
    assert unmailed["id"] == mailed["id"]
    assert (typed_again["id"], typed_again["payload"]) == (typed["id"], {"text": "Hello"})


def test_the_tutorial_s_first_task_succeeds_and_its_second_is_cancelled(
    installation: Installation,
) -> None:
    start, look, cancel = (
        next(block for block in blocks(TUTORIAL, "sh") if words in block)
        for words in ('"example"', "limit=1", "DELETE")
    )
    script = f"{start}\necho\n{look}\necho\n{cancel}".replace("\ncurl", "\necho; curl")
    submitted, listed, asked, stopped = shell(installation, script)
    assert (submitted["type"], submitted["status"]) == ("example", "pending")
    assert [one["id"] for one in listed["results"]] == [submitted["id"]]
    assert asked["status"] in {"processing", "cancelled"}
    assert stopped["status"] in {"processing", "cancelled"}
    ended = 'eval "$(make -s env)"\ncurl -sS -H "Authorization: Bearer $TASKMILL_TOKEN" '
    ended += f'-H "Prefer: wait=10" "$TASKMILL_URL/api/v1/tasks/{stopped["id"]}"'
    assert shell(installation, ended)[0]["status"] == "cancelled"
