"""`manage.py doctor`: every fault is found and comes with its fix."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import amqp
import kombu
import psycopg
import pytest
import redis
from django.core.management import call_command
from django.db import connection

from tasks_app import db
from tasks_app.management.diagnosis import broker, database, diagnose, processes, secrets


@pytest.fixture
def raw(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    with db.connect("test") as opened:
        yield opened


@pytest.mark.parametrize(
    ("finding", "is_ok", "fix"),
    [
        (database.version(150004), True, ""),
        (database.version(140011), False, "upgrade to PostgreSQL 15"),
        (database.durability("fsync", "on"), True, ""),
        (database.durability("fsync", "off"), False, "set fsync = on"),
        (database.durability("synchronous_commit", "remote_apply"), True, ""),
        (database.durability("synchronous_commit", "off"), False, "set synchronous_commit = on"),
        (database.skew(timedelta(seconds=-0.9)), True, ""),
        (database.skew(timedelta(seconds=1.1)), False, "chrony"),
        (database.skew(timedelta(seconds=-1.1)), False, "chrony"),
        (secrets.secret_key("0123456789" * 4), True, ""),
        (secrets.secret_key("0123456789"), False, "set SECRET_KEY to 50"),
        (secrets.secret_key("x" * 60), False, "set SECRET_KEY to 50"),
        (secrets.secret_key("unset: later"), False, "start once with `make run`"),
        (processes.worker("reports", is_served=True), True, ""),
        (processes.worker("reports", is_served=False), False, "worker -Q reports"),
        (processes.leader("dispatch", is_led=True), True, ""),
        (processes.leader("dispatch", is_led=False), False, "manage.py engine"),
    ],
)
def test_values_are_judged(finding: Any, is_ok: bool, fix: str) -> None:
    assert (finding.is_ok, fix in finding.fix) == (is_ok, True), finding


def test_a_file_that_others_can_read_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.touch(mode=0o644)
    file.chmod(0o640)
    assert secrets.private_file(file).fix == f"chmod 600 {file}"
    file.chmod(0o600)
    assert secrets.private_file(file).is_ok


def test_a_read_only_database_is_a_fault(raw: psycopg.Connection[Any]) -> None:
    assert database.writable(raw).is_ok
    raw.execute("SET default_transaction_read_only = on")
    assert "primary" in database.writable(raw).fix
    assert database.clock(raw).is_ok


@pytest.mark.django_db(transaction=True)
def test_a_migration_that_is_not_applied_is_a_fault() -> None:
    assert database.migrations().is_ok
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_migrations SET app = 'gone' WHERE app = 'tasks_app'")
        try:
            assert database.migrations().fix == "run `python manage.py migrate`"
        finally:
            cursor.execute("UPDATE django_migrations SET app = 'tasks_app' WHERE app = 'gone'")


def test_parts_that_do_not_answer_are_named(settings: Any, monkeypatch: Any) -> None:
    def refuse(role: str) -> None:
        raise psycopg.OperationalError("connection refused")

    monkeypatch.setattr(db, "connect", refuse)
    settings.BROKER_URL = "redis+socket:///nowhere/valkey.sock"
    settings.REDIS_URL = "unix:///nowhere/valkey.sock"
    faults = {finding.check: finding.fix for finding in diagnose() if not finding.is_ok}
    assert set(faults) >= {"database.reachable", "broker.reachable", "redis.reachable"}
    assert "DATABASE_URL" in faults["database.reachable"]
    assert "BROKER_URL" in faults["broker.reachable"]
    assert "REDIS_URL" in faults["redis.reachable"]
    assert processes.findings() == []


def test_a_valkey_that_evicts_is_a_fault(valkey: Any) -> None:
    url = f"unix://{valkey.socket}"
    assert broker.memory_policy("redis", url).is_ok
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            assert broker.memory_policy("redis", url).fix == "set maxmemory-policy noeviction"
        finally:
            client.config_set("maxmemory-policy", "noeviction")


STOP_QUEUE = "ra:stop_server(quorum_queues, {'%2F_doctor.quorum', node()})."


def test_queues_and_confirms_of_rabbitmq_are_checked(rabbitmq: Any, settings: Any) -> None:
    quorum = {"x-queue-type": "quorum"}
    settings.BROKER_QUEUE = lambda name: kombu.Queue(
        name, kombu.Exchange("taskmill", "topic"), routing_key=name, queue_arguments=quorum
    )
    with kombu.Connection(rabbitmq.url) as opened:
        channel: Any = opened.channel()
        assert broker.queue_type(opened, "doctor.none").is_ok
        with pytest.raises(amqp.NotFound):
            opened.channel().queue_declare("doctor.none", passive=True)
        channel.queue_declare("doctor.classic", durable=True, auto_delete=False)
        assert "delete_queue doctor.classic" in broker.queue_type(opened, "doctor.classic").fix
        channel.queue_declare("doctor.quorum", durable=True, auto_delete=False, arguments=quorum)
        assert broker.queue_type(opened, "doctor.quorum").detail == "quorum"
        rabbitmq.control("eval", STOP_QUEUE)
        assert "delete_queue doctor.quorum" in broker.queue_type(opened, "doctor.quorum").fix
        assert broker.confirms(opened).is_ok
        rabbitmq.control("set_permissions", rabbitmq.user, "^$", "^$", "^$")
        try:
            assert "set_permissions" in broker.confirms(opened).fix
        finally:
            rabbitmq.control("set_permissions", rabbitmq.user, ".*", ".*", ".*")


@pytest.mark.django_db(transaction=True)
def test_the_command_prints_fixes_and_leaves_with_1(valkey: Any) -> None:
    out = StringIO()
    with pytest.raises(SystemExit, match="1"):
        call_command("doctor", stdout=out)
    assert "FAULT worker.default" in out.getvalue()
    assert "fix: start a worker" in out.getvalue()
    assert "checks found a fault" in out.getvalue()
    as_json = StringIO()
    with pytest.raises(SystemExit, match="1"):
        call_command("doctor", "--json", stdout=as_json)
    rows = {row["check"]: row for row in json.loads(as_json.getvalue())}
    assert rows["database.reachable"]["ok"] is True
    assert rows["engine.dispatch"] == {
        "check": "engine.dispatch",
        "ok": False,
        "detail": "nobody leads it",
        "fix": "start an engine: python manage.py engine (see Procfile)",
    }
