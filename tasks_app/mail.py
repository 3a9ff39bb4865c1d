"""Sending a mail from a handler: what the mail server says becomes what the task does."""

from __future__ import annotations

from smtplib import SMTPException, SMTPRecipientsRefused
from typing import Final

from django.core.mail import EmailMessage

from tasks_app.errors import Permanent, TaskError

_PERMANENT: Final = 500


def send_mail(message: EmailMessage) -> int:
    """Hand a mail to the server of `EMAIL_URL`; gives how many mails it took.

    Raises:
        Permanent: `INVALID_DATA`, the server refuses every recipient for good (5xx).
        TaskError: `SERVICE_UNAVAILABLE`, it does not take the mail now, or is not there.
    """
    try:
        return message.send()
    except SMTPRecipientsRefused as error:
        if all(code >= _PERMANENT for code, _ in error.recipients.values()):
            raise Permanent("INVALID_DATA", "the mail server refuses every recipient") from error
        raise TaskError("SERVICE_UNAVAILABLE", "the mail server takes no recipient now") from error
    except (SMTPException, OSError) as error:
        raise TaskError("SERVICE_UNAVAILABLE", f"the mail was not sent: {error}") from error
