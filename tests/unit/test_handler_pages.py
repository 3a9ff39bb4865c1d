"""The examples of the how-to pages on handlers work as they stand."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tasks_app import registry
from tasks_app.errors import ValidationFailed

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
ORDERS = """
from pydantic import BaseModel
from tasks_app.public import Permanent, TaskContext, handler

class Order(BaseModel):
    order_id: int

class Bank:
    charges = 0
    is_down = False

bank = Bank()

@handler("orders.process")
def process_order(order: Order, ctx: TaskContext) -> dict[str, str]:
    ctx.progress(50, "charging the card")
    if bank.is_down:
        raise ConnectionError("the bank is down")
    def charge():
        bank.charges += 1
        return f"ch_{order.order_id}"
    return {"charge": ctx.once("charge", charge)}
"""


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let declarations of the pages end with the test."""
    monkeypatch.setattr(registry, "_handlers", dict(registry._handlers))


def module(monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> types.ModuleType:
    made = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, made)
    exec(compile(source, name, "exec"), made.__dict__)
    return made


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The app that the page on tests speaks of."""
    monkeypatch.setitem(sys.modules, "orders", types.ModuleType("orders"))
    return module(monkeypatch, "orders.handlers", ORDERS)


def test_the_page_on_writing_handlers_holds_working_code(monkeypatch: pytest.MonkeyPatch) -> None:
    page = module(monkeypatch, "page_on_handlers", "\n".join(blocks("write-a-handler.md")))
    run = page.render_report.test_run({"report_id": 42})
    assert run.result == {"url": "https://files.example/42", "pages": 3}
    assert run.steps == ["load", "upload"]
    assert page.own.kind == "custom"
    assert page.copy_rows.test_run({"rows": 3000}, resume=2000).checkpoint == 3000
    run = page.report_all.test_run({"customers": [7, 8]})
    assert [one.payload["report_id"] for one in run.spawned] == [7, 8]


def test_the_page_says_how_a_payload_is_read_strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    page = module(monkeypatch, "page_on_strictness", "\n".join(blocks("write-a-handler.md")))
    for lax in ("42", 42.0, 42):
        assert page.render_report.test_run({"report_id": lax, "unknown": 1}).state == "success"
    account = "01a2217e-6e5e-7714-9dfd-5eacf88d0280"
    assert page.transfer.test_run({"account": account, "cents": 1}).state == "success"
    for wrong in ({"cents": "1"}, {"cents": True}, {"cents": 1, "cent": 1}):
        with pytest.raises(ValidationFailed):
            page.transfer.test_run({"account": account} | wrong)


def test_the_page_on_tests_holds_tests_that_pass(
    monkeypatch: pytest.MonkeyPatch, orders: Any
) -> None:
    source = "import pytest\nfrom tasks_app.public import ValidationFailed\n"
    page = module(monkeypatch, "page_on_tests", source + "\n".join(blocks("test-a-handler.md")))
    page.test_an_order_is_charged()
    page.test_an_order_needs_its_number()
    orders.bank.charges = 0
    page.test_the_card_is_charged_once(orders.bank)
    orders.bank.is_down = True
    page.test_the_third_attempt_is_the_last(None)
    writing = module(monkeypatch, "page_on_handlers", "\n".join(blocks("write-a-handler.md")))
    page.copy_rows = writing.copy_rows
    page.test_rows_are_copied_from_the_checkpoint()


def test_the_page_on_moving_from_celery_holds_a_handler_that_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _before, *after = blocks("move-from-celery.md")
    page = module(monkeypatch, "page_on_moving", "\n".join(after))
    run = page.send_invoice.test_run({"invoice_id": 7, "copy_to": "me"})
    assert (run.result, run.once_values) == ({"invoice_id": 7}, {"mail": "sent to me"})
    assert (page.send_invoice.options.max_retry, page.send_invoice.options.queue) == (5, "mail")
