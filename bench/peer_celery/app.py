"""The peer's Celery application: `celery -A bench.peer_celery worker`."""

from __future__ import annotations

import os

from celery import Celery
from kombu import Exchange, Queue

IS_TUNED = os.environ.get("PEER_IS_TUNED") == "1"
RESULTS = os.environ["PEER_RESULTS"]
QUEUE = Queue(
    "peer",
    Exchange("peer", "topic"),
    routing_key="peer",
    queue_arguments={"x-queue-type": "quorum"},
)

app = Celery("peer", include=["bench.peer_celery.tasks"])
app.conf.update(
    broker_url=os.environ["PEER_BROKER"],
    result_backend=RESULTS,
    task_track_started=RESULTS == "django-db",
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    task_queues=[QUEUE],
    task_default_queue="peer",
    task_default_exchange="peer",
    task_default_exchange_type="topic",
    task_default_routing_key="peer",
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": IS_TUNED},
)
if IS_TUNED:
    app.conf["CELERY_DB_REUSE_MAX"] = 1_000_000
