"""Celery on RabbitMQ as a measured system, with results in PostgreSQL or in Redis."""

from __future__ import annotations

import redis

from bench.peer import Peer
from bench.peer_install import peer_python
from bench.processes import run_program
from bench.stage import Stage
from bench.systems import CONCURRENCY, environment

REDIS_DATABASE = 5
_COUNT = "SELECT count(*) FROM django_celery_results_taskresult WHERE status = 'SUCCESS'"
_MODULE = "bench.peer_celery"


class _CeleryPeer(Peer):
    """What both have in common: the broker, a virtual host of their own, the prefork worker."""

    def __init__(self, stage: Stage, **env: str) -> None:
        self._python = peer_python()
        ids = str(stage.directory / f"{self.key}.ids")
        broker = stage.broker_url(self.key)
        changes = {"PEER_BROKER": broker, "PEER_IDS": ids} | env
        client = [self._python, "-m", f"{_MODULE}.client"]
        super().__init__(stage, client, environment(**changes))

    def start_worker(self) -> None:
        """Start the prefork worker."""
        options = f"-n peer@%h --concurrency={CONCURRENCY} --loglevel=WARNING --pool=prefork"
        command = f"{self._python} -m celery -A {_MODULE} worker {options}"
        self.processes.start("worker", self.key, command.split(), self.env)

    def purge(self) -> None:
        """Remove the messages."""
        command = f"{self._python} -m celery -A {_MODULE} purge -f -Q peer"
        run_program(command.split(), env=self.env)


class CeleryRedis(_CeleryPeer):
    """Celery with results in Redis, everything else as it comes."""

    key = "celery-redis"
    name = "Celery, results in Redis"
    keeps = "state, result (in Redis)"

    def __init__(self, stage: Stage) -> None:
        place = f"redis+socket://{stage.valkey_socket}?virtual_host={REDIS_DATABASE}"
        super().__init__(stage, PEER_RESULTS=place)
        self._redis = redis.Redis(unix_socket_path=str(stage.valkey_socket), db=REDIS_DATABASE)

    def start(self) -> None:
        """Do nothing; everything is made when it is first used."""

    def empty(self) -> None:
        """Purge the queue and the results."""
        self.purge()
        self._redis.flushdb()

    def count(self) -> tuple[int, int]:
        """Count the results; a result is all that is kept in this database."""
        done = int(self._redis.dbsize())
        return done, done


class CeleryDjango(_CeleryPeer):
    """Celery with django-celery-results on PostgreSQL, its starts tracked."""

    key = "celery-django"
    name = "Celery, django-celery-results"
    keeps = "state, result"
    share = 0.15
    is_tuned = False

    def __init__(self, stage: Stage) -> None:
        self._database = self.key.replace("-", "_")
        super().__init__(
            stage,
            DJANGO_SETTINGS_MODULE=f"{_MODULE}.settings",
            PEER_RESULTS="django-db",
            PEER_DATABASE=self._database,
            PEER_DATABASE_HOST=str(stage.postgres.sockets),
            PEER_IS_TUNED=str(int(self.is_tuned)),
        )

    def start(self) -> None:
        """Create the database with its tables."""
        self.stage.postgres.create_database(self._database)
        run_program([self._python, "-m", "django", "migrate", "--verbosity", "0"], env=self.env)
        self._connection = self.stage.connect(self._database)

    def empty(self) -> None:
        """Purge the queue and the results."""
        self.purge()
        self._connection.execute("TRUNCATE django_celery_results_taskresult")
        self._connection.execute("CHECKPOINT")

    def count(self) -> tuple[int, int]:
        """Count the results that say success."""
        row = self._connection.execute(_COUNT).fetchone()
        return (0, 0) if row is None else (row[0], row[0])


class CeleryDjangoTuned(CeleryDjango):
    """The same, keeping its database connections (Celery closes them after every task unless
    `CELERY_DB_REUSE_MAX` is set) and waiting for the broker's confirm of every message (off by
    default in Celery, so that a submitted message may be lost).
    """

    key = "celery-django-tuned"
    name = "Celery, django-celery-results, tuned"
    share = 0.3
    is_tuned = True
