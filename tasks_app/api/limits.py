"""Limits: a concurrency key looked at and pinned, the limits of a task type changed."""

from __future__ import annotations

import uuid
from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, Field
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.bodies import read_body
from tasks_app.api.operation import Operation, Parameter, Reply
from tasks_app.api.views import ApiView
from tasks_app.errors import ConcurrencyKeyNotFound
from tasks_app.selectors.limits import key_shown
from tasks_app.services.limits import LimitSettings, change_key_limit

KEY: Final = Parameter(
    name="key",
    description="The concurrency key, percent-encoded; a slash stands for itself.",
    schema={"type": "string", "minLength": 1, "maxLength": 200},
)
MAX_KEY: Final = 200


class Holder(BaseModel):
    """A task that holds a slot of a concurrency key."""

    id: uuid.UUID
    type: str
    state: Literal["dispatched", "running", "cancelling"]
    dispatched_at: AwareDatetime
    started_at: AwareDatetime | None


class ConcurrencyKey(BaseModel):
    """A concurrency key of yours."""

    key: str
    limit: int | None = Field(
        description="In force: the pinned one, else the largest that an unfinished task names."
    )
    concurrency: int | None = Field(
        description="Pinned, whatever submissions say; null where theirs hold."
    )
    rate: str | None = Field(description="Pinned: most tasks handed out in any such time.")
    rate_until: AwareDatetime | None = Field(
        description="When the next one may go; null where one may go now."
    )
    used: int = Field(description="Tasks that hold a slot: handed out, running or being cancelled.")
    holders: list[Holder] = Field(description="The one handed out first leads, at most 20.")
    waiting: int = Field(description="Unfinished tasks that hold none, counted up to 10,000.")
    waiting_capped: bool
    changed_by: str | None = Field(description="Who pinned last; null where nothing is pinned.")
    changed_at: AwareDatetime | None


class ConcurrencyKeyView(ApiView):
    """`/concurrency-keys/{key}`."""

    scopes = {"GET": "tasks:read", "PATCH": "queues:write"}
    operations = {
        "GET": Operation(
            name="get_concurrency_key",
            tag="limits",
            summary="Get one concurrency key",
            description="Who holds it, how many wait for it, and the limit in force.",
            path=(KEY,),
            replies={200: Reply(description="The key.", model=ConcurrencyKey)},
            problems=(ConcurrencyKeyNotFound,),
        ),
        "PATCH": Operation(
            name="change_concurrency_key",
            tag="limits",
            summary="Pin the limit of a concurrency key",
            description=(
                "At once, whether or not a task has the key yet; null lifts what was pinned. A"
                " lower limit stops only the next tasks, those that run go on."
            ),
            path=(KEY,),
            body=LimitSettings,
            replies={200: Reply(description="The key.", model=ConcurrencyKey)},
            problems=(ConcurrencyKeyNotFound,),
        ),
    }

    @property
    def key(self) -> str:
        """The key of the path.

        Raises:
            ConcurrencyKeyNotFound: no key can be such.
        """
        key = str(self.kwargs["key"])
        if len(key) > MAX_KEY or "\x00" in key:
            raise ConcurrencyKeyNotFound
        return key

    def get(self, _request: Request, **_: Any) -> Response:
        """Show it."""
        return Response(self._shown())

    def patch(self, request: Request, **_: Any) -> Response:
        """Pin or lift what is pinned."""
        columns = read_body(LimitSettings, request).columns()
        change_key_limit(caller=self.caller, key=self.key, columns=columns)
        return Response(self._shown(_unused(self.key) if columns else None))

    def _shown(self, otherwise: dict[str, Any] | None = None) -> dict[str, Any]:
        found = key_shown(tenant_id=self.caller.tenant_id, key=self.key) or otherwise
        if found is None:
            raise ConcurrencyKeyNotFound(f"there is no concurrency key {self.key!r}", key=self.key)
        return found


def _unused(key: str) -> dict[str, Any]:
    """Give a key that nothing is left to say of."""
    return dict.fromkeys(ConcurrencyKey.model_fields) | {
        "key": key,
        "used": 0,
        "holders": [],
        "waiting": 0,
        "waiting_capped": False,
    }
