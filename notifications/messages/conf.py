"""The settings of messages to people: variables `TASKMILL_NOTIFY_<NAME>`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from django.conf import settings

from tasks_app.conf import setting

CHANNELS: Final = ("email", "sms", "push", "webhook")
RECIPIENT: Final = "{to}"
_URL_FIX: Final = (
    "write the address of a service as Apprise knows it, with {to} in the place of the recipient, "
    "such as twilio://SID:TOKEN@15551234567/{to} or ntfys://ntfy.example.com/{to}"
)


def _secret(doc: str) -> Any:
    return field(default="", repr=False, metadata={"doc": doc, "least": None, "most": None})


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesConf:
    """Tasks that send messages to people; variables `TASKMILL_NOTIFY_<NAME>`."""

    channels: tuple[str, ...] = setting(
        (),
        "Ways that messages may leave, comma separated: `email` (needs `EMAIL_URL`), `sms`, "
        "`push`, `webhook`. Each is a task type, `notify.email` and so on. None by default: "
        "whoever may submit tasks writes to anybody, in your name and at your cost. Set it alike "
        "for web servers and workers.",
    )
    sender: str = setting(
        "", "Whom mails come from, `Shop <shop@example.org>`. Unset: `TASKMILL_REPORT_SENDER`."
    )
    sms_url: str = _secret(
        "Service that sends SMS, an address of Apprise with `{to}` for the recipient's number: "
        "`twilio://SID:TOKEN@15551234567/{to}`."
    )
    push_url: str = _secret(
        "Service that sends push messages, an address of Apprise with `{to}` for the recipient "
        "(a device, user or topic of that service): `ntfys://ntfy.example.com/{to}`."
    )
    templates: str = setting(
        "",
        "Directory of templates: `welcome/text.txt`, `welcome/subject.txt` and, for mails, "
        "`welcome/html.html`. Unset: tasks bring their texts.",
    )

    def faults(self, *, has_mail: bool) -> Iterator[tuple[str, str]]:
        """Give what refuses the start as `(variable, fix)`.

        Args:
            has_mail: whether `EMAIL_URL` is set.
        """
        for one in self.channels:
            if one not in CHANNELS:
                known = ", ".join(CHANNELS)
                yield "TASKMILL_NOTIFY_CHANNELS", f"{one!r} is no channel; there are {known}"
        if "email" in self.channels and not has_mail:
            yield "EMAIL_URL", "set it for notify.email: smtp+tls://user:pw@host:587"
        for channel, url in (("sms", self.sms_url), ("push", self.push_url)):
            if channel in self.channels and (RECIPIENT not in url or "://" not in url):
                yield f"TASKMILL_NOTIFY_{channel.upper()}_URL", _URL_FIX
        if self.templates and not Path(self.templates).is_dir():
            yield "TASKMILL_NOTIFY_TEMPLATES", f"{self.templates!r} is no directory"


def messages_conf() -> MessagesConf:
    """Give the settings in force."""
    found: MessagesConf = settings.TASKMILL_NOTIFY
    return found
