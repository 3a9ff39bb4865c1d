"""`celery beat -S scheduler.beat:Scheduler`: the process that keeps the schedules' time.

Celery's `Service` calls `tick` in a loop. Time is the database's; the process only sleeps until
something may be due, or until PostgreSQL notifies it of an edit. Any number may run.
"""

from __future__ import annotations

import select
import threading
from typing import Any, Final

import psycopg
from celery import beat, schedules
from django.db import connection
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import ModelEntry

from scheduler.conf import SchedulerConf, conf
from scheduler.declared import sync_declared
from scheduler.ticking.clock import Clock
from scheduler.ticking.publishing import publish_due
from tasks_app import db
from tasks_app.clock import monotonic
from tasks_app.telemetry import logger

log = logger(__name__)

CHANNEL: Final = "taskmill_schedule"
_BACKOFF_SECONDS: Final = 1.0
_SYNC_AGAIN_SECONDS: Final = 30.0
_LEAVE: Final = "DELETE FROM taskmill_beat WHERE id = %s"


class TaskEntry(ModelEntry):  # type: ignore[misc]  # django-celery-beat has no types
    """A periodic task as Celery publishes it; its timing is not asked for."""

    def __init__(self, model: PeriodicTask, app: Any) -> None:
        self._timeless = schedules.schedule(60.0)
        super().__init__(_Timeless(model, self._timeless), app=app)


class _Timeless:
    """A periodic task whose `schedule` Celery need not understand."""

    def __init__(self, model: PeriodicTask, schedule: Any) -> None:
        self._model = model
        self.schedule = schedule

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class Publisher(threading.Thread):
    """Publishes plain Celery tasks in a thread, so that a broker that is away holds nothing up."""

    def __init__(self, scheduler: Scheduler, settings: SchedulerConf) -> None:
        super().__init__(name="publisher", daemon=True)
        self._scheduler, self._conf = scheduler, settings
        self._stop_asked, self._bell = threading.Event(), threading.Event()

    def ring(self) -> None:
        """Look for work now."""
        self._bell.set()

    def stop(self, seconds: float) -> None:
        """Stop after the message at hand."""
        self._stop_asked.set()
        self._bell.set()
        self.join(seconds)

    def run(self) -> None:
        """Publish until stopped."""
        while not self._stop_asked.is_set():
            self._bell.clear()
            try:
                published, _ = publish_due(self._scheduler.publish, self._conf)
            except Exception:
                log.exception("publishing failed")
                connection.close()
                published = 0
                self._stop_asked.wait(_BACKOFF_SECONDS)
            if not published:
                self._bell.wait(self._conf.poll_seconds)
        connection.close()


class Scheduler(beat.Scheduler):
    """Celery's port of a scheduler: `tick`, `close`, `info`."""

    Entry = ModelEntry

    def __init__(self, *args: Any, **options: Any) -> None:
        self._clock = Clock(conf())
        self._publisher: Publisher | None = None
        self._bell: psycopg.Connection[Any] | None = None
        self._is_prepared = self._is_closed = False
        self._sync_at: float | None = 0.0
        super().__init__(*args, **options)
        # Celery sleeps and reckons with fractions as well
        self.max_interval: Any = self._clock.conf.poll_seconds

    def setup_schedule(self) -> None:
        """Do nothing yet: the first tick prepares, and repeats it while the database is away."""

    def tick(self, *_: Any, **__: Any) -> float:
        """Do what is due, then wait until something may be due again; gives 0.0."""
        try:
            self._prepare()
            wait = self._clock.tick()
            if self._publisher is not None:
                self._publisher.ring()
            self._wait_for_bell(wait)
        except Exception:
            log.exception("a tick failed; it is repeated")
            self._hang_up()
            return _BACKOFF_SECONDS
        return 0.0

    def publish(self, task: PeriodicTask) -> Any:
        """Publish a plain Celery task as django-celery-beat would."""
        return self.apply_async(TaskEntry(task, app=self.app), advance=False)

    def sync(self) -> None:
        """Do nothing: what happened is in the database already."""

    def close(self) -> None:
        """Stop publishing and say that this beat is gone; may be repeated."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._publisher is not None:
            self._publisher.stop(seconds=3.0)
        try:
            with db.connect("beat-leave", statement_timeout_seconds=2) as last:
                last.execute(_LEAVE, [self._clock.id])
        except psycopg.Error as error:
            log.warning("could not say goodbye", reason=str(error)[:300])
        super().close()

    @property
    def info(self) -> str:
        """What the banner says."""
        return "    . db -> taskmill_schedule, django_celery_beat"

    def _prepare(self) -> None:
        if not self._is_prepared:
            self._install_entries()
            self._is_prepared = True
        if self._sync_at is not None and monotonic() >= self._sync_at:
            self._sync_at = None if sync_declared() else monotonic() + _SYNC_AGAIN_SECONDS
        if self._publisher is None:
            self._publisher = Publisher(self, self._clock.conf)
            self._publisher.start()

    def _install_entries(self) -> None:
        """Write Celery's own entries and those of `beat_schedule` into the tables."""
        entries: dict[str, Any] = {}
        if self.app.conf.result_expires:
            entries["celery.backend_cleanup"] = {
                "task": "celery.backend_cleanup",
                "schedule": schedules.crontab("0", "4", "*"),
                "options": {"expire_seconds": 12 * 3600},
            }
        for name, entry in (entries | dict(self.app.conf.beat_schedule)).items():
            ModelEntry.from_entry(name, app=self.app, **entry)

    def _wait_for_bell(self, seconds: float) -> None:
        if seconds <= 0:
            return
        if self._bell is None:
            self._bell = db.connect("beat")
            self._bell.execute(f"LISTEN {CHANNEL}")
            return
        if not self._drain():
            select.select([self._bell.fileno()], [], [], seconds)
            self._drain()

    def _drain(self) -> bool:
        if self._bell is None:
            return False
        return sum(1 for _ in self._bell.notifies(timeout=0)) > 0

    def _hang_up(self) -> None:
        connection.close()
        if self._bell is not None:
            self._bell.close()
            self._bell = None
