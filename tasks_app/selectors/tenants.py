"""Tenants by slug, remembered for a while, so that a submission from Python costs one statement."""

from __future__ import annotations

from typing import Final

from tasks_app.clock import monotonic
from tasks_app.errors import NotFound
from tasks_app.models import Tenant

DEFAULT_TENANT: Final = "default"
CACHE_SECONDS: Final = 30.0

_cache: dict[str, tuple[float, int]] = {}


def tenant_id_of(slug: str) -> int:
    """Give the id of an active tenant.

    Raises:
        NotFound: there is no active tenant of this slug.

    Concurrency: thread-safe; a deactivated tenant is refused within `CACHE_SECONDS`.
    """
    entry = _cache.get(slug)
    if entry is not None and entry[0] > monotonic():
        return entry[1]
    found = Tenant.objects.filter(slug=slug, is_active=True).values_list("id", flat=True).first()
    if found is None:
        raise NotFound(f"there is no active tenant {slug[:63]!r}", tenant=slug[:63])
    _cache[slug] = (monotonic() + CACHE_SECONDS, found)
    return found


def forget_tenants() -> None:
    """Empty this process's cache, after tenants were made, renamed or removed."""
    _cache.clear()
