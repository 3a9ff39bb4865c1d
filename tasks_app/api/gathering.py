"""Submissions that come at the same time share a hop into a thread and an INSERT.

Those that arrive while others are in a thread gather on the event loop and go when these are back.
Each is checked, answered and refused as if it were alone; one that may have to wait for somebody
else's transaction goes alone.
Source: docs/adr/0005-web-threads.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from tasks_app.services.admission import Applicant, Submitted
from tasks_app.services.submit import admit_together, admitted

MOST_TOGETHER: Final = 32
MOST_BYTES: Final = 32_768
"""Of a body; larger ones go alone, so that nobody waits for the reading of another's, and so that
what goes together fits in one statement."""

PATIENCE_SECONDS: Final = 0.02
"""How long those who come wait for those that went before: they may be stuck."""

T = TypeVar("T")
R = TypeVar("R")
Settle = Callable[[Callable[[], Submitted]], HttpResponseBase]


class ApplyingResponse(HttpResponse):
    """No answer yet: the applicant asks for admission, and `settle` makes the answer of that.

    Attributes:
        settle: asks what it is given for what became of the applicant; that may raise.
    """

    def __init__(self, applicant: Applicant, settle: Settle) -> None:
        super().__init__()
        self.applicant = applicant
        self.settle = settle

    def settled_alone(self) -> HttpResponseBase:
        """Admit the applicant and give the answer."""
        return self.settle(partial(admitted, self.applicant, is_shown=True))


def may_go_along(request: HttpRequest) -> bool:
    """Say whether a submission may be carried out with others, as far as its head says."""
    is_short = int(request.META["CONTENT_LENGTH"]) <= MOST_BYTES
    return is_short and "HTTP_IDEMPOTENCY_KEY" not in request.META


def settled_together(
    responses: Sequence[HttpResponseBase],
) -> list[tuple[int, Callable[[], HttpResponseBase]]]:
    """Admit those of the applicants who wait for nobody, in one statement.

    Returns:
        The numbers of their responses, with what makes the answer of each.
    """
    applying = [
        (number, one) for number, one in enumerate(responses) if isinstance(one, ApplyingResponse)
    ]
    outcomes: Sequence[Submitted | Exception]
    try:
        applying = [(number, one) for number, one in applying if one.applicant.waits_for_nobody]
        outcomes = admit_together([one.applicant for _, one in applying]) if applying else []
    except Exception as error:  # noqa: BLE001 - each of them answers with it
        outcomes = [error] * len(applying)
    return [
        (number, partial(one.settle, partial(_outcome, outcome)))
        for (number, one), outcome in zip(applying, outcomes, strict=True)
    ]


def _outcome(outcome: Submitted | Exception) -> Submitted:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


class Gatherer(Generic[T, R]):
    """Collects what comes while others are carried out, and hands it over together.

    Each is for one event loop.

    Args:
        carry_out: takes at most `MOST_TOGETHER` and gives the result of each, in order.
    """

    def __init__(self, carry_out: Callable[[Sequence[T]], Awaitable[Sequence[R]]]) -> None:
        self._carry_out = carry_out
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._is_held = False

    async def result_of(self, one: T) -> R:
        """Carry one out, with others if there are any, and give its result."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((one, future))
        if not self._is_held:
            self._is_held = True
            loop.call_soon(self._go)  # when all that has already come has been read
        return await future

    def _go(self) -> None:
        """Send off who waits; who comes then is held until they are back or time is up."""
        self._is_held = bool(self._waiting)
        if self._is_held:
            portion = self._waiting[:MOST_TOGETHER]
            del self._waiting[:MOST_TOGETHER]
            task = asyncio.get_running_loop().create_task(self._run(portion))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _run(self, portion: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(PATIENCE_SECONDS, self._go)
        try:
            results = await self._carry_out([one for one, _ in portion])
            for (_, future), result in zip(portion, results, strict=True):
                if not future.done():
                    future.set_result(result)
        except Exception as error:  # noqa: BLE001 - each of them is told
            for _, future in portion:
                if not future.done():
                    future.set_exception(error)
        if loop.time() < timer.when():
            timer.cancel()
            self._go()
