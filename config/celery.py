"""The Celery application, for `manage.py worker` and `celery -A config ...`."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, signals
from django.db import connections
from kombu import Exchange

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")  # noqa: TID251 - how Django is told its settings
# Django's checks import the whole web side, and Celery ignores what they say.
os.environ.setdefault("CELERY_SKIP_CHECKS", "true")  # noqa: TID251 - how Celery is told


def _exchange(_queue: str) -> Exchange:
    return Exchange("taskmill", "topic")


app = Celery("taskmill")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["tasks_app"], related_name="celery_tasks")
app.steps["worker"].add("tasks_app.execution.worker:LeaseStep")
app.amqp.autoexchange = _exchange  # type: ignore[assignment]  # Celery calls it with the name


@signals.celeryd_init.connect
def serve_known_queues(conf: Any, **_: Any) -> None:
    """Serve the queues of the handlers and of the settings where a worker is not told others."""
    from config.settings import celery_queue
    from tasks_app.registry import known_queues

    conf.task_queues = [celery_queue(name) for name in known_queues()]


@signals.setup_logging.connect
def keep_logging(**_: Any) -> None:
    """Keep the logging of `config.logging`.

    A receiver of this signal stops Celery from setting up its own.
    """


@signals.task_postrun.connect
def give_back_connections(sender: Any = None, **_: Any) -> None:
    """Close the Django connections that a task opened, so that none outlives a lost database.

    Instead of Celery's own two rounds over all connections and pools around every task, which
    `CELERY_DB_REUSE_MAX` turns off: most tasks open none.
    """
    if sender is not None and sender.request.is_eager:
        return
    for connection in connections.all(initialized_only=True):
        if connection.connection is not None:
            connection.close()
