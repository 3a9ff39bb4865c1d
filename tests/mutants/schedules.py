"""Mistakes in schedules: firing once, taking turns, health, cleaning, who may start what."""

from __future__ import annotations

from tests.mutants.places import BEATS, FIRING, PORTIONS, REPORTS, SCHEDULES_API, Mutant

SCHEDULES = (
    Mutant(
        "an instant that has its row is fired again",
        FIRING,
        "ON CONFLICT (schedule_id, nominal_at) DO NOTHING",
        "ON CONFLICT (schedule_id, nominal_at) DO UPDATE SET recorded_at = taskmill_now()",
        f"{BEATS}::test_the_unique_instant_refuses_a_second_firing_even_where_the_row_says_it_is_due",
    ),
    Mutant(
        "an instant, its task and the next instant commit one by one",
        FIRING,
        "with transaction.atomic(), connection.cursor() as cursor:\n        due = load(",
        "with connection.cursor() as cursor:\n        due = load(",
        f"{BEATS}::test_three_beats_that_die_between_any_two_statements_fire_an_hour_one_to_one",
    ),
    Mutant(
        "a schedule advances before its instants are fired",
        FIRING,
        "        starts = _record(cursor, decided)\n",
        "        for one in decided:\n"
        '            cursor.execute(_ADVANCE, {"rows": orjson.dumps([_advance(one)]).decode()})\n'
        "        transaction.set_rollback(False)\n"
        "        connection.connection.commit()\n"
        "        starts = _record(cursor, decided)\n",
        f"{BEATS}::test_three_beats_that_die_between_any_two_statements_fire_an_hour_one_to_one",
    ),
    Mutant(
        "an outage of all schedules is one transaction",
        FIRING,
        "        if room <= 0:\n            break\n",
        "",
        "tests/integration/test_schedules.py"
        "::test_an_outage_of_many_schedules_is_made_up_for_in_bounded_transactions",
    ),
    Mutant(
        "the present waits until the past is made up for",
        FIRING,
        " AND s.next_at > taskmill_now() - make_interval(secs => %(grace)s)",
        "",
        f"{PORTIONS}::test_instants_of_the_present_fire_before_the_old_ones_are_made_up_for",
    ),
    Mutant(
        "the past waits while the present takes whole batches",
        "scheduler/ticking/clock.py",
        "max(fire_in_time(self.conf), make_up(self.conf))",
        "fire_in_time(self.conf) or make_up(self.conf)",
        f"{PORTIONS}::test_the_old_ones_are_made_up_for_while_the_present_takes_whole_batches",
    ),
    Mutant(
        "an edited schedule waits for its turn in the past",
        "scheduler/ticking/changes.py",
        "return at if earliest is None else max(at, earliest)",
        "return at",
        f"{PORTIONS}::test_an_edit_between_two_portions_is_in_force_in_the_next",
    ),
    Mutant(
        "a beat says once that it lives",
        "scheduler/ticking/clock.py",
        "ON CONFLICT (id) DO UPDATE SET last_seen_at = taskmill_now()",
        "ON CONFLICT (id) DO NOTHING",
        f"{SCHEDULES_API}::test_a_beat_says_that_it_lives_with_its_ticks_and_one_of_yesterday"
        "_is_forgotten",
    ),
    Mutant(
        "a beat that fires nothing is in good health",
        "scheduler/selectors.py",
        'elif facts["late_seconds"] > LATE_SECONDS:',
        "elif False:",
        f"{SCHEDULES_API}::test_the_health_of_the_clock_is_missed_where_something_is_due_and_says"
        "_how_late_it_is",
    ),
    Mutant(
        "cleaning takes instants whose task is unfinished",
        "scheduler/reports/cleaning.py",
        " AND NOT f.is_open\n",
        "\n",
        f"{REPORTS}::test_cleaning_takes_what_has_expired_and_leaves_what_is_needed",
    ),
    Mutant(
        "a schedule of the same key starts a system task",
        "scheduler/handlers.py",
        "schedule__origin=Origin.CODE, schedule__key=key",
        "schedule__key=key",
        f"{REPORTS}::test_a_schedule_of_a_tenant_s_own_does_not_start_a_system_task_either",
    ),
)
