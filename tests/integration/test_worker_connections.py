"""Database connections that task code opens in a pool child."""

from __future__ import annotations

import pytest
from django.db import connection

from config.celery import give_back_connections
from tasks_app.models import Tenant

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_connection_that_a_task_opened_does_not_outlive_it() -> None:
    Tenant.objects.count()
    assert connection.connection is not None
    give_back_connections()
    assert connection.connection is None
    assert Tenant.objects.count() >= 0


def test_giving_back_opens_nothing() -> None:
    connection.close()
    give_back_connections()
    assert connection.connection is None
