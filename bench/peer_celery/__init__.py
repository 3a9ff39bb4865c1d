"""The peer: a plain Celery application that keeps state and results of its tasks.

Celery's prefork worker on RabbitMQ quorum queues; results in Redis, or with django-celery-results
in PostgreSQL, then with starts tracked. Everything else is as those projects ship it.
"""

from bench.peer_celery.app import app as celery_app

__all__ = ["celery_app"]
