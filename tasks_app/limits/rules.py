"""Names of rules: what a parked task is blocked by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

What = Literal["slots", "rate"]
Of = Literal["key", "type"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit on slots or on the rate of a concurrency key or a task type.

    Attributes:
        tenant_id: whose key it is; 0 for types, which all tenants share.
    """

    what: What
    of: Of
    tenant_id: int
    name: str

    def __str__(self) -> str:
        return f"{self.what}/{self.of}/{self.tenant_id}/{self.name}"

    @classmethod
    def read(cls, text: str) -> Rule:
        """Read a stored name."""
        what, of, tenant_id, name = text.split("/", 3)
        return cls(
            what="rate" if what == "rate" else "slots",
            of="type" if of == "type" else "key",
            tenant_id=int(tenant_id),
            name=name,
        )
