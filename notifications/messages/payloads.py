"""What a task says of a message: its recipient, and its text or a template with variables."""

from __future__ import annotations

import re
from email.headerregistry import Address
from email.utils import getaddresses
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from notifications.messages.writing import MOST_SUBJECT_CHARACTERS, Written, is_template, write

_NUMBER: Final = r"^\+[1-9][0-9]{6,14}$"
_TEMPLATE: Final = re.compile(r"[a-z0-9_-]{1,50}(/[a-z0-9_-]{1,50}){0,5}")
_ONE_LINE: Final = r"^[^\r\n]*$"


def _address(value: str) -> str:
    try:
        [(name, spec)] = getaddresses([value])
        Address(display_name=name, addr_spec=spec)
        is_one = spec.isascii() and "@" in spec and not any(one in value for one in "\r\n\0")
    except (ValueError, IndexError):
        is_one = False
    if not is_one:
        raise ValueError("write one address, as ada@example.org")
    return value


def _template(value: str) -> str:
    if not _TEMPLATE.fullmatch(value) or not is_template(value):
        raise ValueError(
            f"there is no template {value[:100]!r}: it would be {value[:100]}/text.txt in "
            "TASKMILL_NOTIFY_TEMPLATES"
        )
    return value


MailAddress = Annotated[str, Field(min_length=3, max_length=320), AfterValidator(_address)]


class Message(BaseModel):
    """A text, or a template and what is put into it."""

    model_config = ConfigDict(extra="forbid")

    subject: str = Field(
        "", max_length=MOST_SUBJECT_CHARACTERS, pattern=_ONE_LINE, description="Subject or title."
    )
    text: str = Field("", max_length=200_000, description="What it says, as it stands.")
    template: Annotated[str, AfterValidator(_template)] | None = Field(
        None, description="Name of one of the operator's templates, instead of subject and text."
    )
    variables: dict[str, JsonValue] = Field(
        default_factory=dict, description="Values for the template."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        own = [name for name in ("subject", "text", "html") if getattr(self, name, "")]
        if self.template is not None and own:
            raise ValueError(f"send template or {own[0]}, not both")
        if self.template is None and not self.text:
            raise ValueError("send text, or the name of a template")
        if self.template is None and self.variables:
            raise ValueError("variables go into a template; text is sent as it stands")
        return self

    def written(self) -> Written:
        """Give its texts.

        Raises:
            Permanent: the template cannot be rendered.
        """
        if self.template is not None:
            return write(self.template, self.variables)
        return Written(self.subject, self.text, getattr(self, "html", ""))


class Mail(Message):
    """A mail to one address; many are many tasks, so that each is tried again by itself."""

    to: MailAddress = Field(examples=["Ada <ada@example.org>"])
    reply_to: MailAddress | None = None
    html: str = Field("", max_length=500_000, description="The same as HTML.")


class Sms(Message):
    """An SMS to one number."""

    to: str = Field(pattern=_NUMBER, examples=["+4915112345678"], description="E.164.")
    text: str = Field("", max_length=1600, description="What it says, as it stands.")


class Push(Message):
    """A push message to one recipient of the operator's service."""

    to: str = Field(
        pattern=r"^[A-Za-z0-9._:@+-]{1,512}$", description="A device, user or topic of the service."
    )
    text: str = Field("", max_length=4000, description="What it says, as it stands.")


class Webhook(Message):
    """A message to an address that takes JSON, as chats do."""

    url: str = Field(min_length=1, max_length=2048, examples=["https://chat.example.com/hooks/1"])


class Sent(BaseModel):
    """What left.

    Attributes:
        id: `Message-ID` of a mail; it is the same in every attempt. Empty for other channels.
    """

    channel: str
    subject: str
    id: str = ""
