"""Who did something, as another tenant may see it: what all share names no key of another."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from django.db import connection

OF_A_KEY: Final = "api:"
OF_ANOTHERS_KEY: Final = "api"


def actor_shown(actor: str | None, *, tenant_id: int) -> str | None:
    """Give an actor as a tenant may see it: `api` where it is another tenant's key.

    Concurrency: thread-safe; one statement per key and process.
    """
    if not actor or not actor.startswith(OF_A_KEY):
        return actor
    key_id = actor.removeprefix(OF_A_KEY)
    return actor if _tenant_of_key(key_id) == tenant_id else OF_ANOTHERS_KEY


@lru_cache(maxsize=1000)
def _tenant_of_key(key_id: str) -> int | None:
    """Keys are never deleted and never change their tenant."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tenant_id FROM taskmill_api_key WHERE id = %s", [key_id])
        row = cursor.fetchone()
    return None if row is None else int(row[0])
