"""Tasks that submit tasks: parent, root and depth, and how deep and how many may be."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from tasks_app import public
from tasks_app.conf import conf
from tasks_app.context import AttemptInfo, TaskContext, running_in
from tasks_app.models import Task, Tenant
from tests import task_handlers  # noqa: F401 - registers the types
from tests.attempts import claim_one
from tests.factories import drive, make_key, make_task, make_tenant
from tests.integration.api_client import Api, pointers

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def api(tenant: Tenant) -> Api:
    return Api(make_key(tenant))


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return lambda **values: monkeypatch.setattr(settings, "TASKMILL", replace(conf(), **values))


def running(task_id: uuid.UUID) -> TaskContext:
    row = Task.objects.get(id=task_id)
    info = AttemptInfo(
        task_id=row.id,
        type=row.type,
        queue=row.queue,
        tenant="acme",
        root=row.root,
        depth=row.depth,
    )
    return TaskContext(info, sink=None)  # type: ignore[arg-type]  # nothing is reported


def child_of(task_id: uuid.UUID, **options: Any) -> uuid.UUID:
    with running_in(running(task_id)):
        return public.submit("tests.echo", {}, **options).id


def test_children_know_their_parent_root_and_depth_and_are_listed(api: Api, tenant: Tenant) -> None:
    top = make_task(tenant)
    child = child_of(top)
    grandchild = child_of(child)
    shown = api.get(f"/tasks/{grandchild}").json()
    assert (shown["parent"], shown["root"], shown["depth"]) == (str(child), str(top), 2)
    assert api.get(f"/tasks/{top}").json()["depth"] == 0
    listed = api.get(f"/tasks?parent={top}&count=true").json()
    assert ([one["id"] for one in listed["results"]], listed["count"]) == ([str(child)], 1)
    assert api.get(f"/tasks?parent={uuid.uuid4()}").json()["results"] == []
    assert pointers(api.get("/tasks?parent=none")) == ["/query/parent"]
    other = Api(make_key(make_tenant("other")))
    assert other.get(f"/tasks?parent={top}").json()["results"] == []


def test_a_claim_hands_depth_and_root_on(tenant: Tenant) -> None:
    top = make_task(tenant)
    child = child_of(top)
    drive(child, "dispatched")
    with connection.cursor() as cursor:
        claimed = claim_one(cursor, (child, 1))
    assert claimed is not None
    assert (claimed.root, claimed.depth) == (top, 1)


def test_a_task_deeper_than_allowed_is_refused(tenant: Tenant, limits: Callable[..., None]) -> None:
    limits(max_task_depth=2)
    lowest = child_of(child_of(make_task(tenant)))
    with pytest.raises(public.TaskTooDeep, match="3 deep, the limit is 2"):
        child_of(lowest)
    make_tenant("default")
    with pytest.raises(public.TaskTooDeep):
        child_of(lowest, tenant="default")
    assert public.TaskTooDeep.http_status == 422


def test_a_task_with_as_many_children_as_allowed_gets_no_more(
    tenant: Tenant, limits: Callable[..., None]
) -> None:
    limits(max_task_children=2)
    top = make_task(tenant)
    drive(child_of(top), "success")
    child_of(top)
    with pytest.raises(public.TooManyChildren, match="2 tasks, the limit is 2"):
        child_of(top)
    assert child_of(make_task(tenant))
