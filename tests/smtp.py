"""A real SMTP server for tests that keeps the mails it takes."""

from __future__ import annotations

import email
from collections.abc import Iterator
from email.policy import default as modern
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from tests.web import free_port


class MailServer:
    """Keeps `(recipients, mail)`; answers what it is told to before it takes any.

    Attributes:
        refusals: answers to the next mails in place of taking them, such as `451 try again`.
        unknown: recipients that it does not know, and what it says of them.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[tuple[list[str], Any]] = []
        self.refusals: list[str] = []
        self.unknown: dict[str, str] = {}

    async def handle_RCPT(  # noqa: N802 - named by aiosmtpd
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address in self.unknown:
            return self.unknown[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        if self.refusals:
            return self.refusals.pop(0)
        mail = email.message_from_bytes(envelope.content, policy=modern)
        self.mails.append((envelope.rcpt_tos, mail))
        return "250 OK"


@pytest.fixture(scope="module")
def mail_server() -> Iterator[MailServer]:
    """A running server, the same for the tests of a module."""
    kept = MailServer()
    server = Controller(kept, hostname="127.0.0.1", port=kept.port)
    server.start()
    yield kept
    server.stop()
