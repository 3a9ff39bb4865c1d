"""The ways out: a mail server, services that Apprise knows, addresses that take JSON."""

from __future__ import annotations

import logging
from email.utils import parseaddr
from typing import Final
from urllib.parse import quote

from django.conf import settings
from django.core.mail import EmailMultiAlternatives

from notifications.messages.conf import RECIPIENT, messages_conf
from notifications.messages.writing import Written
from tasks_app.errors import TaskError
from tasks_app.platform import send_mail

_SHOWN_CHARACTERS: Final = 500


def mail_of(written: Written, *, to: str, reply_to: str | None, key: str) -> EmailMultiAlternatives:
    """Write a mail.

    Args:
        key: names the task: every attempt's mail has the same `Message-ID`, so that servers and
            readers can tell a repetition.
    """
    sender = messages_conf().sender or str(settings.DEFAULT_FROM_EMAIL)
    domain = parseaddr(sender)[1].rpartition("@")[2] or "taskmill"
    message = EmailMultiAlternatives(
        subject=written.subject,
        body=written.text,
        from_email=sender,
        to=[to],
        reply_to=[reply_to] if reply_to else None,
        headers={"Message-ID": f"<{key}@{domain}>", "Auto-Submitted": "auto-generated"},
    )
    if written.html:
        message.attach_alternative(written.html, "text/html")
    return message


def deliver_mail(message: EmailMultiAlternatives) -> str:
    """Hand a mail to the server and give its `Message-ID`; raises as `send_mail` does."""
    send_mail(message)
    return str(message.extra_headers["Message-ID"])


def deliver(url: str, written: Written, *, to: str) -> None:
    """Hand a message to the service at an Apprise address with `{to}` in it.

    Raises:
        TaskError: `SERVICE_UNAVAILABLE`, the service did not take it, with what Apprise says.
    """
    import apprise

    asset = apprise.AppriseAsset(app_id="Taskmill", async_mode=False)
    service = apprise.Apprise(asset=asset)
    if not service.add(url.replace(RECIPIENT, quote(to, safe=""))):
        raise TaskError("SERVICE_UNAVAILABLE", "Apprise does not know the service of the settings")
    capture = apprise.LogCapture(level=logging.WARNING, fmt="%(message)s")  # type: ignore[no-untyped-call]  # it is not
    with capture as captured:
        is_sent = service.notify(
            body=written.text, title=written.subject, body_format=apprise.NotifyFormat.TEXT
        )
        said = captured.getvalue().strip()[:_SHOWN_CHARACTERS]
    if not is_sent:
        raise TaskError("SERVICE_UNAVAILABLE", said or "the service did not take the message")
