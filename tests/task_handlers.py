"""Task types for tests, registered on import."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from tasks_app.public import Retry, handler


class Item(BaseModel):
    sku: str
    count: int = Field(ge=1)


class Order(BaseModel):
    order_id: int = Field(ge=0)
    items: list[Item] = []


class Receipt(BaseModel):
    total: float


@handler("tests.echo")
def echo(payload: dict[str, Any]) -> dict[str, Any]:
    """Give the payload back."""
    return payload


@handler(
    "tests.order",
    queue="orders",
    priority=7,
    max_retry=1,
    retry=Retry.fixed(2),
    timeout=30,
    queue_timeout=90,
)
def order(payload: Order) -> Receipt:
    """Process an order."""
    return Receipt(total=float(payload.order_id))


@handler("tests.pair", bundle=2)
def pair(payload: dict[str, Any]) -> dict[str, Any]:
    """Travel two to a message."""
    return payload


@handler("tests.nothing")
def nothing() -> None:
    """Take no payload."""
