"""Progress of a real attempt as subscribers of the feed see it: seldom, the newest, the last."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from django.db import connection

from tasks_app.feed import read_feed
from tests.factories import make_key, make_tenant
from tests.feeding import submit, wait_state
from tests.integration.test_websocket import run
from tests.processes import running_worker
from tests.relays import relay
from tests.sockets import opened
from tests.web import web

pytestmark = pytest.mark.django_db(transaction=True)

SECONDS = 2.2
LEAST_APART = 0.25


def test_progress_reaches_the_feed_at_most_four_times_a_second_and_the_last_always(
    valkey: Any,
) -> None:
    with running_worker(concurrency=1), relay() as sequencer:
        task_id = submit("test.chatter", {"seconds": SECONDS})
        ended = wait_state(task_id)
        assert ended.state == "success", ended.error
        result = ended.result
        sequencer.drain()
    with connection.cursor() as cursor:
        events = read_feed(cursor, after=0, until=10_000)
        cursor.execute(
            "SELECT extract(epoch FROM at)::float8 FROM taskmill_event"
            " WHERE task_id = %s AND type = 'task.progress' ORDER BY seq",
            [task_id],
        )
        times = [at for (at,) in cursor.fetchall()]
    kinds = [event.type for event in events]
    shown = [event.row["data"] for event in events if event.type == "task.progress"]
    assert result["reports"] > 1000, "the handler was to report far more often than is shown"
    assert 3 <= len(shown) <= SECONDS / LEAST_APART + 3
    for first, fifth in zip(times[:-1], times[4:-1], strict=False):
        assert fifth - first >= 4 * LEAST_APART * 0.8, "five in a second, the last apart"
    numbers = [decoded(one)["detail"]["current"] for one in shown]
    assert numbers == sorted(numbers)
    assert decoded(shown[-1])["message"] == f"at {result['reports'] - 1}"
    assert kinds[-2:] == ["task.progress", "task.succeeded"]

    token = make_key(make_tenant("default"))
    with web() as server:

        async def scenario() -> None:
            async with opened(server, token) as socket:
                await socket.subscribe(1, after="0", types=["task.progress"])
                seen = [event["data"] for _, event in await socket.events(len(shown))]
                assert [one["detail"]["current"] for one in seen] == numbers

        run(scenario)


def decoded(data: Any) -> Any:
    return orjson.loads(data) if isinstance(data, str | bytes) else data
