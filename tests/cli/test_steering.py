"""Queues, schedules, many tasks at once, the doctor, raw calls, completion, webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable

import pytest

from tests.cli.shell import Shell
from tests.processes import wait_for
from tests.receivers import receiver

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()


@pytest.fixture
def tag() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


def test_a_queue_is_paused_seen_paused_and_resumed(taskmill: Shell, tag: str) -> None:
    task = taskmill.ok("submit", "demo.echo", "--queue", tag, "--delay", "1h", "-q").out.strip()
    taskmill.ok("queues", "pause", tag, "--reason", "moving house")
    rows = {one["name"]: one for one in taskmill.ok("queues", "ls", "--json").json_lines}
    assert rows[tag]["pause_reason"] == "moving house"
    assert f"{tag}\tpaused\t1" in taskmill.ok("queues", "ls").out
    assert taskmill.ok("queues", "resume", tag, "--json").json["is_paused"] is False
    taskmill.ok("cancel", task)


def test_many_are_retried_by_a_filter_counted_first_and_never_unasked(
    taskmill: Shell, tag: str
) -> None:
    ids = [taskmill.ok("submit", "demo.fail", "--tag", tag, "-q").out.strip() for _ in range(3)]
    assert taskmill.run("wait", *ids).code == 3
    given = ("retry", "--filter", f"status:failed tag:{tag}")
    assert "would retry: 3 tasks" in taskmill.ok(*given, "--dry-run").err
    done = taskmill.run(*given)
    assert (done.code, done.out) == (2, "")
    assert "--yes" in done.err
    shown = taskmill.on_terminal(*given, keys={"Retry 3 tasks": "n\n"})
    assert (shown.code, "nothing was done" in shown.text) == (1, True)
    versions = {one: taskmill.ok("get", one, "--json").json["version"] for one in ids}
    assert sorted(taskmill.ok(*given, "--yes", "-q").lines) == sorted(ids)
    assert taskmill.run("wait", *ids).code == 3
    for one, version in versions.items():
        assert taskmill.ok("get", one, "--json").json["version"] > version


def test_many_are_cancelled_by_a_filter_and_finished_ones_are_left(
    taskmill: Shell, tag: str
) -> None:
    given = ("demo.echo", "--tag", tag, "--delay", "1h", "-q")
    ids = [taskmill.ok("submit", *given).out.strip() for _ in range(2)]
    done = taskmill.ok("submit", "demo.echo", "--tag", tag, "--wait", "-q").out.strip()
    assert taskmill.ok("cancel", "--filter", f"tag:{tag}", "--yes").err.endswith("2 of 2 done\n")
    assert taskmill.ok("ls", "--tag", tag, "-s", "cancelled", "-q").lines == ids[::-1]
    assert taskmill.ok("get", done, "--json").json["status"] == "success"


def test_tasks_are_run_again_as_new_ones(taskmill: Shell, tag: str) -> None:
    given = ("-p", "n=1", "--tag", tag, "--wait", "-q")
    old = [taskmill.ok("submit", "demo.echo", *given).out.strip() for _ in range(2)]
    [new] = taskmill.ok("rerun", old[0], "-q").lines
    assert taskmill.ok("wait", new).code == 0
    again = taskmill.ok("get", new, "--json").json
    assert (again["retry_of"], again["payload"], again["tags"]) == (old[0], {"n": 1}, [tag])
    done = taskmill.ok("rerun", *old, "-p", "m=2")
    assert done.err.endswith("2 of 2 done\n")
    news = [line.split("\t")[0] for line in done.lines]
    shown = [taskmill.ok("get", one, "--json").json for one in news]
    assert [one["retry_of"] for one in shown] == old
    assert [one["payload"] for one in shown] == [{"m": 2}, {"m": 2}]
    assert taskmill.ok("rerun", old[0], "-f", "-", "--json", stdin='{"k": 3}').json["payload"] == {
        "k": 3
    }
    assert len(taskmill.ok("ls", "--tag", tag, "-q").lines) == 6
    assert taskmill.ok("get", old[0], "--json").json["status"] == "success"


def test_what_cannot_be_run_again_is_told_and_keeps_no_other_from_it(
    taskmill: Shell, tag: str
) -> None:
    old = taskmill.ok("submit", "demo.echo", "--tag", tag, "--wait", "-q").out.strip()
    nobody = str(uuid.uuid4())
    done = taskmill.run("rerun", nobody, old, "-q")
    assert (done.code, len(done.lines)) == (7, 1)
    assert nobody in done.err
    assert taskmill.run("rerun", "x").code == 2
    assert taskmill.run("rerun").code == 2
    refused = taskmill.run("rerun", old, "-f", "-", stdin="{")
    assert (refused.code, refused.out) == (2, "")
    assert len(taskmill.ok("ls", "--tag", tag, "-q").lines) == 2


def test_several_tags_mean_all_of_them(taskmill: Shell, tag: str) -> None:
    given = ("submit", "demo.echo", "--delay", "1h", "-q", "--tag")
    both = taskmill.ok(*given, tag, "--tag", "a,b").out.strip()
    other = taskmill.ok(*given, tag).out.strip()
    stranger = taskmill.ok(*given, "a,b").out.strip()
    assert taskmill.ok("ls", "--tag", tag, "--tag", "a,b", "-q").lines == [both]
    assert taskmill.ok("ls", "--filter", f"tag:{tag}", "--tag", "a,b", "-q").lines == [both]
    assert taskmill.ok("ls", "--tag", tag, "-q").lines == [other, both]
    terms = ("cancel", "--filter", f"tag:{tag} tag:a,b")
    told = taskmill.ok(*terms, "--dry-run").err
    assert f"would cancel: 1 tasks (tag:{tag} tag:a,b" in told
    assert taskmill.ok(*terms, "--yes", "-q").lines == [both]
    taskmill.ok("cancel", other, stranger)


def test_a_schedule_is_found_by_its_key_run_paused_and_resumed(taskmill: Shell, tag: str) -> None:
    rule = ("-p", f"key={tag}", "-p", "type=demo.echo", "-p", "cron=0 3 1 1 *")
    made = taskmill.ok("api", "POST", "/schedules", *rule).json
    task = taskmill.ok("schedules", "run", tag, "-q").out.strip()
    assert taskmill.run("wait", task).code == 0
    assert taskmill.ok("schedules", "pause", tag, "--json").json["status"] == "paused"
    assert f"{made['id']}\t{tag}\tdemo.echo\tpaused" in taskmill.ok("schedules", "ls").out
    assert "active" in taskmill.ok("schedules", "resume", made["id"]).err


def test_types_workers_and_numbers_are_shown(taskmill: Shell) -> None:
    assert "demo.slow" in taskmill.ok("types", "ls", "-q").lines
    assert "steps\tinteger" in taskmill.ok("types", "show", "example").out
    assert taskmill.ok("workers", "ls", "--json").json_lines[0]["slots"] == 2
    assert "success" in taskmill.ok("stats").out
    assert taskmill.ok("stats", "--window", "1h", "--json").json["window"] == "1h"


def test_the_doctor_names_scopes_and_parts(taskmill: Shell, make_token: Callable[..., str]) -> None:
    taskmill.variables["TASKMILL_TOKEN"] = make_token("tasks:read", "tasks:cancel")
    done = taskmill.run("doctor", "--json")
    assert done.code == 0
    found = {(one["check"], one["status"]): one["detail"] for one in done.json_lines}
    assert found["scopes", "ok"] == "has tasks:read, tasks:cancel"
    assert "queues:write" in found["scopes", "warning"]
    assert "tasks:submit" in found["scopes", "warning"]
    assert found["workers", "ok"] == "1 online, 2 slots"
    assert ("clock", "ok") in found
    taskmill.variables["TASKMILL_TOKEN"] = "tm_live_wrong"
    assert taskmill.run("doctor").code == 6


def test_the_doctor_changes_nothing(taskmill: Shell) -> None:
    def seen() -> tuple[int, int]:
        tasks = taskmill.ok("api", "GET", "/tasks?count=true&limit=1").json["count"]
        return tasks, len(taskmill.ok("queues", "ls").lines)

    before = seen()
    taskmill.ok("doctor")
    assert seen() == before


def test_any_call_of_the_api_can_be_made(taskmill: Shell) -> None:
    body = json.dumps({"type": "demo.echo", "payload": {"n": 1}})
    task = taskmill.ok("api", "POST", "/tasks", "-f", "-", stdin=body).json
    taskmill.ok("wait", task["id"])
    read = taskmill.ok("api", "GET", f"/api/v1/tasks/{task['id']}/result")
    assert read.json == {"n": 1}
    assert taskmill.run("api", "GET", "/nowhere").code in {7, 9}
    assert "did you mean GET?" in taskmill.run("api", "GTE", "/tasks").err


def test_a_shell_completes_types_queues_and_ids_and_asks_once_a_minute(taskmill: Shell) -> None:
    script = taskmill.ok("completion", "bash").out
    assert "_TASKMILL_COMPLETE=complete_bash" in script
    taskmill.variables["_TASKMILL_COMPLETE"] = "complete_bash"

    def completed(line: str) -> list[str]:
        taskmill.variables |= {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        return [word for word in taskmill.ok().lines if word]

    assert completed("taskmill submit demo.e") == ["demo.echo"]
    assert completed("taskmill queues pause def") == ["default"]
    taskmill.variables["TASKMILL_URL"] = "http://127.0.0.1:9"
    assert completed("taskmill submit demo.e") == []


def signature(body: bytes, message_id: str, at: str) -> str:
    signed = hmac.digest(b"k" * 24, f"{message_id}.{at}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


def test_a_webhook_is_verified(stranger: Shell) -> None:
    stranger.variables["TASKMILL_WEBHOOK_SECRET"] = SECRET
    at, event = str(int(time.time())), {"id": "a.1", "type": "task.succeeded", "subject": "a"}
    body = json.dumps({**event, "time": "2027-01-31T09:00:00Z", "data": {}})
    given = ["-H", "webhook-id: a.1", "-H", f"webhook-timestamp: {at}", "-H"]
    good = signature(body.encode(), "a.1", at)
    done = stranger.run("webhooks", "verify", *given, f"webhook-signature: {good}", stdin=body)
    assert (done.code, done.json["type"]) == (0, "task.succeeded")
    forged = body.replace("succeeded", "failed")
    done = stranger.run("webhooks", "verify", *given, f"webhook-signature: {good}", stdin=forged)
    assert (done.code, done.out) == (1, "")


def test_events_are_forwarded_to_a_receiver_on_this_machine_signed(
    taskmill: Shell, tag: str
) -> None:
    taskmill.variables["TASKMILL_WEBHOOK_SECRET"] = SECRET
    with receiver() as shop:
        given = ("--forward-to", shop.url, "--type", "task.succeeded", "--tag", tag, "-n", "1")
        process = taskmill.start("webhooks", "listen", *given)
        assert process.stderr is not None
        assert "Ctrl-C" in process.stderr.readline()

        def has_come() -> bool:
            taskmill.ok("submit", "demo.echo", "--tag", tag, "--wait", "-q")
            return bool(shop.received)

        wait_for(has_come)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        got = shop.received[0]
    assert out.split()[1:] == ["task.succeeded", json.loads(got.body)["subject"], "204"]
    sent = {name.lower(): value for name, value in got.headers.items()}
    wanted = signature(got.body, sent["webhook-id"], sent["webhook-timestamp"])
    assert sent["webhook-signature"] == wanted
