"""Mistakes in the feed, its sinks and events, and in schedules."""

from __future__ import annotations

from tests.mutants.places import AUDIENCES, CROWD, HUB, PLATFORM, Mutant

LIVE = (
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
        "who joins while the hub reads misses what the read left out",
        "tasks_app/feed/hub.py",
        "if self._audiences.reach == reach:",
        "if reach.types:",
        f"{HUB}::test_who_joins_while_the_hub_reads_gets_what_the_read_left_out",
    ),
    Mutant(
        "old news is taken for a feed that began anew",
        "tasks_app/feed/hub.py",
        "if last <= (self._position or 0):",
        "if not last:",
        f"{HUB}::test_old_news_is_not_taken_for_a_feed_that_began_anew",
    ),
    Mutant(
        "an event comes once for each of its tags",
        "tasks_app/feed/audiences.py",
        "set[Audience]().union(*found)",
        "[one for some in found for one in some]",
        f"{AUDIENCES}::test_each_gets_what_it_takes_once_in_order_and_nothing_else",
    ),
    Mutant(
        "a look leaves out what only some want",
        "tasks_app/feed/audiences.py",
        "if not wanted.tasks or len(named)",
        "if len(named)",
        f"{AUDIENCES}::test_what_somebody_takes_is_within_reach",
    ),
    Mutant(
        "who resumes live is given again what it has",
        "tasks_app/feed/subscription.py",
        "        batch = batch.after(self.cursor)\n",
        "",
        f"{AUDIENCES}::test_who_begins_later_is_not_given_what_it_has",
    ),
    Mutant(
        "buffers are bounded in events alone",
        "tasks_app/feed/subscription.py",
        " or self._size_bytes > MOST_BYTES",
        "",
        f"{AUDIENCES}::test_a_buffer_is_bounded_in_bytes",
    ),
    Mutant(
        "the relay appends without the fence",
        "tasks_app/relay/loop.py",
        "        turn.leadership.fence(cursor)\n",
        "",
        "tests/integration/test_relay.py::test_a_leader_that_was_frozen_appends_nothing",
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
