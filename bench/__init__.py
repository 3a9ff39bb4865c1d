"""Measurements of Taskmill beside Celery with django-celery-results, on one machine in one run.

`python -m bench` (or `make bench`) starts its own PostgreSQL, RabbitMQ and Valkey in a temporary
directory, measures both systems in turn, prints a table and appends JSON lines to `bench/results/`.
docs/explanation/performance.md explains what is measured and how to read it.
"""
