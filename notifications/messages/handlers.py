"""The task types `notify.email`, `notify.sms`, `notify.push` and `notify.webhook`.

Each is there where `TASKMILL_NOTIFY_CHANNELS` names it. A message that left is not sent by a later
attempt: that it left is stored at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from notifications.messages.conf import messages_conf
from notifications.messages.payloads import Mail, Push, Sent, Sms, Webhook
from tasks_app.public import TaskContext, handler

_KEY: Final = "sent"


def send_email(payload: Mail, ctx: TaskContext) -> Sent:
    """Send a mail through the server of `EMAIL_URL`.

    A server that is away or says "later" (4xx) is tried again; a recipient that it refuses for good
    ends the task.
    """
    from notifications.messages.sending import deliver_mail, mail_of

    written = payload.written()
    message = mail_of(written, to=payload.to, reply_to=payload.reply_to, key=ctx.idempotency_key())
    message_id = ctx.once(_KEY, lambda: deliver_mail(message))
    return Sent(channel="email", subject=written.subject, id=message_id)


def send_sms(payload: Sms, ctx: TaskContext) -> Sent:
    """Send an SMS through the service of `TASKMILL_NOTIFY_SMS_URL`."""
    return _send("sms", messages_conf().sms_url, payload, ctx)


def send_push(payload: Push, ctx: TaskContext) -> Sent:
    """Send a push message through the service of `TASKMILL_NOTIFY_PUSH_URL`."""
    return _send("push", messages_conf().push_url, payload, ctx)


def _send(channel: str, url: str, payload: Sms | Push, ctx: TaskContext) -> Sent:
    from notifications.messages.sending import deliver

    written = payload.written()
    ctx.once(_KEY, lambda: deliver(url, written, to=payload.to))
    return Sent(channel=channel, subject=written.subject)


async def send_webhook(payload: Webhook, ctx: TaskContext) -> Sent:
    """Post `{subject, text, variables}` as JSON to an address.

    Whom it may call, and what answers mean, is as for `http.request`.
    """
    from notifications.http_requests.calling import HttpRequest, http_request

    written = payload.written()
    body: dict[str, Any] = {
        "subject": written.subject,
        "text": written.text,
        "variables": payload.variables,
    }
    await http_request(HttpRequest.model_validate({"url": payload.url, "json": body}), ctx)
    return Sent(channel="webhook", subject=written.subject)


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "email": send_email,
    "sms": send_sms,
    "push": send_push,
    "webhook": send_webhook,
}


def declare() -> None:
    """Declare the task types of the channels that the settings name."""
    for channel in messages_conf().channels:
        handler(f"notify.{channel}", bundle=1)(_FUNCTIONS[channel])
