"""`notify.*` in real workers: mails at a real SMTP server, the others at services that Apprise and
webhooks call over HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.conf import settings as installed
from django.db import connection

from notifications.messages.conf import MessagesConf
from notifications.messages.handlers import send_email, send_push, send_sms, send_webhook
from notifications.messages.payloads import Message
from notifications.messages.writing import write
from tasks_app.models import Task
from tasks_app.public import Permanent, ValidationFailed
from tasks_app.registry import Handler, Options
from tasks_app.testing.run import Run
from tests.factories import make_key, make_task, make_tenant
from tests.feeding import submit, wait_state
from tests.integration.api_client import Api
from tests.processes import Process, running_worker
from tests.receivers import Answer, Receiver, receiver
from tests.smtp import MailServer

pytestmark = pytest.mark.django_db(transaction=True)
ADA = "Ada <ada@example.org>"
TEMPLATES = {
    "orders/shipped/subject.txt": "Order {{ order }}\nis on its way\n",
    "orders/shipped/text.txt": "Dear {{ name }},{% if gift %} a gift!{% endif %} {{ name }}",
    "orders/shipped/html.html": "<p>Dear {{ name }}</p>",
    "short/text.txt": "{{ code }}",
    "broken/text.txt": "{% if %}",
    "failing/text.txt": "{% include 'none.txt' %}",
    "escaping/text.txt": "{% include '../../outside.txt' %}",
}


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("templates")
    (directory.parent / "outside.txt").write_text("secret", "utf-8")
    for name, text in TEMPLATES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return directory


@pytest.fixture(scope="module")
def service() -> Iterator[Receiver]:
    with receiver() as one:
        yield one


@pytest.fixture(scope="module")
def worker(
    valkey: Any,
    mail_server: MailServer,
    service: Receiver,
    templates: Path,
    django_db_setup: None,
    django_db_blocker: Any,
) -> Iterator[Process]:
    variables = {
        "EMAIL_URL": f"smtp://127.0.0.1:{mail_server.port}",
        "TASKMILL_NOTIFY_CHANNELS": "email,sms,push,webhook",
        "TASKMILL_NOTIFY_SENDER": "Shop <shop@example.org>",
        "TASKMILL_NOTIFY_SMS_URL": f"json://127.0.0.1:{service.port}/sms/{{to}}",
        "TASKMILL_NOTIFY_PUSH_URL": f"json://127.0.0.1:{service.port}/push/{{to}}",
        "TASKMILL_NOTIFY_TEMPLATES": str(templates),
        "TASKMILL_HTTP_REQUEST_ALLOW": "127.0.0.0/8",
    }
    with django_db_blocker.unblock(), running_worker(**variables) as process:
        yield process


@pytest.fixture(autouse=True)
def fresh(mail_server: MailServer, service: Receiver) -> None:
    mail_server.mails.clear()
    mail_server.refusals.clear()
    mail_server.unknown.clear()
    service.received.clear()
    service.answers = [Answer(status=200)]


def send(channel: str, *, max_retry: int = 0, **payload: Any) -> Task:
    """Run it to its end."""
    return wait_state(submit(f"notify.{channel}", payload, max_retry=max_retry))


def test_a_mail_is_sent(worker: Process, mail_server: MailServer) -> None:
    row = send(
        "email",
        to=ADA,
        subject="Gr\u00fc\u00dfe",
        text="Hello {{ name }}",
        html="<p>Hello</p>",
        reply_to="help@example.org",
    )
    assert row.state == "success", row.error
    [(recipients, mail)] = mail_server.mails
    assert recipients == ["ada@example.org"]
    assert (mail["to"], mail["from"]) == (ADA, "Shop <shop@example.org>")
    assert (mail["subject"], mail["reply-to"]) == ("Gr\u00fc\u00dfe", "help@example.org")
    assert mail["auto-submitted"] == "auto-generated"
    assert mail["message-id"] == f"<{row.id}@example.org>" == row.result["id"]
    texts = {part.get_content_type(): part.get_content().strip() for part in mail.iter_parts()}
    assert texts == {"text/plain": "Hello {{ name }}", "text/html": "<p>Hello</p>"}


def test_a_mail_is_written_from_a_template(worker: Process, mail_server: MailServer) -> None:
    row = send("email", to=ADA, template="orders/shipped", variables={"order": 7, "name": "A & B"})
    assert (row.state, row.result["subject"]) == ("success", "Order 7 is on its way"), row.error
    [(_, mail)] = mail_server.mails
    text, html = (part.get_content().strip() for part in mail.iter_parts())
    assert (mail["subject"], text) == ("Order 7 is on its way", "Dear A & B, A & B")
    assert html == "<p>Dear A &amp; B</p>"


def test_a_mail_that_the_server_takes_later_is_sent_once(
    worker: Process, mail_server: MailServer
) -> None:
    mail_server.refusals = ["451 try again"]
    row = send("email", to=ADA, text="x", max_retry=1)
    assert (row.state, row.attempt, len(mail_server.mails)) == ("success", 2, 1), row.error


@pytest.mark.parametrize(
    ("says", "code", "attempt"),
    [("550 no such user", "INVALID_DATA", 1), ("450 come back", "SERVICE_UNAVAILABLE", 2)],
)
def test_a_recipient_that_is_refused_for_good_is_not_tried_again(
    worker: Process, mail_server: MailServer, says: str, code: str, attempt: int
) -> None:
    mail_server.unknown["ada@example.org"] = says
    row = send("email", to=ADA, text="x", max_retry=1)
    assert (row.state, row.error["code"], row.attempt) == ("failed", code, attempt)
    assert mail_server.mails == []


@pytest.mark.parametrize(
    ("channel", "to"), [("email", ADA), ("sms", "+4915112345678"), ("push", "ada")]
)
def test_what_an_attempt_sent_before_it_was_lost_is_not_sent_again(
    worker: Process, mail_server: MailServer, service: Receiver, channel: str, to: str
) -> None:
    task_id = make_task(
        make_tenant("default"), type=f"notify.{channel}", payload={"to": to, "text": "x"}
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO taskmill_once (task_id, key, value, epoch, at)"
            " VALUES (%s, 'sent', '\"<1@example.org>\"', 1, now())",
            [task_id],
        )
    row = wait_state(task_id)
    assert (row.state, mail_server.mails, service.received) == ("success", [], []), row.error
    assert row.result["id"] == ("<1@example.org>" if channel == "email" else "")


@pytest.mark.parametrize(
    ("channel", "to", "path"),
    [("sms", "+4915112345678", "/sms/+4915112345678"), ("push", "ada:1", "/push/ada:1")],
)
def test_services_of_apprise_are_called(
    worker: Process, service: Receiver, channel: str, to: str, path: str
) -> None:
    row = send(channel, to=to, template="short", variables={"code": "4711"})
    assert row.state == "success", row.error
    [came] = service.received
    assert (came.path, orjson.loads(came.body)["message"]) == (path, "4711")


def test_a_service_that_is_away_is_asked_again(worker: Process, service: Receiver) -> None:
    service.answers = [Answer(status=503), Answer(status=200)]
    row = send("sms", to="+4915112345678", text="hi", max_retry=1)
    assert (row.state, row.attempt, len(service.received)) == ("success", 2, 2), row.error


def test_a_failure_says_what_the_service_said(worker: Process, service: Receiver) -> None:
    service.answers = [Answer(status=403)]
    row = send("push", to="ada", subject="Hi", text="there")
    assert row.error["code"] == "SERVICE_UNAVAILABLE"
    assert "403" in row.error["message"]


def test_a_webhook_gets_the_texts_as_json(worker: Process, service: Receiver) -> None:
    row = send("webhook", url=service.url, template="short", variables={"code": "4711"})
    assert row.state == "success", row.error
    [came] = service.received
    assert orjson.loads(came.body) == {
        "subject": "",
        "text": "4711",
        "variables": {"code": "4711"},
    }
    assert came.headers["idempotency-key"] == str(row.id)


def test_a_webhook_goes_nowhere_but_where_calls_may() -> None:
    run = tried(send_webhook, url="https://127.0.0.1/hook", text="x")
    assert (run.state, run.error and run.error.code) == ("failed", "PERMISSION_DENIED")


def tried(function: Any, **payload: Any) -> Run:
    """Run it in this process, whatever the settings switch on."""
    found: Run = Handler("notify.tried", function, Options()).test_run(payload)
    return found


@pytest.fixture
def with_templates(settings: Any, templates: Path) -> None:
    settings.TASKMILL_NOTIFY = MessagesConf(templates=str(templates))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("orders/shipped", "needs the variable 'order'"),
        ("broken", "fails: "),
        ("failing", "includes none.txt"),
        ("escaping", "fails: "),
    ],
)
def test_a_template_that_cannot_be_rendered_ends_the_task(
    with_templates: None, name: str, says: str
) -> None:
    run = tried(send_email, to=ADA, template=name)
    assert run.error is not None
    assert (run.state, run.error.code) == ("failed", "INVALID_DATA")
    assert says in run.error.message


def test_a_template_that_only_the_worker_lacks_ends_the_task(with_templates: None) -> None:
    with pytest.raises(Permanent, match="the worker has no template 'none'"):
        write("none", {})


@pytest.mark.parametrize(
    ("function", "payload"),
    [
        (send_email, {"to": "ada", "text": "x"}),
        (send_email, {"to": "ada@example.org, bob@example.org", "text": "x"}),
        (send_email, {"to": "ada@example.org\nBcc: bob@example.org", "text": "x"}),
        (send_email, {"to": ADA, "text": "x", "subject": "a\nBcc: bob@example.org"}),
        (send_email, {"to": ADA, "text": "x", "reply_to": "nobody"}),
        (send_email, {"to": ADA, "subject": "x"}),
        (send_email, {"to": ADA, "text": "x", "variables": {"a": 1}}),
        (send_email, {"to": ADA, "text": "x", "template": "short"}),
        (send_email, {"to": ADA, "html": "x", "template": "short"}),
        (send_email, {"to": ADA, "template": "none"}),
        (send_email, {"to": ADA, "template": "../short"}),
        (send_sms, {"to": "0151 12345", "text": "x"}),
        (send_sms, {"to": "+4915112345678", "text": "x" * 1601}),
        (send_push, {"to": "a/b?c=d", "text": "x"}),
        (send_webhook, {"text": "x"}),
    ],
)
def test_a_message_that_cannot_be_sent_is_refused_when_it_is_submitted(
    with_templates: None, function: Any, payload: dict[str, Any]
) -> None:
    with pytest.raises(ValidationFailed) as refusal:
        tried(function, **payload)
    assert "Value error" not in str(refusal.value)


def test_texts_are_no_templates() -> None:
    assert Message(text="{{ a }}{% load x %}").written().text == "{{ a }}{% load x %}"


def test_there_is_no_channel_unless_it_is_switched_on() -> None:
    api = Api(make_key(make_tenant("acme")))
    for channel in ("email", "sms", "push", "webhook"):
        answer = api.post("/tasks", {"type": f"notify.{channel}", "payload": {}})
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_task_type")


@pytest.mark.parametrize(
    ("conf", "names"),
    [
        ({"channels": ("fax",)}, ["TASKMILL_NOTIFY_CHANNELS"]),
        ({"channels": ("email",)}, ["EMAIL_URL"]),
        ({"channels": ("sms",), "sms_url": "twilio://a"}, ["TASKMILL_NOTIFY_SMS_URL"]),
        ({"channels": ("push",)}, ["TASKMILL_NOTIFY_PUSH_URL"]),
        ({"templates": "/nowhere"}, ["TASKMILL_NOTIFY_TEMPLATES"]),
        ({"sms_url": "", "push_url": ""}, []),
    ],
)
def test_settings_that_cannot_work_refuse_the_start(conf: Any, names: list[str]) -> None:
    assert [name for name, _ in MessagesConf(**conf).faults(has_mail=False)] == names
    assert installed.TASKMILL_NOTIFY.channels == ()


def test_secrets_are_not_shown() -> None:
    conf = MessagesConf(sms_url="twilio://sid:token@1/{to}", push_url="ntfys://pw@h/{to}")
    assert "token" not in repr(conf)
    assert "pw" not in repr(conf)
