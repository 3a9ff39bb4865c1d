"""The maintain loop: each step at its own interval, again at once while it hits its limit.

A step that fails keeps none behind it from running; a connection that is lost ends the round.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks_app.clock import monotonic
from tasks_app.conf import TasksConf, conf
from tasks_app.leadership import LeadershipLost
from tasks_app.loops import Connection, Round, Turn
from tasks_app.maintenance.absent import NoteLostWorkers
from tasks_app.maintenance.canary import SendCanaries
from tasks_app.maintenance.expire import ExpirePending, ExpireRunning, ForceCancel
from tasks_app.maintenance.failing import FailingSteps
from tasks_app.maintenance.paced_retry import PacedRetries
from tasks_app.maintenance.promote import Promote
from tasks_app.maintenance.prune import prune_steps
from tasks_app.maintenance.rescue import Rescue
from tasks_app.maintenance.step import Step, StepTurn
from tasks_app.maintenance.sweep import Sweep
from tasks_app.maintenance.watch_queues import WatchQueues


def maintain_steps(settings: TasksConf) -> list[Step]:
    """Give the steps in the order in which they run when several are due."""
    return [
        Promote(interval_seconds=settings.maintain_poll_seconds),
        ExpirePending(),
        Sweep(
            publish_grace_seconds=settings.publish_grace_seconds,
            redispatch_seconds=settings.redispatch_seconds,
        ),
        ExpireRunning(grace_seconds=2 * settings.kill_grace_seconds),
        ForceCancel(
            grace_seconds=settings.kill_grace_seconds, lease_seconds=settings.lease_seconds
        ),
        Rescue(
            lease_seconds=settings.lease_seconds,
            grace_seconds=settings.lease_grace_seconds,
            max_rescues=settings.max_rescues,
        ),
        PacedRetries(),
        WatchQueues(),
        *canary_steps(settings.canary_seconds),
        NoteLostWorkers(lease_seconds=settings.lease_seconds),
        *prune_steps(
            success_days=settings.retention_success_days,
            failed_days=settings.retention_failed_days,
            feed_hours=settings.feed_retention_hours,
        ),
    ]


def canary_steps(interval_seconds: float) -> list[Step]:
    """Give the step that sends canaries, or none where they are off."""
    return [SendCanaries(interval_seconds=interval_seconds)] if interval_seconds else []


class MaintainWork:
    """The `Work` of the maintain loop."""

    name = "maintain"
    channels: tuple[str, ...] = ()

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._due: dict[str, float] = {}
        self._failing = FailingSteps()

    def run_once(self, turn: Turn) -> Round:
        """Run the steps that are due; see `Work.run_once`."""
        counts: dict[str, int] = {}
        for step in self._steps:
            if turn.stop.is_set():
                break
            if self._due.get(step.name, 0.0) <= monotonic():
                counts[step.name] = self._run(step, turn)
        wait = min(self._due.values(), default=0.0) - monotonic()
        return Round(counts=counts, wait_seconds=max(0.0, wait))

    def _run(self, step: Step, turn: Turn) -> int:
        """Run a step once; one that hit its limit is due again right after the others.

        Many failures are `OperationalError`s though the database is well (a statement that took
        too long, a deadlock): only the connection says whether it is lost.
        """
        now = monotonic()
        given = StepTurn(now=now, healthy_seconds=turn.health.seconds(now))
        try:
            result = step.run_once(turn.connection.cursor(), given)
        except LeadershipLost:
            raise
        except Exception as fault:
            if turn.connection.closed:
                raise
            wait = self._failing.failed(step.name, fault, turn.connection)
            self._due[step.name] = monotonic() + wait
            return 0
        self._failing.did(step.name)
        ended = monotonic()
        turn.health.seen(ended)
        wait = step.interval_seconds
        if result.next_seconds is not None:
            wait = min(wait, result.next_seconds)
        self._due[step.name] = ended if result.is_full else ended + wait
        return result.count

    def rest(self, _connection: Connection | None) -> None:
        """Have every step due when leading begins anew; see `Work.rest`."""
        self._due.clear()
        self._failing.forget()


def make_work() -> MaintainWork:
    """Build the work of this installation."""
    return MaintainWork(maintain_steps(conf()))
