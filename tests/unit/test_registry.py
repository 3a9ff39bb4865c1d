"""Declarations: what is accepted, and how a wrong one is told."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tasks_app import registry
from tasks_app.context import TaskContext
from tasks_app.errors import HandlerDeclarationError, UnknownTaskType
from tasks_app.registry import get_handler, handler


class Order(BaseModel):
    number: int


class Receipt(BaseModel):
    id: uuid.UUID


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_handlers", {})


def test_a_handler_is_found_by_its_type_and_can_still_be_called() -> None:
    @handler("orders.process", queue="orders", priority=5, max_retry=0, timeout=9)
    def process(payload: Order, ctx: TaskContext) -> dict[str, int]:
        """Process an order."""
        return {"n": payload.number}

    found = get_handler("orders.process")
    assert found is process
    assert (found.options.queue, found.options.priority) == ("orders", 5)
    assert (found.options.max_retry, found.options.process_timeout_seconds) == (0, 9)
    assert (found.takes_payload, found.takes_context, found.is_async) == (True, True, False)
    assert found.description == "Process an order."
    assert found(Order(number=3), None) == {"n": 3}
    assert found.payload_schema()["properties"]["number"]["type"] == "integer"


def test_payload_and_context_may_each_be_left_out_and_a_handler_may_be_async() -> None:
    @handler("a.none")
    def none() -> None: ...

    @handler("a.context")
    async def context(ctx: TaskContext) -> None: ...

    @handler("a.payload")
    def payload(payload: Order) -> None: ...

    @handler("a.plain")
    def plain(anything, ctx):  # type: ignore[no-untyped-def]  # an unannotated handler is allowed
        return anything

    shapes = [(one.takes_payload, one.takes_context) for one in (none, context, payload, plain)]
    assert shapes == [(False, False), (False, True), (True, False), (True, True)]
    assert context.is_async
    assert none.payload_schema()["additionalProperties"] is False


def test_a_payload_is_decoded_to_its_model_and_a_wrong_one_names_the_place() -> None:
    @handler("a.order")
    def order(payload: Order) -> None: ...

    assert order.decode_payload({"number": "4"}) == Order(number=4)
    with pytest.raises(ValidationError) as caught:
        order.decode_payload({"number": "x"})
    assert caught.value.errors()[0]["loc"] == ("number",)


def test_a_result_becomes_json_by_its_declared_type_or_by_its_own() -> None:
    one = uuid.uuid4()

    @handler("a.declared")
    def declared(payload: Order) -> Receipt: ...  # type: ignore[empty-body]  # never called

    @handler("a.free")
    def free(payload: Order):  # type: ignore[no-untyped-def]  # the case: no declared result
        return None

    assert declared.encode_result(Receipt(id=one)) == {"id": str(one)}
    assert free.encode_result(Receipt(id=one)) == {"id": str(one)}
    assert free.result_schema() == {}


@pytest.mark.parametrize("name", ["", "Orders", "orders process", "1x", "a..b", ".a", "a" * 101])
def test_a_type_that_is_no_dotted_name_is_refused(name: str) -> None:
    with pytest.raises(HandlerDeclarationError, match="lower-case words joined by dots"):
        handler(name)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"priority": 1001}, "priority"),
        ({"max_retry": -1}, "max_retry"),
        ({"timeout": 0}, "timeout"),
        ({"queue_timeout": 604_801}, "queue_timeout"),
        ({"queue": "No Queue"}, "No Queue"),
        ({"concurrency": 0}, "concurrency"),
        ({"bundle": 0}, "bundle"),
        ({"bundle": 251}, "bundle"),
        ({"rate": "often"}, "rate: 'often' is no rate; write tasks per time"),
        ({"rate": 10}, "rate: '10' is no rate"),
        ({"timeout": "10m"}, "timeout must be a whole number, 1 to 604800, not '10m'"),
        ({"timeout": 1.5}, "timeout must be a whole number"),
        ({"max_retry": True}, "max_retry must be a whole number"),
        ({"retry": 5}, r"retry is a policy such as Retry\.fixed\(30\), not 5"),
        ({"queue": 5}, "5 is no queue name"),
        ({"retries": 3, "colour": 1}, "colour, retries"),
        ({"max_retries": 3}, "unknown option max_retries; there are queue, priority, max_retry,"),
    ],
)
def test_an_option_that_is_unknown_or_out_of_bounds_is_refused_by_name(
    options: dict[str, Any], word: str
) -> None:
    with pytest.raises(HandlerDeclarationError, match=word):
        handler("a.b", **options)


def _too_many(payload: Order, more: int, ctx: TaskContext) -> None: ...


def _not_json(payload: Callable[[], None]) -> None: ...


def _strange_result(payload: Order) -> TaskContext: ...  # type: ignore[empty-body]  # never called


def _unknown_name(payload: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - the case


@pytest.mark.parametrize(
    ("function", "advice"),
    [
        (_too_many, "put them into one model"),
        (_not_json, "use a pydantic model"),
        (_strange_result, "use a pydantic model"),
        (_unknown_name, "import it at module level"),
    ],
)
def test_a_function_that_cannot_be_a_handler_is_refused_with_advice(
    function: Callable[..., Any], advice: str
) -> None:
    with pytest.raises(HandlerDeclarationError, match=advice):
        handler("a.b")(function)
    with pytest.raises(UnknownTaskType):
        get_handler("a.b")


def test_one_function_may_be_declared_again_but_not_another_under_its_type() -> None:
    def one() -> None: ...

    def other() -> None: ...

    handler("a.b")(one)
    handler("a.b")(one)
    with pytest.raises(HandlerDeclarationError, match=r"declared in .* and again in"):
        handler("a.b")(other)


def test_an_unknown_type_is_told_with_its_name() -> None:
    with pytest.raises(UnknownTaskType, match=r"a\.missing") as caught:
        get_handler("a.missing")
    assert caught.value.fields == {"type": "a.missing"}
