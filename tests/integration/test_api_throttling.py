"""How often a key may call, counted in a real Valkey."""

from __future__ import annotations

from typing import Any

import pytest

from tasks_app.api.throttling import RequestLimiter, parse_rate, request_limiter
from tasks_app.models import ApiKey
from tests.environment import RUN_DIRECTORY
from tests.factories import make_key
from tests.integration.api_client import Api

URL = f"unix://{RUN_DIRECTORY}/run/valkey.sock?db=1"


@pytest.mark.django_db
def test_a_key_beyond_its_limit_is_answered_429_and_told_when_to_return(valkey: Any) -> None:
    request_limiter.cache_clear()
    token = make_key()
    ApiKey.objects.update(rate_limit="3/hour")
    api = Api(token)
    answers = [api.get("/workers") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["RateLimit"].split(";")[1] for answer in answers] == [
        "r=2", "r=1", "r=0", "r=0",
    ]  # fmt: skip
    assert answers[0].headers["RateLimit-Policy"] == '"default";q=3;w=3600'
    assert answers[3].json()["code"] == "rate_limited"
    assert 1 <= int(answers[3].headers["Retry-After"]) <= 3600
    assert Api(make_key()).get("/workers").status_code == 200


def test_two_processes_together_never_exceed_a_limit_handed_out_in_blocks(valkey: Any) -> None:
    rate = parse_rate("1000/hour")
    assert rate is not None
    processes = [RequestLimiter(URL), RequestLimiter(URL)]
    granted = sum(processes[n % 2].hit("blocks", rate).is_granted for n in range(1100))
    assert granted == 1000


def test_most_requests_of_a_large_limit_ask_nobody(
    valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = parse_rate("60000/minute")
    assert rate is not None
    limiter = RequestLimiter(URL)
    asked: list[int] = []
    plain = limiter._shared.hit

    def counted(*args: Any, **kwargs: Any) -> bool:
        asked.append(1)
        return plain(*args, **kwargs)

    monkeypatch.setattr(limiter._shared, "hit", counted)
    assert all(limiter.hit("cheap", rate).is_granted for _ in range(100))
    assert len(asked) <= 4


def test_without_redis_the_process_counts_alone() -> None:
    rate = parse_rate("2/hour")
    assert rate is not None
    limiter = RequestLimiter(f"unix://{RUN_DIRECTORY}/run/nobody.sock")
    assert [limiter.hit("alone", rate).is_granted for _ in range(3)] == [True, True, False]
