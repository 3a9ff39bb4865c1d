"""Scheduler: recurring and one-off schedules on django-celery-beat's tables."""
