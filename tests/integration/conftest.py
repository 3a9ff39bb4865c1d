"""Fixtures of the tests on real servers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from tasks_app import registry
from tests.engines import Dispatcher, dispatcher
from tests.receivers import Receiver, receiver
from tests.webhooks import LOCAL


@pytest.fixture(autouse=True)
def no_failures_yet() -> None:
    """Forget the failed authentications of other tests."""
    from tasks_app.api.failures import failures

    failures.forget()


@pytest.fixture
def staff(django_user_model: type[User]) -> Callable[..., Client]:
    """Log a staff user with these permissions in."""

    def login(*codenames: str) -> Client:
        user = django_user_model.objects.create_user(f"staff-{uuid.uuid4().hex}", is_staff=True)
        found = Permission.objects.filter(
            content_type__app_label="tasks_app", codename__in=codenames
        )
        assert len(found) == len(codenames)
        user.user_permissions.set(found)
        client = Client()
        client.force_login(user)
        return client

    return login


@pytest.fixture
def bench(valkey: Any) -> Iterator[Dispatcher]:
    """A dispatcher under the test's hand."""
    with dispatcher() as one:
        yield one


@pytest.fixture
def own_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test declares no other test sees."""
    monkeypatch.setattr(registry, "_handlers", dict(registry._handlers))


@pytest.fixture
def local_receivers(settings: Any) -> None:
    """Webhooks may go to receivers on this machine."""
    settings.TASKMILL_WEBHOOKS = LOCAL


@pytest.fixture
def shop() -> Iterator[Receiver]:
    """A receiver of webhooks."""
    with receiver() as one:
        yield one
