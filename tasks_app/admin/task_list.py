"""The list of tasks at a million rows: one bounded read of ids, then one page of rows."""

from __future__ import annotations

import uuid
from typing import Any, Final

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from typing_extensions import override

from tasks_app.admin.filters import TaskListFilter, merged, search_narrowing
from tasks_app.models import Task
from tasks_app.selectors.lists import TaskFilter
from tasks_app.selectors.newest import newest_task_ids

PAGES_AHEAD: Final = 4
MAX_PAGES: Final = 200
SHOWN: Final = (
    "id",
    "state",
    "type",
    "queue",
    "priority",
    "progress",
    "progress_message",
    "attempt",
    "created_at",
    "worker",
    "tenant__slug",
)


class TaskChangeList(ChangeList):
    """Knows the rows up to `PAGES_AHEAD` pages after the one shown; never how many there are."""

    paginator: Paginator[uuid.UUID]

    @override
    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Task]) -> list[Any]:
        """Order by creation, newest first, whatever the address asks for."""
        return ["-id"]

    @override
    def get_results(self, request: HttpRequest) -> None:
        """Read the page."""
        page = self.page_num
        if not 1 <= page <= MAX_PAGES:
            raise IncorrectLookupParameters
        ids = self._newest_ids(limit=(page + PAGES_AHEAD) * self.list_per_page + 1)
        self.paginator = Paginator(ids, self.list_per_page)
        if page > self.paginator.num_pages:
            raise IncorrectLookupParameters
        shown = self.paginator.page(page).object_list
        self.result_list = self.queryset.filter(id__in=list(shown)).only(*SHOWN)
        self.result_count = len(ids)
        self.multi_page = self.paginator.num_pages > 1
        self.show_full_result_count = False
        self.full_result_count = None
        self.show_admin_actions = True
        self.can_show_all = False

    def _newest_ids(self, *, limit: int) -> list[uuid.UUID]:
        chosen = [
            spec.narrowing() for spec in self.filter_specs if isinstance(spec, TaskListFilter)
        ]
        narrowing = merged([*chosen, search_narrowing(self.query)])
        if narrowing is None:
            return []
        tenant = narrowing.pop("tenant_id", None)
        tenant_ids = None if tenant is None else [tenant]
        return newest_task_ids(tenant_ids=tenant_ids, wanted=TaskFilter(**narrowing), limit=limit)
