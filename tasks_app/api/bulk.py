"""Submitting many tasks in one call."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError
from rest_framework.request import Request

from tasks_app.api.answers import BulkOutcome
from tasks_app.api.idempotency import Answer, IdempotentPost
from tasks_app.api.operation import Operation, Reply
from tasks_app.api.permissions import check_task_type
from tasks_app.api.submissions import origin_of
from tasks_app.api.views import ApiView
from tasks_app.conf import conf
from tasks_app.errors import QuotaExceeded, RequestError, TooManyQueues
from tasks_app.services.admission import Submitted
from tasks_app.services.json_values import invalid, validation_failed
from tasks_app.services.submission import Strict, Submission, read_submission
from tasks_app.services.submit import submit_many

BULK_BODY_BYTES: Final = 33_554_432
MOST_ERRORS_OF_ITEM: Final = 5


class BulkBody(Strict):
    """The body of a bulk submission; with `atomic` all items are taken or none."""

    items: list[Any]
    atomic: bool = False


class BulkSubmissions(BulkBody):
    """Submissions in order, at most 10,000; with `atomic` all are taken or none."""

    items: list[Submission]


class BulkSubmission(IdempotentPost, ApiView):
    """`POST /tasks/bulk`: up to `max_bulk_items` submissions in one transaction."""

    scopes = {"POST": "tasks:submit"}
    operations = {
        "POST": Operation(
            name="submit_tasks",
            tag="tasks",
            summary="Submit many tasks",
            description=(
                "In one transaction. Without `atomic` each item is taken or refused by itself and"
                " `results` says which; with it, one wrong item refuses all with 422, and too"
                " little room in a quota with 429."
            ),
            body=BulkSubmissions,
            headers=("Idempotency-Key", "traceparent"),
            replies={
                202: Reply(
                    description="All were taken.",
                    model=BulkOutcome,
                    headers=("Idempotency-Replayed",),
                ),
                207: Reply(
                    description="Some were refused.",
                    model=BulkOutcome,
                    headers=("Idempotency-Replayed",),
                ),
            },
            problems=(QuotaExceeded, TooManyQueues),
        )
    }
    max_body_bytes = BULK_BODY_BYTES

    def carry_out(self, request: Request, **_: Any) -> Answer:
        """Submit all of them; 202 when each was taken, 207 with one outcome per item else."""
        body = _read_bulk(request.data)
        outcomes = submit_many(
            caller=self.caller,
            submissions=[self._read_item(item, number) for number, item in enumerate(body.items)],
            is_atomic=body.atomic,
            origin=origin_of(request),
        )
        results = [_item_outcome(outcome) for outcome in outcomes]
        accepted = sum(isinstance(outcome, Submitted) for outcome in outcomes)
        return Answer(
            status=202 if accepted == len(outcomes) else 207,
            body={"accepted": accepted, "rejected": len(outcomes) - accepted, "results": results},
        )

    def _read_item(self, item: Any, number: int) -> Submission | RequestError:
        try:
            submission = read_submission(item, at=f"/items/{number}")
            check_task_type(self.principal, submission.type)
        except RequestError as error:
            return error
        return submission


def _read_bulk(body: Any) -> BulkBody:
    try:
        found = BulkBody.model_validate(body)
    except ValidationError as error:
        raise validation_failed(error) from error
    if not 1 <= len(found.items) <= conf().max_bulk_items:
        raise invalid("/items", "length", f"give 1 to {conf().max_bulk_items} items")
    return found


def _item_outcome(outcome: Submitted | RequestError) -> dict[str, Any]:
    if isinstance(outcome, Submitted):
        return {"status": 200 if outcome.is_existing else 202, "id": str(outcome.task_id)}
    errors, more = outcome.fields.get("errors", []), outcome.fields.get("more_errors", 0)
    return {
        "status": outcome.http_status,
        "id": outcome.fields.get("task_id"),
        "code": outcome.code,
        "detail": outcome.detail,
        "errors": errors[:MOST_ERRORS_OF_ITEM],
        "more_errors": more + max(len(errors) - MOST_ERRORS_OF_ITEM, 0),
    }
