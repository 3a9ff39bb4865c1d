"""Runs attempts in a Celery worker: claim, call, finish, and the leases that make it safe."""
