"""Mistakes in the life of a task: claim, finish, rescue, cancel, expire, bundles."""

from __future__ import annotations

from tests.mutants.places import (
    BUNDLES,
    CLAIMING,
    DISPATCHING,
    OPERATING,
    RACES,
    RECOVERING,
    SUBMITTING,
    WORKING,
    Mutant,
)

HEART = (
    Mutant(
        "finish without the epoch",
        WORKING,
        "AND t.epoch = %(epoch)s AND {STATE} IN",
        "AND {STATE} IN",
    ),
    Mutant(
        "finish guarded by the attempt",
        WORKING,
        "AND t.epoch = %(epoch)s AND {STATE} IN",
        "AND t.attempt = %(epoch)s AND {STATE} IN",
    ),
    Mutant(
        "finish whatever the state",
        WORKING,
        "AND t.epoch = %(epoch)s AND {STATE} IN ('running', 'cancelling')\"",
        'AND t.epoch = %(epoch)s"',
    ),
    Mutant(
        "rescue reads, then writes by id",
        RECOVERING,
        '    "FOR UPDATE SKIP LOCKED",\n',
        '    "",\n',
        f"{RACES}::test_a_finish_before_a_rescue_leaves_it_nothing",
    ),
    Mutant(
        "rescue without end",
        RECOVERING,
        "t.rescues >= %(max_rescues)s OR NOT",
        "false OR NOT",
    ),
    Mutant(
        "no sweep",
        DISPATCHING,
        "t WHERE state = 'dispatched' AND {guard}",
        "t WHERE false AND {guard}",
    ),
    Mutant(
        "claim without the state",
        CLAIMING,
        "AND {STATE} = 'dispatched' AND t.dispatch_seq = %(seq)s",
        "AND t.dispatch_seq = %(seq)s",
    ),
    Mutant(
        "claim without the dispatch number",
        CLAIMING,
        "AND {STATE} = 'dispatched' AND t.dispatch_seq = %(seq)s",
        "AND {STATE} = 'dispatched'",
    ),
    Mutant(
        "claim after the queue deadline",
        CLAIMING,
        "AND (t.queue_deadline IS NULL OR t.queue_deadline > taskmill_now())",
        "",
    ),
    Mutant(
        "lease by another clock",
        CLAIMING,
        "lease_expires_at = taskmill_now() +",
        "lease_expires_at = clock_timestamp() +",
    ),
    Mutant(
        "promote without its event",
        DISPATCHING,
        '), {event(kind="\'task.queued\'", from_state="m.old_state", data=reason("due"))}',
        ")",
    ),
    Mutant(
        "promote too early",
        DISPATCHING,
        "WHERE state IN ('scheduled', 'retrying') AND run_at <= taskmill_now()",
        "WHERE state IN ('scheduled', 'retrying')",
    ),
    Mutant(
        "retry of a task that was asked to stop",
        WORKING,
        "CASE WHEN t.state = 'running' THEN 'retrying' ELSE 'cancelled' END",
        "'retrying'",
    ),
    Mutant(
        "interrupt keeps the attempt",
        WORKING,
        "attempt = t.attempt - (t.state = 'running')::int,",
        "",
    ),
    Mutant(
        "interrupt gives the epoch back",
        WORKING,
        "interrupts = t.interrupts + 1,",
        "interrupts = t.interrupts + 1, epoch = t.epoch - 1,",
    ),
    Mutant(
        "unique keys without their conflict clause",
        SUBMITTING,
        "    ON CONFLICT DO NOTHING\n",
        "",
    ),
    Mutant("redrive without fresh attempts", OPERATING, "attempt_base = t.attempt, ", ""),
    Mutant("redrive without fresh rescues", OPERATING, "rescues = 0, sweeps = 0,", "sweeps = 0,"),
    Mutant(
        "cancel mixes the locked row with the snapshot",
        OPERATING,
        "state = CASE WHEN t.state IN ('running', 'cancelling') THEN 'cancelling'",
        "state = CASE WHEN old.state IN ('running', 'cancelling') THEN 'cancelling'",
        f"{RACES}::test_cancel_and_claim_leave_either_no_run_or_one_that_is_asked_to_stop",
    ),
    Mutant(
        "expire before the deadline",
        RECOVERING,
        "AND queue_deadline <= taskmill_now()",
        "AND queue_deadline IS NOT NULL",
    ),
    Mutant(
        "what a dead child's message still named is not given back",
        "tasks_app/execution/base.py",
        "            orders().return_hints(read_hints(self.id, self.args))\n",
        "            pass\n",
        f"{BUNDLES}::test_a_child_that_dies_gives_the_rest_of_its_message_back_at_once",
    ),
    Mutant(
        "types whose attempts were lost travel together",
        "tasks_app/dispatch/bundles.py",
        "HAVING count(*) >= %(least)s AND bool_and(n.outcome IN ('success', 'failed'))",
        "HAVING count(*) >= %(least)s",
        f"{BUNDLES}::test_only_types_that_were_fast_and_well_lately_travel_together",
    ),
    Mutant(
        "a claim made with the end of another attempt is forgotten",
        "tasks_app/execution/runner.py",
        "(None if claimed is None else Claimed(claimed, at))",
        "None",
        f"{BUNDLES}::test_a_backlog_of_fast_tasks_leaves_in_few_messages"
        "_and_each_task_keeps_its_history",
    ),
    Mutant(
        "an outage of the broker slows the sweeps",
        DISPATCHING,
        'sweeps="t.sweeps",',
        'sweeps="t.sweeps + 1",',
    ),
)
