"""Filters of the task list: fixed choices on indexed columns, no query for their values but the
tenants'."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from typing_extensions import override

from tasks_app.models import Task, Tenant
from tasks_app.registry import all_handlers, known_queues
from tasks_app.states import DEAD_LETTERS, State, Status, states_of

MAX_TENANTS_OFFERED: Final = 100
_ID_PREFIX: Final = re.compile(r"^[0-9a-f]{4,32}$")
_TENANT_ID: Final = re.compile(r"^[0-9]{1,18}$")
Choices = Iterable[tuple[str, str]]


class TaskListFilter(admin.SimpleListFilter):
    """A choice that narrows the list: `narrowing()` gives fields of `TaskFilter` or `tenant_id`."""

    def chosen(self) -> str:
        """Give the chosen value; NUL characters, which no column holds, are dropped."""
        return (self.value() or "").replace("\x00", "")

    def narrowing(self) -> dict[str, Any]:
        """Give what was chosen; empty for "all"."""
        raise NotImplementedError

    @override
    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        """Leave the rows to `TaskChangeList`, which reads `narrowing()` of all filters at once."""
        return queryset


class StateFilter(TaskListFilter):
    """One state, a public status that stands for several, or the dead letters."""

    title = "state"
    parameter_name = "state"
    _GROUPS: ClassVar = {
        "pending": states_of(Status.PENDING),
        "processing": states_of(Status.PROCESSING),
        "dead": DEAD_LETTERS,
    }

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer the groups, then each state."""
        groups = [("pending", "Pending"), ("processing", "Processing"), ("dead", "Dead letters")]
        return groups + [(state.value, state.value) for state in State]

    def narrowing(self) -> dict[str, Any]:
        """Give the states."""
        chosen = self.chosen()
        if not chosen:
            return {}
        return {"states": tuple(sorted(self._GROUPS.get(chosen, {chosen})))}


class TypeFilter(TaskListFilter):
    """One of the registered task types."""

    title = "type"
    parameter_name = "type"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer what the registry knows."""
        return [(declared.type, declared.type) for declared in all_handlers()]

    def narrowing(self) -> dict[str, Any]:
        """Give the type."""
        return {"type": self.chosen()} if self.chosen() else {}


class QueueFilter(TaskListFilter):
    """One of the queues that handlers and settings name."""

    title = "queue"
    parameter_name = "queue"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer the known queues."""
        return [(name, name) for name in known_queues()]

    def narrowing(self) -> dict[str, Any]:
        """Give the queue."""
        return {"queue": self.chosen()} if self.chosen() else {}


class CreatedFilter(TaskListFilter):
    """How long ago a task was submitted at most; becomes a bound on the id."""

    title = "submitted"
    parameter_name = "submitted"
    _SPANS: ClassVar = {
        "hour": ("In the last hour", timedelta(hours=1)),
        "day": ("In the last day", timedelta(days=1)),
        "week": ("In the last 7 days", timedelta(days=7)),
        "month": ("In the last 30 days", timedelta(days=30)),
    }

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer the spans."""
        return [(key, label) for key, (label, _) in self._SPANS.items()]

    def narrowing(self) -> dict[str, Any]:
        """Give the earliest time of creation."""
        chosen = self._SPANS.get(self.chosen())
        return {} if chosen is None else {"created_after": timezone.now() - chosen[1]}


class TenantFilter(TaskListFilter):
    """One tenant."""

    title = "tenant"
    parameter_name = "tenant"

    @override
    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Offer the first tenants by name; the address takes the id of any."""
        tenants = Tenant.objects.order_by("slug").values_list("id", "slug")
        return [(str(number), slug) for number, slug in tenants[:MAX_TENANTS_OFFERED]]

    def narrowing(self) -> dict[str, Any]:
        """Give the tenant's id; one that is no number is nobody's."""
        chosen = self.chosen()
        if not chosen:
            return {}
        return {"tenant_id": int(chosen) if _TENANT_ID.match(chosen) else 0}


def search_narrowing(text: str) -> dict[str, Any]:
    """Read the search box: a task type, or an id or its beginning (4 hex digits or more)."""
    wanted = text.strip()
    digits = wanted.lower().replace("-", "")
    is_type = any(declared.type == wanted for declared in all_handlers())
    if not is_type and _ID_PREFIX.match(digits):
        return {"id_prefix": digits}
    return {"type": wanted} if wanted else {}


def merged(narrowings: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Put what several filters chose together; None where they contradict each other."""
    found: dict[str, Any] = {}
    for one in narrowings:
        for name, value in one.items():
            if found.setdefault(name, value) != value:
                return None
    return found
