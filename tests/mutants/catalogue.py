"""Seeded mistakes in the protocol, each with the test that must notice it."""

from __future__ import annotations

from dataclasses import dataclass

WALK = (
    "tests/integration/test_protocol_machine.py"
    "::test_long_random_lives_do_what_the_reference_does_and_see_every_kind_of_fault"
)
CROWD = (
    "tests/faults/test_live_crowd.py"
    "::test_a_crowd_on_every_transport_loses_nothing_while_its_servers_are_killed"
)
RACES = "tests/races/test_transition_races.py"
BUNDLES = "tests/integration/test_bundles.py"
QUEUES = "tests/integration/test_queues.py"
PAUSES = "tests/races/test_queue_pauses.py"
ADMISSION = "tests/races/test_admission_races.py"
DEDUPLICATION = "tests/integration/test_deduplication.py"

DISPATCHING = "tasks_app/transitions/dispatching.py"
OPERATING = "tasks_app/transitions/operating.py"
RECOVERING = "tasks_app/transitions/recovering.py"
SUBMITTING = "tasks_app/transitions/submitting.py"
DISPLACING = "tasks_app/transitions/displacing.py"
CLAIMING = "tasks_app/transitions/claiming.py"
WORKING = "tasks_app/transitions/working.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake: in `path`, `old` (which stands there exactly once) becomes `new`."""

    name: str
    path: str
    old: str
    new: str
    test: str = WALK


MUTANTS = (
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
        "limit of a key without the dispatched",
        DISPATCHING,
        "a.state IN ('dispatched', 'running', 'cancelling')) END AS fits",
        "a.state IN ('running', 'cancelling')) END AS fits",
    ),
    Mutant(
        "a key held by a queue without workers",
        DISPATCHING,
        "AND r.concurrency_key = u.concurrency_key AND r.queue = b.queue",
        "AND r.concurrency_key = u.concurrency_key",
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
        "the feed reads what is above the last id alone",
        "tasks_app/relay/loop.py",
        "WHERE id BETWEEN o.low AND o.high",
        "WHERE false AND id BETWEEN o.low AND o.high",
        "tests/integration/test_relay.py"
        "::test_concurrent_transactions_of_random_length_lose_nothing_and_reverse_nothing",
    ),
    Mutant(
        "the feed reads what is above the last id alone, watched by a crowd",
        "tasks_app/relay/loop.py",
        "WHERE id BETWEEN o.low AND o.high",
        "WHERE false AND id BETWEEN o.low AND o.high",
        CROWD,
    ),
    Mutant(
        "who catches up joins the live events too early",
        "tasks_app/feed/hub.py",
        "if self._position is None or after < self._position:",
        "if self._position is None or after < self._position - 50:",
        CROWD,
    ),
    Mutant(
        "the relay appends without the fence",
        "tasks_app/relay/loop.py",
        "        turn.leadership.fence(cursor)\n",
        "",
        "tests/integration/test_relay.py::test_a_leader_that_was_frozen_appends_nothing",
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
        "a sink moves past what its receiver did not take",
        "tasks_app/sinks.py",
        "until if count == len(events) else None",
        "until",
        "tests/integration/test_sinks.py"
        "::test_a_receiver_that_takes_part_of_a_page_is_given_the_rest",
    ),
    Mutant(
        "a dispatch under way ignores the pause",
        "tasks_app/transitions/picking.py",
        "WHERE {_READY} AND {_DUE} AND {_NOT_PAUSED}",
        "WHERE {_READY} AND {_DUE}",
        f"{PAUSES}::test_a_dispatch_under_way_when_the_pause_comes_is_awaited_and_taken_back",
    ),
    Mutant(
        "hints of a paused queue stay out",
        "tasks_app/services/queues.py",
        "    taken = _take_hints_back(name)\n",
        "    taken = 0\n",
        f"{QUEUES}::test_a_paused_queue_gives_nothing_and_its_hints_are_taken_back",
    ),
    Mutant(
        "a pause does not wait for the dispatch under way",
        "tasks_app/services/queues.py",
        "    _await_dispatch()\n",
        "",
        f"{PAUSES}::test_a_dispatch_under_way_when_the_pause_comes_is_awaited_and_taken_back",
    ),
    Mutant(
        "a queue's limit counts what runs alone",
        "tasks_app/dispatch/loop.py",
        "max(0, min(room, queue.concurrency - used))",
        "min(room, queue.concurrency)",
        f"{QUEUES}::test_no_more_tasks_of_a_queue_are_out_or_run_than_its_limit",
    ),
    Mutant(
        "a quota is counted without its lock",
        "tasks_app/services/quotas.py",
        '        cursor.execute(_LOCK, {"scopes": list(scopes)})\n',
        '        cursor.execute("SELECT 1")\n',
        f"{ADMISSION}::test_the_last_room_of_a_tenant_is_given_once",
    ),
    Mutant(
        "a quota is checked in a transaction before",
        "tasks_app/services/admission.py",
        "            return _admit(applicants, open_gate(scopes))\n",
        "            gate = open_gate(scopes)\n        return _admit(applicants, gate)\n",
        f"{ADMISSION}::test_the_room_is_kept_from_the_count_to_the_commit",
    ),
    Mutant(
        "room granted for a task that was not inserted is kept",
        "tasks_app/services/admission.py",
        "            gate.give_back(task)\n",
        "            pass\n",
        "tests/integration/test_admission.py::test_a_bulk_s_known_keys_take_no_room",
    ),
    Mutant(
        "a key held for a time is taken over",
        "tasks_app/services/unique_holds.py",
        "WHERE h.expires_at <= taskmill_now() OR",
        "WHERE true OR",
        f"{ADMISSION}::test_a_key_with_a_ttl_is_taken_once",
    ),
    Mutant(
        "debounced by a query alone, without the index",
        "tasks_app/migrations/0005_admission.py",
        "fields=('tenant', 'type', 'debounce_key')",
        "fields=('tenant', 'type', 'debounce_key', 'id')",
        f"{ADMISSION}::test_debounced_submissions_at_once_become_one_task",
    ),
    Mutant(
        "debounced beyond the maximum",
        DISPLACING,
        "least(t.debounce_until, t.created_at",
        "greatest(t.debounce_until, t.created_at",
        f"{DEDUPLICATION}::test_the_maximum_counts_from_the_first_and_is_never_moved",
    ),
    Mutant(
        "debounced after it was claimed",
        DISPLACING,
        "      AND epoch = 0 AND finished_at IS NULL\n",
        "      AND finished_at IS NULL\n",
        f"{DEDUPLICATION}::test_once_it_runs_the_next_submission_waits_beside_it",
    ),
    Mutant(
        "an outage of the broker slows the sweeps",
        DISPATCHING,
        'sweeps="t.sweeps",',
        'sweeps="t.sweeps + 1",',
    ),
)
