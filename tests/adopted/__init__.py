"""An app with Celery tasks that know nothing of the platform; `TASKMILL_ADOPT` tracks them."""
