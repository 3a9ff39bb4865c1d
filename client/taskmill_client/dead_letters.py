"""What may be asked of dead letters: tasks that are out of attempts."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from taskmill_client.binding import Bound, iteration, operation
from taskmill_client.calls import get_call, id_path, keyed_call, known, post_call
from taskmill_client.pages import emit_pages
from taskmill_client.records import (
    DeadLetter,
    DeadLetterGroup,
    DeadLetterGroups,
    PacedRetry,
    made,
)
from taskmill_client.wire import Flow, JsonObject

_PATH: Final = "/dead-letters"
_ADVICE: Final = "the id of a paced retry is what retry_paced() and paced_retries() give"


def _paced_path(retry_id: str | uuid.UUID, suffix: str = "") -> str:
    return id_path("dead-letters/retries", retry_id, suffix, advice=_ADVICE)


def _selection(ids: Sequence[str | uuid.UUID] | None, **filters: Any) -> JsonObject:
    return known(ids=None if ids is None else [str(one) for one in ids], **filters)


class DeadLetterOperations(Bound):
    """`client.dead_letters`.

    The filters are everywhere the same: `group_id`, `type`, `queue`, `status` (failed, error or
    timeout), `code` of the last error, and where something is done `finished_before`.
    """

    @iteration(DeadLetter)
    def list(
        self,
        /,
        *,
        group_id: str | None = None,
        type: str | None = None,  # noqa: A002 - the contract's word
        queue: str | None = None,
        status: str | None = None,
        code: str | None = None,
        limit: int | None = None,
    ) -> Flow[None]:
        """Give them, the newest first, page by page; `limit` at most, None for all."""
        filters = known(group_id=group_id, type=type, queue=queue, status=status, code=code)
        make = partial(made, DeadLetter)
        yield from emit_pages(self._exchange, _PATH, filters, limit=limit, make=make)

    @operation
    def groups(
        self,
        /,
        *,
        group_id: str | None = None,
        type: str | None = None,  # noqa: A002 - the contract's word
        queue: str | None = None,
        status: str | None = None,
        code: str | None = None,
    ) -> Flow[DeadLetterGroups]:
        """Give them by cause: the task type, the error code and the raising frame."""
        filters = known(group_id=group_id, type=type, queue=queue, status=status, code=code)
        found = yield from self._exchange.json(get_call(_PATH, group=True, **filters))
        return DeadLetterGroups(
            groups=[made(DeadLetterGroup, one) for one in found["results"]],
            is_capped=found["capped"],
        )

    @operation
    def retry(
        self,
        /,
        ids: Sequence[str | uuid.UUID] | None = None,
        *,
        group_id: str | None = None,
        type: str | None = None,  # noqa: A002 - the contract's word
        queue: str | None = None,
        status: str | None = None,
        code: str | None = None,
        finished_before: datetime | str | None = None,
        idempotency_key: str | None = None,
    ) -> Flow[int]:
        """Run those named (1,000 at most) or those that fit again, attempts granted anew.

        Returns:
            How many were queued: 10,000 at most; `retry_paced` takes any number.

        Raises:
            ValidationRefused: neither ids nor a filter are given, or both.
        """
        body = _selection(
            ids,
            group_id=group_id,
            type=type,
            queue=queue,
            status=status,
            code=code,
            finished_before=finished_before,
        )
        call = keyed_call(f"{_PATH}/retry", body, idempotency_key)
        return int((yield from self._exchange.json(call))["count"])

    @operation
    def purge(
        self,
        /,
        ids: Sequence[str | uuid.UUID] | None = None,
        *,
        group_id: str | None = None,
        type: str | None = None,  # noqa: A002 - the contract's word
        queue: str | None = None,
        status: str | None = None,
        code: str | None = None,
        finished_before: datetime | str | None = None,
    ) -> Flow[int]:
        """Delete those named (1,000 at most) or those that fit, with their history.

        An API key needs the scope `tasks:admin`. It is not repeated where its answer is lost.

        Returns:
            How many were deleted: 10,000 at most; call it until it gives 0.

        Raises:
            ValidationRefused: neither ids nor a filter are given, or both.
        """
        body = _selection(
            ids,
            group_id=group_id,
            type=type,
            queue=queue,
            status=status,
            code=code,
            finished_before=finished_before,
        )
        return int((yield from self._exchange.json(post_call(f"{_PATH}/purge", body)))["count"])

    @operation
    def retry_paced(
        self,
        /,
        per_second: float,
        *,
        group_id: str | None = None,
        type: str | None = None,  # noqa: A002 - the contract's word
        queue: str | None = None,
        status: str | None = None,
        code: str | None = None,
        finished_before: datetime | str | None = None,
        idempotency_key: str | None = None,
    ) -> Flow[PacedRetry]:
        """Begin to retry those that fit now, so many a second; it goes on over restarts.

        Raises:
            ValidationRefused: no filter is given.
            Conflict: too many of them go on.
        """
        body = known(
            per_second=per_second,
            group_id=group_id,
            type=type,
            queue=queue,
            status=status,
            code=code,
            finished_before=finished_before,
        )
        call = keyed_call(f"{_PATH}/retries", body, idempotency_key)
        return made(PacedRetry, (yield from self._exchange.json(call)))

    @iteration(PacedRetry)
    def paced_retries(self, /, *, limit: int | None = None) -> Flow[None]:
        """Give the paced retries, the newest first."""
        path, make = f"{_PATH}/retries", partial(made, PacedRetry)
        yield from emit_pages(self._exchange, path, {}, limit=limit, make=make)

    @operation
    def paced_retry(self, /, retry_id: str | uuid.UUID) -> Flow[PacedRetry]:
        """Give a paced retry, with how far it is."""
        return made(PacedRetry, (yield from self._exchange.json(get_call(_paced_path(retry_id)))))

    @operation
    def abort_paced_retry(self, /, retry_id: str | uuid.UUID) -> Flow[PacedRetry]:
        """Retry nothing more; what was retried stays so.

        Raises:
            Conflict: it has ended.
        """
        call = post_call(_paced_path(retry_id, "/abort"))
        return made(PacedRetry, (yield from self._exchange.json(call)))
