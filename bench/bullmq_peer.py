"""BullMQ as a measured system: one Node process with 50 jobs at a time, on the run's Valkey."""

from __future__ import annotations

import redis

from bench.peer import Peer
from bench.peer_install import peer_node
from bench.stage import Stage
from bench.systems import environment

DATABASE = 4


class BullMQ(Peer):
    """BullMQ in the set-up that is its fastest on two cores: one process, concurrency 50."""

    key = "bullmq"
    name = "BullMQ"
    keeps = "state, result, times (in Redis)"
    share = 2.0

    def __init__(self, stage: Stage) -> None:
        self._place = peer_node()
        env = environment(
            PEER_REDIS_SOCKET=str(stage.valkey_socket), PEER_REDIS_DATABASE=str(DATABASE)
        )
        super().__init__(stage, ["node", str(self._place / "client.mjs")], env)
        self._redis = redis.Redis(unix_socket_path=str(stage.valkey_socket), db=DATABASE)

    def start(self) -> None:
        """Do nothing; a queue is made when it is first used."""

    def start_worker(self) -> None:
        """Start the worker."""
        command = ["node", str(self._place / "worker.mjs")]
        self.processes.start("worker", "bullmq", command, self.env)

    def empty(self) -> None:
        """Remove the queue with all its jobs."""
        self.ask("empty")

    def count(self) -> tuple[int, int]:
        """Count the completed jobs."""
        done = int(self._redis.zcard("bull:peer:completed"))
        return done, done
