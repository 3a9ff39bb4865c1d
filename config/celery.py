"""The Celery application: `celery -A config worker`."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")  # noqa: TID251 - how Django is told its settings

app = Celery("taskmill")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["tasks_app"], related_name="celery_tasks")
app.steps["worker"].add("tasks_app.execution.worker:LeaseStep")


@signals.setup_logging.connect
def keep_logging(**_: Any) -> None:
    """Keep the logging of `config.logging`: a receiver of this signal stops Celery from setting up its own."""
