"""Migrations take as long as they take: the bound on statements is for requests, not for upgrades.

The bound on waiting for locks stays: a statement that changes a table and waits would have
everybody else wait behind it. Such a `migrate` fails and is repeated.
"""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate


def wait_for_migrations(app: AppConfig) -> None:
    """Lift the bound of the session that migrates, for as long as it does."""
    pre_migrate.connect(_lift, sender=app)
    post_migrate.connect(_restore, sender=app)


def _lift(*, using: str, **_: Any) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")


def _restore(*, using: str, **_: Any) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("RESET statement_timeout")
