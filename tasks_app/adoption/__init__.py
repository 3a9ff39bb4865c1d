"""Celery tasks as task types, without a change to them: `from_celery` and `adopt_modules`.

An adopted task keeps its function, its options and its callers. `delay` and `apply_async` submit a
task of the platform in the caller's transaction; in the worker Celery's own tracer calls the
function, so that `self.request`, `self.retry`, hooks and signals are what they were. The Celery
task keeps its own name, under which messages that are still in a broker run as ever. What a row
cannot carry is refused where it is asked for.
"""

from tasks_app.adoption.declaring import adopt_modules, from_celery

__all__ = ["adopt_modules", "from_celery"]
