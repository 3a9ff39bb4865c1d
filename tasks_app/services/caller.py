"""Who a service acts for. Every service takes a `Caller`; none works without a tenant."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The tenant whose rows a service may touch, and the name that its events carry.

    Attributes:
        tenant_id: primary key of the tenant.
        actor: at most 120 characters, such as `api:<key id>`, `admin:<user>` or `schedule:<name>`.
    """

    tenant_id: int
    actor: str
