"""The settings of the tasks app: one frozen object, built by `config/env.py`, read through
`conf()`.

Every field is an environment variable `TASKMILL_<NAME>`; its metadata says what it means, in which
unit and why it has its default, and docs/reference/settings.md is generated from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.conf import settings


def setting(
    default: Any, doc: str, *, least: float | None = None, most: float | None = None
) -> Any:
    """Declare a field with its documentation and its bounds, both inclusive."""
    return field(default=default, metadata={"doc": doc, "least": least, "most": most})


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksConf:
    """How the platform runs tasks."""

    lease_seconds: float = setting(
        15.0,
        "Seconds a worker owns an attempt without renewing it. A dead worker's tasks wait this "
        "long plus the grace.",
        least=1,
        most=3600,
    )
    lease_grace_seconds: float = setting(
        5.0,
        "Seconds after a lease's end before it is rescued; its worker has killed it by then.",
        least=0.5,
        most=600,
    )
    lease_margin_seconds: float = setting(
        3.0,
        "Seconds before a lease's end at which its worker stops trusting it and kills the task.",
        least=0.2,
        most=600,
    )
    max_rescues: int = setting(
        3,
        "How often a task lost by workers is run again before it ends as error.",
        least=0,
        most=100,
    )
    max_retry: int = setting(
        3,
        "Further attempts after the first, where neither type nor submission says.",
        least=0,
        most=1000,
    )
    process_timeout_seconds: int = setting(
        600,
        "Seconds an attempt may run, where neither type nor submission says.",
        least=1,
        most=604_800,
    )
    kill_grace_seconds: float = setting(
        5.0,
        "Seconds between the polite stop (soft timeout, SIGTERM) and the kill of all processes.",
        least=0.1,
        most=600,
    )
    shutdown_grace_seconds: float = setting(
        20.0,
        "Seconds a stopping worker lets its tasks finish before it hands them back.",
        least=0,
        most=3600,
    )
    held_up_seconds: float = setting(
        1.0,
        "Seconds without a free slot after which a worker hands back what waits in it, for others.",
        least=0.1,
        most=3600,
    )
    publish_grace_seconds: float = setting(
        15.0,
        "Seconds after which a dispatched task without a publisher confirm is queued again.",
        least=1,
        most=600,
    )
    redispatch_seconds: float = setting(
        30.0,
        "Seconds after which a dispatched but unclaimed task is queued again; doubled each time.",
        least=1,
        most=3600,
    )
    dispatch_poll_seconds: float = setting(
        1.0,
        "Seconds between looks at the ready index when no notification came.",
        least=0.01,
        most=60,
    )
    maintain_poll_seconds: float = setting(
        0.5, "Seconds between rounds of the maintain loop.", least=0.05, most=60
    )
    leader_lease_seconds: float = setting(
        5.0,
        "Seconds a loop's leader holds its place without renewal; then a standby takes over.",
        least=0.5,
        most=300,
    )
    canary_seconds: float = setting(
        0.0,
        "Seconds between two canaries through each served queue, tiny tasks by which the delay "
        "from submission to success is measured; 0 for none.",
        least=0,
        most=86_400,
    )
    window_least: int = setting(
        8,
        "Fewest tasks handed to the broker ahead of the workers of a queue that has any.",
        least=1,
        most=10_000,
    )
    window_most: int = setting(
        2000,
        "Most tasks handed to the broker ahead of the workers of one queue.",
        least=1,
        most=100_000,
    )
    bundle_most: int = setting(
        250,
        "Most short tasks together: in the engine those of one message, in a worker those that it "
        "claims and finishes in one statement; 1 for each alone.",
        least=1,
        most=250,
    )
    ageing_seconds: float = setting(
        60.0,
        "Seconds after which a waiting task gets its turn though others of a larger priority wait; "
        "see `ageing_share`. Of one queue: its `ageing_seconds`.",
        least=1,
        most=604_800,
    )
    ageing_share: int = setting(
        10,
        "One of so many tasks handed out of a queue is of a smaller priority that has waited for "
        "`ageing_seconds`, each such priority in turn. So none starves.",
        least=2,
        most=10_000,
    )
    free_slot_of: int = setting(
        8,
        "While tenants share a queue, no one of them may hold one of every so many slots, so that "
        "whoever comes need not wait for a task to end; queues with fewer slots keep none free. 0 "
        "for none anywhere; of one queue: its `max_share`.",
        least=0,
        most=1000,
    )
    confirm_timeout_seconds: float = setting(
        5.0, "Seconds to wait for the broker's confirm of a batch.", least=0.1, most=60
    )
    max_payload_bytes: int = setting(
        1_048_576,
        "Largest payload or result in bytes of JSON; `1e308` counts as its 309 digits.",
        least=1024,
        most=16_777_216,
    )
    max_log_bytes: int = setting(
        8_388_608,
        "Log bytes kept per attempt; the oldest are dropped.",
        least=1024,
        most=1_073_741_824,
    )
    queues_most: int = setting(
        1000,
        "Most queues that there may be for a submission to make another by naming it; those that "
        "are there, those of handlers and settings, and those made by `POST /queues` or in the "
        "admin go on beyond it. Each queue costs the dispatcher a look.",
        least=1,
        most=1_000_000,
    )
    max_bulk_items: int = setting(
        10_000, "Most tasks in one bulk submission.", least=1, most=100_000
    )
    max_task_depth: int = setting(
        16,
        "How deep tasks may submit tasks that submit tasks; a task that a client submits is at 0.",
        least=1,
        most=1000,
    )
    max_task_children: int = setting(
        1000,
        "Most tasks that one task may submit while it runs, over all its attempts; they are "
        "counted with each.",
        least=1,
        most=100_000,
    )
    idempotency_hours: float = setting(
        24.0, "Hours an Idempotency-Key is remembered.", least=0.1, most=720
    )
    retention_success_days: float = setting(
        30.0, "Days a succeeded or cancelled task is kept.", least=0.01, most=36_500
    )
    retention_failed_days: float = setting(
        30.0, "Days a failed, error or timeout task is kept.", least=0.01, most=36_500
    )
    max_waits_per_key: int = setting(
        100,
        "Requests of one API key and web process that may wait for tasks at a time.",
        least=1,
        most=100_000,
    )
    relay_poll_seconds: float = setting(
        0.02,
        "Seconds between looks for new events while there are none: what the feed lags at most. "
        "Where nothing has happened for 2 s and nothing is under way, every 0.2 s; submissions "
        "ring.",
        least=0.001,
        most=10,
    )
    feed_retention_hours: float = setting(
        72.0,
        "Hours after which a stream's cursor is too old to resume from. Keep it shorter than both "
        "retentions of tasks.",
        least=0.01,
        most=8760,
    )
    stream_heartbeat_seconds: float = setting(
        15.0,
        "Seconds of silence on a stream after which a comment is sent, so that proxies keep it.",
        least=0.05,
        most=300,
    )
    stream_most_seconds: float = setting(
        3600.0,
        "Seconds after which a stream is closed; the client resumes it and is authenticated anew.",
        least=1,
        most=86_400,
    )
    max_streams_per_key: int = setting(
        1000,
        "Open streams of one API key, or of one watched task, and web process.",
        least=1,
        most=100_000,
    )
    watch_token_seconds: int = setting(
        900, "Seconds for which a watch token opens streams.", least=1, most=86_400
    )
    metrics_access: str = setting(
        "key",
        "Who may read `/metrics`: `key` for API keys with the scope `metrics:read`, `open` for "
        "whoever reaches it; then keep that address inside.",
    )
    rate_limit: str = setting(
        "6000/minute", "Requests per API key, as `N/second|minute|hour|day`; empty for none."
    )
    queues: tuple[str, ...] = setting(
        ("default",), "Queues a worker serves beside those its handlers name, comma separated."
    )
    handler_modules: tuple[str, ...] = setting(
        (),
        "Modules with handlers beside the `handlers` of each installed app, comma separated.",
    )
    adopt: tuple[str, ...] = setting(
        (),
        "Modules whose Celery tasks become task types, comma separated, such as `shop.tasks`.",
    )
    environment: str = setting(
        "live", "Word in API keys (`tm_<environment>_...`) that tells installations apart."
    )


def conf() -> TasksConf:
    """Give the settings in force."""
    found: TasksConf = settings.TASKMILL
    return found
