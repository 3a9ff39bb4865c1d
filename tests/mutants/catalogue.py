"""Seeded mistakes in the protocol, each with the test that must notice it."""

from __future__ import annotations

from dataclasses import dataclass

WALK = (
    "tests/integration/test_protocol_machine.py"
    "::test_long_random_lives_do_what_the_reference_does_and_see_every_kind_of_fault"
)
PLATFORM = "tests/integration/test_platform_events.py"
CROWD = (
    "tests/faults/test_live_crowd.py"
    "::test_a_crowd_on_every_transport_loses_nothing_while_its_servers_are_killed"
)
RACES = "tests/races/test_transition_races.py"
BUNDLES = "tests/integration/test_bundles.py"
QUEUES = "tests/integration/test_queues.py"
CANARIES = "tests/integration/test_canaries.py"
DEAD = "tests/integration/test_dead_letters.py"
ESTIMATES = "tests/integration/test_estimates.py"
EXPLAINED = "tests/integration/test_explained.py"
PAUSES = "tests/races/test_queue_pauses.py"
ADMISSION = "tests/races/test_admission_races.py"
DEDUPLICATION = "tests/integration/test_deduplication.py"

LIMITS = "tests/integration/test_limits.py"
LIMITS_ALONE = "tests/unit/test_limits.py"
SIMULATION = (
    "test_a_simulated_dispatcher_keeps_every_limit_takes_all_or_none_and_leaves_nothing_over"
)

LIMITING = "tasks_app/transitions/limiting.py"
UNBLOCKING = "tasks_app/transitions/unblocking.py"
ELIGIBILITY = "tasks_app/limits/eligibility.py"
DISPATCHING = "tasks_app/transitions/dispatching.py"
OPERATING = "tasks_app/transitions/operating.py"
RECOVERING = "tasks_app/transitions/recovering.py"
SUBMITTING = "tasks_app/transitions/submitting.py"
DISPLACING = "tasks_app/transitions/displacing.py"
CLAIMING = "tasks_app/transitions/claiming.py"
PACED = "tasks_app/maintenance/paced_retry.py"
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
        "a queue's limit counts nothing",
        LIMITING,
        "state.concurrency is None else state.concurrency - state.used",
        "state.concurrency is None else state.concurrency",
        f"{QUEUES}::test_no_more_tasks_of_a_queue_are_out_or_run_than_its_limit",
    ),
    Mutant(
        "a group of dead letters forgets where it failed",
        "tasks_app/selectors/dead_letters.py",
        "    || '/' || coalesce(t.frame, '')), 16)",
        "    || '/'), 16)",
        f"{DEAD}::test_a_group_is_a_type_a_code_and_a_frame_and_its_id_stays_and_filters",
    ),
    Mutant(
        "a redriven task keeps the frame of its former failure",
        OPERATING,
        "t.payload), frame = NULL,",
        "t.payload),",
        f"{DEAD}::test_a_group_is_retried_and_purged_at_once_by_its_id",
    ),
    Mutant(
        "a retry takes another payload unchecked",
        "tasks_app/services/redrive.py",
        'checked_payload(get_handler(row["type"]), payload)',
        "payload",
        f"{DEAD}::test_a_dead_letter_is_retried_with_another_payload_that_fits_its_type",
    ),
    Mutant(
        "a paced retry makes up for an outage in one go",
        PACED,
        "        greatest(per_second, 1)) AS allowance",
        "        1000) AS allowance",
        f"{DEAD}::test_a_group_is_retried_at_its_pace_and_its_progress_is_shown",
    ),
    Mutant(
        "a paced retry takes what dies again",
        PACED,
        "AND t.finished_at <= %(until)s",
        "AND %(until)s IS NOT NULL",
        f"{DEAD}::test_a_group_is_retried_at_its_pace_and_its_progress_is_shown",
    ),
    Mutant(
        "a paced retry looks at those before its place again",
        PACED,
        "AND (t.finished_at, t.id) > (coalesce(",
        "AND (t.finished_at, t.id) >= (coalesce(",
        f"{DEAD}::test_those_whose_unique_key_lives_are_skipped_and_do_not_hold_the_others_up",
    ),
    Mutant(
        "an aborted paced retry goes on",
        PACED,
        "WHERE id = %(id)s AND state = 'running' FOR UPDATE",
        "WHERE id = %(id)s FOR UPDATE",
        f"{DEAD}::test_a_batch_that_was_about_to_begin_when_the_abort_came_retries_nothing",
    ),
    Mutant(
        "two engines carry one paced retry on",
        PACED,
        "state = 'running' FOR UPDATE SKIP LOCKED",
        "state = 'running'",
        f"{DEAD}::test_a_retry_that_another_process_carries_on_is_left_to_it",
    ),
    Mutant(
        "retries and their count commit apart",
        PACED,
        "    with _transaction(cursor):\n        cursor.execute(_HOLD",
        "    if cursor:\n        cursor.execute(_HOLD",
        f"{DEAD}::test_a_step_that_dies_in_its_batch_has_retried_and_counted_nothing",
    ),
    Mutant(
        "an estimate forgets what is handed out",
        "tasks_app/selectors/estimates.py",
        "%(ahead)s::int + count(*) AS ahead",
        "%(ahead)s::int + 0 * count(*) AS ahead",
        f"{ESTIMATES}::test_an_estimate_is_what_goes_first_by_the_pace_of_the_queue",
    ),
    Mutant(
        "a paused queue promises a start",
        "tasks_app/selectors/estimates.py",
        "    if is_held or position >= POSITION_CAP:",
        "    if position >= POSITION_CAP:",
        f"{ESTIMATES}::test_there_is_no_estimate_without_a_fresh_pace"
        "_or_where_something_else_holds_the_task",
    ),
    Mutant(
        "a pace counts what fills free slots",
        "tasks_app/dispatch/pace.py",
        "filling = min(sent, self.free_slots)",
        "filling = 0",
        "tests/unit/test_pace.py::test_what_fills_free_slots_is_no_pace",
    ),
    Mutant(
        "a pace counts time without a backlog",
        "tasks_app/dispatch/pace.py",
        "self.since = now if has_backlog else None",
        "self.since = now",
        "tests/unit/test_pace.py::test_time_without_a_backlog_is_not_counted",
    ),
    Mutant(
        "a queue without a worker is warned of at every look",
        "tasks_app/maintenance/watch_queues.py",
        "sorted(found - self._known)",
        "sorted(found)",
        f"{EXPLAINED}::test_the_engine_warns_once_per_change",
    ),
    Mutant(
        "hints of a dead worker wait for nobody",
        "tasks_app/selectors/serving.py",
        "SELECT queue FROM ready UNION SELECT queue FROM handed_out",
        "SELECT queue FROM ready UNION SELECT queue FROM handed_out WHERE false",
        f"{EXPLAINED}::test_the_hints_of_a_queue_without_worker_are_warned_of",
    ),
    Mutant(
        "slow paced retries keep others waiting",
        PACED,
        "ORDER BY paced_at LIMIT %(most)s",
        "ORDER BY id LIMIT %(most)s",
        f"{DEAD}::test_retries_take_turns",
    ),
    Mutant(
        "canaries pile up",
        "tasks_app/maintenance/canary.py",
        'unique_key=f"canary:{queue}",',
        "unique_key=None,",
        f"{CANARIES}::test_one_canary_at_a_time_waits_in_a_queue_however_long_it_stalls",
    ),
    Mutant(
        "canaries count as dead letters",
        "tasks_app/selectors/dead_letters.py",
        "n.slug <> %(canaries)s",
        "n.slug <> %(canaries)s || 'x'",
        f"{CANARIES}::test_canaries_are_in_no_list_statistic_or_report_and_leave_after_a_while",
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
        "tasks_app/migrations/0007_admission.py",
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
    Mutant(
        "slots read outside the lock",
        "tasks_app/dispatch/loop.py",
        "            turn.leadership.fence(cursor)\n            for queue in ready:",
        "            for queue in ready:",
        "tests/races/test_limit_races.py"
        "::test_slots_and_tokens_are_read_after_what_another_dispatch_took",
    ),
    Mutant(
        "a slot is given back by a finish alone",
        LIMITING,
        "HOLDS_SLOT: Final = \"state IN ('dispatched', 'running', 'cancelling')\"",
        'HOLDS_SLOT: Final = "dispatch_seq > 0"',
    ),
    Mutant(
        "a hint holds no slot",
        LIMITING,
        "HOLDS_SLOT: Final = \"state IN ('dispatched', 'running', 'cancelling')\"",
        "HOLDS_SLOT: Final = \"state IN ('running', 'cancelling')\"",
    ),
    Mutant(
        "tokens kept in memory",
        LIMITING,
        "    if changed:\n",
        "    if not changed:\n",
        f"{LIMITS}::test_a_rate_of_a_type_parks_until_a_token_is_back_and_survives_its_dispatcher",
    ),
    Mutant(
        "the bucket is full again with each new window",
        "tasks_app/limits/rate.py",
        "if entry[1] + rate.seconds > now]",
        "if entry[1] // rate.seconds == now // rate.seconds]",
        f"{LIMITS_ALONE}::test_no_window_sees_more_than_the_rate_and_none_that_may_go_waits",
    ),
    Mutant(
        "a refused task holds slots of its other rules",
        ELIGIBILITY,
        "        if refusing is None:\n",
        "        if True:\n",
        f"{LIMITS_ALONE}::{SIMULATION}",
    ),
    Mutant(
        "a refusal closes every rule of the task",
        ELIGIBILITY,
        "closed.add(refusing)",
        "closed.update(need.rule for need in candidate.needs)",
        f"{LIMITS_ALONE}::{SIMULATION}",
    ),
    Mutant(
        "later ones pass a parked one of their key",
        ELIGIBILITY,
        "            closed.add(refusing)\n",
        "            pass\n",
    ),
    Mutant(
        "what is let go is let go again",
        UNBLOCKING,
        "    return {(rule, queue): count for rule, queue, count in cursor.fetchall()}",
        "    return {}",
        f"{LIMITS}::test_a_free_slot_lets_one_task_go_however_often_it_is_looked_for",
    ),
    Mutant(
        "a rule's room is held by a queue without workers",
        UNBLOCKING,
        "used = {rule: count + coming.get((rule, queue), 0) for rule, count in taken.items()}",
        "used = {rule: count + sum(number for (name, _), number in coming.items()"
        " if name == rule) for rule, count in taken.items()}",
        f"{LIMITS}::test_a_task_of_a_queue_without_workers_does_not_keep_a_rule_from_others",
    ),
    Mutant(
        "a pause that was one already is told again",
        "tasks_app/services/queues.py",
        "WHERE name = %(name)s AND NOT is_paused RETURNING name",
        "WHERE name = %(name)s RETURNING name",
        f"{PLATFORM}::test_a_pause_and_a_resumption_are_told_once_each_with_who_and_why",
    ),
    Mutant(
        "a worker that is back stays lost",
        "tasks_app/transitions/leases.py",
        "excluded.last_seen_at, lost_at = NULL",
        "excluded.last_seen_at",
        f"{PLATFORM}::test_a_worker_is_told_when_it_comes_when_it_is_lost_and_when_it_is_back",
    ),
    Mutant(
        "schedule events of everybody",
        "tasks_app/feed/subscription.py",
        "event.tenant_id in {self.tenant_id, None}",
        "event.tenant_id is not event.task_id or event.task_id is None",
        f"{PLATFORM}::test_a_stream_has_them_by_name_live_and_from_before_and_nobody_gets_another"
        "_tenants",
    ),
    Mutant(
        "events of the installation for every key",
        "tasks_app/services/watching.py",
        "if scope is not None and (principal.watch is not None or scope not in principal.scopes):",
        "if scope is not None and principal.watch is not None:",
        f"{PLATFORM}::test_a_key_without_the_scope_is_told_which_it_needs",
    ),
    Mutant(
        "events of the platform for watch tokens",
        "tasks_app/services/watching.py",
        "(principal.watch is not None or scope not in principal.scopes)",
        "(principal.watch is None and scope not in principal.scopes)",
        f"{PLATFORM}::test_a_watch_token_shows_tasks_alone",
    ),
    Mutant(
        "a webhook moved by a lesser key",
        "notifications/webhooks/views.py",
        'if body["url"] is not None or body["types"] is not None:',
        'if body["types"] is not None:',
        f"{PLATFORM}::test_a_key_without_the_scope_is_told_which_it_needs",
    ),
    Mutant(
        "another tenant's schedules over a webhook",
        "notifications/webhooks/sink.py",
        "found[row[1]].append(_Endpoint(*row))",
        "found[None].append(_Endpoint(*row))",
        f"{PLATFORM}::test_webhooks_get_them_by_name_each_tenant_its_own",
    ),
    Mutant(
        "instants that expired while they waited are told to nobody",
        "scheduler/ticking/settling.py",
        "), {MISSED}\nSELECT count(*) FROM changed",
        ")\nSELECT count(*) FROM changed",
        f"{PLATFORM}::test_an_instant_that_waited_and_expired_is_told_as_missed",
    ),
    Mutant(
        "the sun is searched for from anywhere",
        "scheduler/sun.py",
        "day = begin.replace(hour=0, minute=0, second=0, microsecond=0)",
        "day = begin",
        "tests/unit/test_solar.py::test_what_follows_does_not_depend_on_where_the_search_began",
    ),
)
