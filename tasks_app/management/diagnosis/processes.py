"""Checks of what runs: a worker for every queue, a leader for every loop of the engine, no step
that fails, and the parts that installed apps declare."""

from __future__ import annotations

import psycopg
from django.db import Error as DatabaseError

from tasks_app import db
from tasks_app.conf import conf
from tasks_app.engine_loops import engine_loops
from tasks_app.management.diagnosis.finding import Finding
from tasks_app.registry import known_queues
from tasks_app.selectors.platform import failed_steps
from tasks_app.services.health_parts import HealthPart, declared_health_parts

_SERVED = """
SELECT DISTINCT unnest(queues) FROM taskmill_worker
WHERE NOT is_stopping AND last_seen_at > taskmill_now() - make_interval(secs => %s)
"""
_LED = "SELECT loop FROM taskmill_leader WHERE expires_at > taskmill_now()"


def findings() -> list[Finding]:
    """Check the processes by the rows they keep; nothing where the tables cannot be read."""
    try:
        with db.connect("doctor") as connection:
            served = {row[0] for row in connection.execute(_SERVED, [conf().lease_seconds])}
            led = {row[0] for row in connection.execute(_LED)}
    except psycopg.Error:
        return []
    workers = [worker(name, is_served=name in served) for name in known_queues()]
    leaders = [leader(name, is_led=name in led) for name in engine_loops()]
    steps = step_findings()
    return [*workers, *leaders, *steps, *[declared(part) for part in declared_health_parts()]]


def step_findings() -> list[Finding]:
    """Judge the duties of the maintain loop: a fault for each step that fails."""
    try:
        found = [row for row in failed_steps() if row["is_failing"]]
    except DatabaseError:
        return []
    fix = "see the engine's log for `a step failed`; the other steps run meanwhile"
    faults = [Finding(check=f"step.{row['step']}", detail=row["reason"], fix=fix) for row in found]
    return faults or [Finding(check="steps", detail="none fails")]


def declared(part: HealthPart) -> Finding:
    """Ask a part that an app declared."""
    try:
        found = part.check()
    except DatabaseError as error:
        return Finding(check=part.name, detail=str(error).strip(), fix="mend the database first")
    fix = "" if found.is_ok else part.fix
    return Finding(check=part.name, detail=found.detail or "well", fix=fix)


def worker(queue: str, *, is_served: bool) -> Finding:
    """Judge whether somebody runs a queue's tasks."""
    detail = "served" if is_served else "no live worker"
    fix = "" if is_served else f"start a worker: python manage.py worker -Q {queue} (see Procfile)"
    return Finding(check=f"worker.{queue}", detail=detail, fix=fix)


def leader(loop: str, *, is_led: bool) -> Finding:
    """Judge whether a loop of the engine runs."""
    detail = "led" if is_led else "nobody leads it"
    fix = "" if is_led else "start an engine: python manage.py engine (see Procfile)"
    return Finding(check=f"engine.{loop}", detail=detail, fix=fix)
