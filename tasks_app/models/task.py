"""The task row: the only truth about a task."""

from __future__ import annotations

import uuid
from typing import Any

import uuid_utils
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce, Upper

from tasks_app.models.tenancy import Tenant
from tasks_app.states import DEAD_LETTERS, FINISHED, PENDING, PROCESSING, UNDER_WAY, State

_PENDING = sorted(PENDING)
_PROCESSING = sorted(PROCESSING)
_UNDER_WAY = sorted(UNDER_WAY)
_AT_REST = ~Q(state__in=_UNDER_WAY)
_FINISHED = sorted(FINISHED)
_DEAD = sorted(DEAD_LETTERS)
_DONE = sorted(FINISHED - DEAD_LETTERS)


def new_task_id() -> uuid.UUID:
    """Give a UUIDv7: unique, and ordered by creation time in milliseconds."""
    return uuid.UUID(bytes=uuid_utils.uuid7().bytes)


class Cause(models.Func):
    """The id of a dead letter's group: its type, error code and frame, hashed.

    `selectors.dead_letters.CAUSE` is the same in SQL; the index serves no other spelling.
    """

    template = "left(md5(%(expressions)s), 16)"
    arg_joiner = " || '/' || "
    output_field = models.TextField()

    def __init__(self, **extra: Any) -> None:
        code = Coalesce(KeyTextTransform("code", "error"), Upper("state"))
        super().__init__(F("type"), code, Coalesce(F("frame"), Value("")), **extra)


class ParkedBy(models.Func):
    """What the rule limits that parked a task, `slots` or `rate`; spelt as in `selectors.lists`."""

    function = "split_part"
    output_field = models.TextField()

    def __init__(self, **extra: Any) -> None:
        super().__init__(F("blocked_by"), Value("/"), Value(1), **extra)


class Task(models.Model):
    """One submitted unit of work; written by `transitions` and `progress` alone."""

    id = models.UUIDField(primary_key=True, default=new_task_id, editable=False)
    # Without a constraint: the check would cost every submission a query and a lock on its tenant's
    # row, which all of that tenant share; nothing deletes tenants.
    tenant = models.ForeignKey(
        Tenant, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    type = models.CharField(max_length=100)
    queue = models.CharField(max_length=100)
    priority = models.SmallIntegerField(default=0)
    state = models.CharField(max_length=16, choices=[(state.value, state.value) for state in State])
    version = models.IntegerField(default=1, help_text="Grows with every visible change; the ETag.")
    event_seq = models.IntegerField(default=1, help_text="Number of the newest event.")

    payload = models.JSONField()
    metadata = models.JSONField(default=dict)
    tags = ArrayField(models.CharField(max_length=64), default=list)
    result = models.JSONField(null=True)
    error = models.JSONField(null=True)
    progress = models.FloatField(default=0)
    progress_message = models.TextField(default="")
    progress_detail = models.JSONField(null=True)

    max_retry = models.SmallIntegerField()
    retry_policy = models.JSONField(null=True, help_text="Overrides the type's policy.")
    attempt = models.IntegerField(default=0, help_text="Attempts made; for people.")
    attempt_base = models.IntegerField(
        default=0, help_text="Attempts made before the last redrive."
    )
    epoch = models.BigIntegerField(default=0, help_text="Fencing token; only grows.")
    rescues = models.SmallIntegerField(default=0)
    interrupts = models.IntegerField(default=0)
    sweeps = models.SmallIntegerField(default=0, help_text="Lost hints since the last claim.")
    hand_backs = models.SmallIntegerField(
        default=0, help_text="Workers since the last claim that could not run it."
    )
    dispatch_seq = models.IntegerField(default=0)

    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    run_at = models.DateTimeField(help_text="Not before.")
    queued_at = models.DateTimeField(
        null=True, help_text="When it last became ready; waits are counted from here."
    )
    dispatched_at = models.DateTimeField(null=True)
    published_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    queue_timeout = models.IntegerField(null=True, help_text="Seconds.")
    process_timeout = models.IntegerField(help_text="Seconds.")
    queue_deadline = models.DateTimeField(null=True)
    run_deadline = models.DateTimeField(null=True)

    lease_owner = models.CharField(max_length=120, null=True)  # noqa: DJ001 - null is "no lease", by constraint
    lease_expires_at = models.DateTimeField(null=True)
    worker = models.CharField(max_length=120, default="", help_text="Who ran it last.")
    frame = models.CharField(  # noqa: DJ001 - null is "no frame of the handler's own"
        max_length=200, null=True, help_text="Where its last attempt failed for good."
    )
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_requested_by = models.CharField(max_length=120, default="")
    cancel_reason = models.CharField(max_length=500, default="")
    cancel_grace_seconds = models.FloatField(null=True)

    concurrency_key = models.CharField(max_length=200, null=True)  # noqa: DJ001 - null is "no limit"
    max_concurrency = models.IntegerField(null=True)
    concurrency_strategy = models.CharField(
        max_length=16, default="queue", db_default="queue", help_text="When its key is full."
    )
    blocked_by = models.CharField(  # noqa: DJ001 - null is "by nothing"
        max_length=240, null=True, help_text="The rule that refused it."
    )
    let_go_by = models.CharField(  # noqa: DJ001 - null is "by nothing"
        max_length=240, null=True, help_text="The rule that let it go, until it is decided about."
    )
    fair_key = models.CharField(
        max_length=200,
        db_default="",
        default="",
        help_text="Shares its tenant's share with others.",
    )
    unique_key = models.CharField(max_length=200, null=True)  # noqa: DJ001 - null is "not unique"
    webhook_urls = models.JSONField(null=True)
    retry_of = models.UUIDField(null=True)
    parent = models.UUIDField(null=True)
    root = models.UUIDField(null=True, help_text="The first task of a line of parents.")
    depth = models.SmallIntegerField(db_default=0, help_text="How many tasks are above it.")
    payload_bytes = models.IntegerField(db_default=0, help_text="Of JSON; counted by quotas.")
    debounce_key = models.CharField(max_length=200, null=True)  # noqa: DJ001 - null is "not debounced"
    debounce_until = models.DateTimeField(null=True, help_text="run_at is never moved beyond.")
    schedule = models.CharField(max_length=100, null=True)  # noqa: DJ001 - null is "by hand"
    traceparent = models.CharField(max_length=64, default="")
    submitted_by = models.CharField(max_length=120, default="")
    is_awaited = models.BooleanField(
        db_default=False, help_text="Whether its submitter waits: its end rings."
    )

    class Meta:
        db_table = "taskmill_task"
        permissions = [("operate_task", "Can cancel and retry tasks")]
        constraints = [
            models.CheckConstraint(
                name="task_state_known", condition=Q(state__in=[state.value for state in State])
            ),
            models.CheckConstraint(
                name="task_lease_iff_processing",
                condition=Q(
                    state__in=_PROCESSING, lease_owner__isnull=False, lease_expires_at__isnull=False
                )
                | (
                    ~Q(state__in=_PROCESSING)
                    & Q(lease_owner__isnull=True, lease_expires_at__isnull=True)
                ),
            ),
            models.CheckConstraint(
                name="task_finished_iff_final",
                condition=Q(state__in=_FINISHED, finished_at__isnull=False)
                | (~Q(state__in=_FINISHED) & Q(finished_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="task_cancelling_was_asked",
                condition=~Q(state="cancelling") | Q(cancel_requested_at__isnull=False),
            ),
            models.CheckConstraint(
                name="task_running_was_not_asked",
                condition=~Q(state="running") | Q(cancel_requested_at__isnull=True),
            ),
            models.CheckConstraint(
                name="task_attempt_le_epoch", condition=Q(attempt__lte=F("epoch"))
            ),
            models.CheckConstraint(
                name="task_blocked_by_a_rule",
                condition=~Q(state="blocked") | Q(blocked_by__isnull=False),
            ),
            models.UniqueConstraint(
                name="task_unique_while_active",
                fields=["tenant", "unique_key"],
                condition=Q(unique_key__isnull=False, finished_at__isnull=True),
            ),
            models.UniqueConstraint(
                name="task_debounced",
                fields=["tenant", "type", "debounce_key"],
                condition=Q(debounce_key__isnull=False, epoch=0, finished_at__isnull=True),
            ),
        ]
        indexes = [
            models.Index(
                F("queue"),
                F("priority").desc(),
                F("run_at"),
                F("id"),
                name="task_ready",
                condition=Q(state="queued"),
            ),
            models.Index(
                F("queue"),
                F("priority").desc(),
                F("tenant"),
                F("fair_key"),
                F("run_at"),
                F("id"),
                name="task_flows",
                condition=Q(state="queued"),
            ),
            models.Index(
                fields=["queue", "dispatched_at"],
                name="task_dispatched",
                condition=Q(state="dispatched"),
            ),
            models.Index(
                fields=["run_at"],
                name="task_waiting",
                condition=Q(state__in=["scheduled", "retrying"]),
            ),
            models.Index(
                fields=["lease_expires_at"], name="task_leases", condition=Q(state__in=_PROCESSING)
            ),
            models.Index(
                fields=["run_deadline"],
                name="task_run_deadline",
                condition=Q(state__in=_PROCESSING),
            ),
            models.Index(
                fields=["queue_deadline"],
                name="task_queue_deadline",
                condition=Q(state__in=_PENDING, queue_deadline__isnull=False),
            ),
            models.Index(
                fields=["tenant", "concurrency_key", "state"],
                name="task_slots",
                condition=Q(concurrency_key__isnull=False, finished_at__isnull=True),
            ),
            models.Index(
                F("blocked_by"),
                F("queue"),
                F("priority").desc(),
                F("run_at"),
                F("id"),
                name="task_blocked",
                condition=Q(state="blocked"),
            ),
            models.Index(
                F("tenant"),
                ParkedBy(),
                F("id").desc(),
                name="task_list_blocked",
                condition=Q(state="blocked"),
            ),
            models.Index(
                fields=["let_go_by", "queue"],
                name="task_let_go",
                condition=Q(let_go_by__isnull=False),
            ),
            models.Index(fields=["finished_at"], name="task_done_at", condition=Q(state__in=_DONE)),
            models.Index(fields=["finished_at"], name="task_dead_at", condition=Q(state__in=_DEAD)),
            models.Index(
                F("tenant"),
                F("state"),
                F("id").desc(),
                name="task_under_way",
                condition=Q(epoch__gte=0, state__in=_UNDER_WAY),
            ),
            models.Index(F("tenant"), F("id").desc(), name="task_list", condition=_AT_REST),
            models.Index(
                F("tenant"),
                F("state"),
                F("id").desc(),
                name="task_list_state",
                condition=_AT_REST,
            ),
            models.Index(
                F("tenant"), F("type"), F("id").desc(), name="task_list_type", condition=_AT_REST
            ),
            models.Index(
                F("tenant"), F("queue"), F("id").desc(), name="task_list_queue", condition=_AT_REST
            ),
            models.Index(
                F("tenant"),
                F("concurrency_key"),
                F("id").desc(),
                name="task_list_key",
                condition=Q(concurrency_key__isnull=False) & _AT_REST,
            ),
            models.Index(
                F("tenant"),
                F("schedule"),
                F("id").desc(),
                name="task_list_schedule",
                condition=Q(schedule__isnull=False),
            ),
            models.Index(
                F("tenant"),
                F("finished_at").desc(),
                F("id").desc(),
                name="task_dead",
                condition=Q(state__in=_DEAD),
            ),
            models.Index(
                F("tenant"),
                Cause(),
                F("finished_at").desc(),
                F("id").desc(),
                name="task_dead_cause",
                condition=Q(state__in=_DEAD),
            ),
            models.Index(
                F("tenant"),
                F("finished_at").desc(),
                F("id").desc(),
                name="task_list_finished",
                condition=Q(finished_at__isnull=False),
            ),
            models.Index(
                F("tenant"),
                F("parent"),
                F("id").desc(),
                name="task_list_parent",
                condition=Q(parent__isnull=False),
            ),
            models.Index(
                fields=["queue"],
                name="task_late_by_queue",
                condition=Q(state__in=["scheduled", "blocked", "retrying"]),
            ),
            models.Index(
                Func("webhook_urls", function="jsonb_array_length"),
                name="task_own_receivers",
                condition=Q(webhook_urls__isnull=False),
            ),
            GinIndex(
                fields=["tags"],
                name="task_tags",
                fastupdate=True,
                condition=~Q(tags=[]) & _AT_REST,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"
