"""Mistakes in shares: flows, accounts, turns of smaller priorities, the narrow window."""

from __future__ import annotations

from tests.mutants.places import (
    FAIRNESS,
    FAIRNESS_ALONE,
    KEPT_FREE,
    PLANS,
    SHARING,
    SHARING_TESTS,
    Mutant,
)

FAIR = (
    Mutant(
        "tenants do not share",
        SHARING,
        "        if queue.is_shared or queue.most_of_tenant is not None:\n",
        "        if queue.most_of_tenant is not None:\n",
        f"{SHARING_TESTS}::test_a_quiet_tenant_overtakes_the_backlog_of_a_noisy_one",
    ),
    Mutant(
        "nobody sees that flows share",
        "tasks_app/dispatch/backlog.py",
        "coalesce(f.is_shared, false)",
        "false",
        f"{SHARING_TESTS}::test_real_workers_take_a_quiet_tenants_tasks_before_a_noisy_ones_backlog",
    ),
    Mutant(
        "long tasks take every slot",
        FAIRNESS,
        "(self._had[name] + AHEAD_SECONDS * one.out / one.weight, number, name)",
        "(self._had[name], number, name)",
        f"{SHARING_TESTS}::test_a_tenant_whose_tasks_run_long_gets_no_more_slots_than_others",
    ),
    Mutant(
        "time is not charged",
        FAIRNESS,
        "+= seconds * one.out / one.weight",
        "+= 0 * seconds * one.out / one.weight",
        f"{FAIRNESS_ALONE}::test_who_was_away_is_preferred_for_a_while_and_shuts_nobody_out",
    ),
    Mutant(
        "who returns is owed all that it missed",
        FAIRNESS,
        "{name: max(had, least) for name, had in kept.items()}",
        "kept",
        f"{FAIRNESS_ALONE}"
        "::test_who_had_one_task_out_for_long_is_not_owed_all_that_others_had_meanwhile",
    ),
    Mutant(
        "weights say nothing",
        FAIRNESS,
        "Party(one.weight, one.out + other.out, is_waiting)",
        "Party(1, one.out + other.out, is_waiting)",
        f"{SHARING_TESTS}::test_tenants_share_by_their_weights_and_their_keys_evenly",
    ),
    Mutant(
        "flows that a look did not see wait behind a smaller priority",
        SHARING,
        "is_done = level.is_whole and not self",
        "is_done = not self",
        f"{SHARING_TESTS}::test_more_flows_than_a_look_sees_are_all_served_before_a_smaller_priority",
    ),
    Mutant(
        "hints of a round leave flow by flow",
        SHARING,
        "taken.add(_in_order(granted, found), moved)",
        "taken.add([one for mine in found.values() for one in mine if one], moved)",
        f"{SHARING_TESTS}::test_hints_of_flows_that_share_leave_in_turns",
    ),
    Mutant(
        "smaller priorities starve",
        SHARING,
        "        if turns < 1:\n",
        "        if turns < 1e9:\n",
        f"{SHARING_TESTS}::test_priorities_that_have_waited_long_get_one_of_so_many_turns_each",
    ),
    Mutant(
        "the first smaller priority takes every turn",
        SHARING,
        "            self._memory(queue.name).turn = priority\n",
        "",
        f"{SHARING_TESTS}::test_priorities_that_have_waited_long_get_one_of_so_many_turns_each",
    ),
    Mutant(
        "the window stays wide where flows share",
        "tasks_app/dispatch/window.py",
        "        if free_slots is not None:\n",
        "        if free_slots is not None and free_slots < 0:\n",
        f"{SHARING_TESTS}::test_a_window_is_narrow_while_flows_share_and_wide_where_the_queue_says_so",
    ),
    Mutant(
        "fast workers run dry where flows share",
        "tasks_app/dispatch/window.py",
        "horizon = FAST_HORIZON_SECONDS if is_fast else",
        "horizon = NARROW_HORIZON_SECONDS if is_fast else",
        "tests/unit/test_window.py"
        "::test_a_narrow_window_of_fast_tasks_never_lets_the_workers_run_dry",
    ),
    Mutant(
        "a pick of flows reads what others have",
        "tasks_app/transitions/picking.py",
        "t.fair_key BETWEEN f.fair_key AND f.fair_key",
        "t.fair_key = f.fair_key",
        f"{PLANS}::test_flows_are_found_and_picked_by_their_index_though_one_has_nearly_all",
    ),
    Mutant(
        "a position ignores the others' shares",
        "tasks_app/selectors/estimates.py",
        "+ ahead_in_shares(row, cap=POSITION_CAP)",
        "+ 0 * ahead_in_shares(row, cap=POSITION_CAP)",
        f"{SHARING_TESTS}::test_a_position_counts_of_the_others_what_their_shares_allow",
    ),
    Mutant(
        "a slot is kept free for ever",
        "tasks_app/transitions/picking.py",
        "q.shared_until > taskmill_now() THEN",
        "q.shared_until IS NOT NULL THEN",
        f"{KEPT_FREE}::test_when_nobody_else_came_for_long_a_tenant_has_all_slots_again",
    ),
    Mutant(
        "tenants of other priorities are not seen",
        "tasks_app/dispatch/backlog.py",
        "ARRAY[min(first.tenant_id), max(last.tenant_id)]",
        "ARRAY[min(first.tenant_id), min(last.tenant_id)]",
        f"{KEPT_FREE}::test_a_tenant_of_a_larger_priority_shares_the_queue_too",
    ),
    Mutant(
        "a slot is kept free for canaries",
        "tasks_app/dispatch/keeping.py",
        "WHERE id = ANY(%(tenants)s) AND slug <> %(canary)s",
        "WHERE id = ANY(%(tenants)s)",
        f"{KEPT_FREE}::test_a_canary_is_nobody_to_keep_a_slot_for",
    ),
    Mutant(
        "slots are kept free though they are free in a moment",
        "tasks_app/dispatch/keeping.py",
        "            if is_fast(queue):\n",
        "            if is_fast(queue) and not queue.is_keeping:\n",
        f"{KEPT_FREE}::test_of_tasks_so_short_that_a_slot_is_free_at_once_none_is_kept",
    ),
    Mutant(
        "an edit of a queue holds up the dispatcher",
        "tasks_app/dispatch/keeping.py",
        "WHERE name = %(queue)s FOR UPDATE SKIP LOCKED)\n  AND",
        "WHERE name = %(queue)s FOR UPDATE)\n  AND",
        f"{KEPT_FREE}::test_a_queue_that_is_being_edited_holds_up_no_round",
    ),
)
