"""Watch tokens: short-lived, read-only, for one task or one tag, safe in a browser or a phone.

A token is signed and kept nowhere; `SECRET_KEY_FALLBACKS` keep those of the last key valid. It
opens streams and shows that one task until it expires, and nothing else.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.core import signing
from django.utils import timezone

from tasks_app.conf import conf
from tasks_app.errors import NotAuthenticated
from tasks_app.selectors.task_object import API_ROOT

_SALT: Final = "taskmill.watch"
_PREFIX: Final = "tmw_"
MOST_CHARACTERS: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a token lets its holder see.

    Attributes:
        key_id: the API key that it was made with; streams end with it.
        task_id: the task, or None where `tag` is given.
    """

    tenant_id: int
    key_id: str
    task_id: uuid.UUID | None = None
    tag: str | None = None

    @property
    def holder(self) -> str:
        """Who is charged with what is done with the token."""
        return f"watch:{self.tenant_id}:{self.task_id or self.tag}"


def make_watch_token(watch: Watch) -> tuple[str, datetime]:
    """Give a token and when it expires (`watch_token_seconds` from now)."""
    expires_at = timezone.now().replace(microsecond=0) + timedelta(
        seconds=conf().watch_token_seconds
    )
    task = None if watch.task_id is None else watch.task_id.hex
    body = [watch.tenant_id, watch.key_id, task, watch.tag, int(expires_at.timestamp())]
    return _PREFIX + signing.Signer(salt=_SALT).sign_object(body), expires_at


def watch_object(watch: Watch) -> dict[str, Any]:
    """Give a new token as the API shows it: `{token, expires_at, stream_url, ws_url}`."""
    token, expires_at = make_watch_token(watch)
    root: str = settings.PUBLIC_URL
    stream, socket = f"{API_ROOT}/events/stream", "/ws/v1/events"
    if watch.task_id is not None:
        stream, socket = f"{API_ROOT}/tasks/{watch.task_id}/stream", f"/ws/v1/tasks/{watch.task_id}"
    return {
        "token": token,
        "expires_at": expires_at,
        "stream_url": f"{root}{stream}?token={token}",
        "ws_url": f"ws{root.removeprefix('http')}{socket}?token={token}",
    }


def read_watch_token(token: str) -> Watch:
    """Give what a token stands for.

    Raises:
        NotAuthenticated: it is forged, damaged or expired.
    """
    if not token.startswith(_PREFIX) or len(token) > MOST_CHARACTERS:
        raise NotAuthenticated
    try:
        body = signing.Signer(salt=_SALT).unsign_object(token.removeprefix(_PREFIX))
    except signing.BadSignature as error:
        raise NotAuthenticated from error
    tenant_id, key_id, task, tag, expires = body
    if datetime.fromtimestamp(expires, UTC) <= timezone.now():
        raise NotAuthenticated
    return Watch(
        tenant_id=tenant_id,
        key_id=key_id,
        task_id=None if task is None else uuid.UUID(task),
        tag=tag,
    )
