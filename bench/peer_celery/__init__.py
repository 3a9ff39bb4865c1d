"""The peer: a plain Django and Celery application that keeps state and results of its tasks.

Celery's prefork worker on RabbitMQ quorum queues, django-celery-results on PostgreSQL, start
tracked, everything else as those projects ship it.
"""

from bench.peer_celery.app import app as celery_app

__all__ = ["celery_app"]
