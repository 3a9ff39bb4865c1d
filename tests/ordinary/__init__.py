"""An app with ordinary Celery tasks, as any Celery project has them."""
