"""What the apps `notifications` and `scheduler` build on, beside `tasks_app.public`.

Authors of handlers need nothing of it, and its names may change with the apps that use them. The
kit for endpoints is `tasks_app.rest`.
"""

from __future__ import annotations

from tasks_app.engine_loops import EngineLoop, declare_loop
from tasks_app.errors import (
    ConfigurationError,
    Forbidden,
    InfrastructureError,
    NotAuthenticated,
    RateLimited,
    ScopeMissing,
    StoreUnavailable,
)
from tasks_app.events import INSTALLATION_EVENTS, PlatformEventType
from tasks_app.feed import (
    FINAL_EVENTS,
    PLATFORM_EVENTS,
    PUBLIC_EVENTS,
    FeedBounds,
    FeedClosed,
    FeedEvent,
    FeedHub,
    FeedReset,
    KeyNotInForce,
    SlowSubscriber,
    Subscription,
    SubscriptionEnded,
    Wanted,
    feed_bounds,
    feed_hub,
    read_feed,
    sequence_of_last_event,
)
from tasks_app.loops import Round, Turn, Work
from tasks_app.mail import send_mail
from tasks_app.metrics import Metric, MetricSource, Sample, connection_open, declare_metrics
from tasks_app.selectors import cloud_event, tenant_id_of
from tasks_app.selectors.receivers import TaskFacts, has_own_receivers, task_facts
from tasks_app.selectors.reporting import finished_between, queues_waiting_longest
from tasks_app.services.caller import Caller
from tasks_app.services.cancel import cancel_task
from tasks_app.services.health_parts import HealthPart, Part, declare_health_part
from tasks_app.services.keys import (
    Principal,
    find_caller,
    find_watcher,
    forget_principals,
    on_key_revoked,
    principal_of_key,
)
from tasks_app.services.receivers import add_task_receiver, check_task_of
from tasks_app.services.scheduled import (
    ScheduledSubmission,
    check_scheduled,
    is_task_type,
    submit_scheduled,
    task_states,
)
from tasks_app.services.submission import ReceiverPort
from tasks_app.services.watch import Watch
from tasks_app.services.watching import (
    Beginning,
    begin_watching,
    check_event_scopes,
    task_snapshot,
)
from tasks_app.sinks import FeedSink, SinkWork
from tasks_app.states import FINISHED, status_of
from tasks_app.transitions import platform_event

__all__ = [
    "FINAL_EVENTS",
    "FINISHED",
    "INSTALLATION_EVENTS",
    "PLATFORM_EVENTS",
    "PUBLIC_EVENTS",
    "Beginning",
    "Caller",
    "ConfigurationError",
    "EngineLoop",
    "FeedBounds",
    "FeedClosed",
    "FeedEvent",
    "FeedHub",
    "FeedReset",
    "FeedSink",
    "Forbidden",
    "HealthPart",
    "InfrastructureError",
    "KeyNotInForce",
    "Metric",
    "MetricSource",
    "NotAuthenticated",
    "Part",
    "PlatformEventType",
    "Principal",
    "RateLimited",
    "ReceiverPort",
    "Round",
    "Sample",
    "ScheduledSubmission",
    "ScopeMissing",
    "SinkWork",
    "SlowSubscriber",
    "StoreUnavailable",
    "Subscription",
    "SubscriptionEnded",
    "TaskFacts",
    "Turn",
    "Wanted",
    "Watch",
    "Work",
    "add_task_receiver",
    "begin_watching",
    "cancel_task",
    "check_event_scopes",
    "check_scheduled",
    "check_task_of",
    "cloud_event",
    "connection_open",
    "declare_health_part",
    "declare_loop",
    "declare_metrics",
    "feed_bounds",
    "feed_hub",
    "find_caller",
    "find_watcher",
    "finished_between",
    "forget_principals",
    "has_own_receivers",
    "is_task_type",
    "on_key_revoked",
    "platform_event",
    "principal_of_key",
    "queues_waiting_longest",
    "read_feed",
    "send_mail",
    "sequence_of_last_event",
    "status_of",
    "submit_scheduled",
    "task_facts",
    "task_snapshot",
    "task_states",
    "tenant_id_of",
]
