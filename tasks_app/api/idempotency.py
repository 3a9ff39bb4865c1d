"""Idempotency-Key: the first answer is remembered and replayed for 24 hours.

The record is inserted first, arbitrated by its unique index; a twin waits on that insert, then
finds the answer, or is told 409 after `LOCK_TIMEOUT`. Work and answer commit together: a crash
leaves both or neither.
Source: reliability protocol 1.2; draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from django.db import OperationalError, connection, transaction
from django.http.response import HttpResponseBase
from psycopg.errors import DeadlockDetected, LockNotAvailable
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.renderers import to_json
from tasks_app.conf import conf
from tasks_app.errors import IdempotencyConflict, IdempotencyMismatch, ValidationFailed
from tasks_app.services.caller import Caller

HEADER: Final = "Idempotency-Key"
MAX_KEY_LENGTH: Final = 255
LOCK_TIMEOUT: Final = "2s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a POST is answered with.

    Attributes:
        status: HTTP status, 200 to 299.
        body: JSON values (times and UUIDs are rendered as text).
        headers: beside those that every answer has.
        is_replayed: it is the remembered answer of an earlier request.
    """

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    is_replayed: bool = False


class IdempotentPost:
    """Mixin for views (left of `ApiView`): write `carry_out`; `post` is made from it.

    `carry_out` runs inside the transaction that stores its answer when the request has a key, so
    it must do database work alone and return quickly. What waits (`Prefer: wait`) belongs into
    `respond`, which runs after the commit. An error raised by `carry_out` rolls everything back
    and is not remembered: the same key may be tried again.
    """

    def carry_out(self, request: Request, **kwargs: Any) -> Answer:
        """Do the work and give the answer to remember."""
        raise NotImplementedError

    def respond(self, request: Request, answer: Answer) -> Response:  # noqa: ARG002 - for overrides
        """Turn the answer, fresh or replayed, into the response."""
        headers = dict(answer.headers)
        if answer.is_replayed:
            headers["Idempotency-Replayed"] = "true"
        return Response(answer.body, status=answer.status, headers=headers)

    def post(self, request: Request, **kwargs: Any) -> HttpResponseBase:
        """Carry the request out once per Idempotency-Key."""
        key = request.headers.get(HEADER)
        if key is None:
            return self.respond(request, self.carry_out(request, **kwargs))
        check_key(key)
        return self.respond(request, self._once(key, request, kwargs))

    def _once(self, key: str, request: Request, kwargs: Mapping[str, Any]) -> Answer:
        caller: Caller = self.caller  # type: ignore[attr-defined]  # ApiView's
        record = Record(caller.tenant_id, key, request.path[:255], fingerprint_of(request))
        with transaction.atomic():
            earlier = record.open()
            if earlier is not None:
                return earlier
            answer = self.carry_out(request, **kwargs)
            record.close(answer)
        return answer


def check_key(key: str) -> None:
    """Refuse keys that cannot be stored.

    Raises:
        ValidationFailed: empty, longer than 255, or not visible ASCII.
    """
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        raise ValidationFailed(f"{HEADER} must be 1 to 255 visible ASCII characters")


def fingerprint_of(request: Request) -> bytes:
    """Give the SHA-256 of what a request asks for: its body and its query, in canonical form.

    White space, the order of keys and the order of different parameters do not matter.
    """
    asked = {"body": request.data, "query": dict(request.query_params.lists())}
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).digest()


_OPEN = """
INSERT INTO taskmill_idempotency AS r
    (tenant_id, key, path, fingerprint, response_headers, created_at, expires_at)
VALUES (%(tenant)s, %(key)s, %(path)s, %(fingerprint)s, '{}', taskmill_now(),
        taskmill_now() + make_interval(secs => %(seconds)s))
ON CONFLICT (tenant_id, key, path) DO UPDATE SET
    fingerprint = excluded.fingerprint, created_at = excluded.created_at,
    expires_at = excluded.expires_at,
    response_status = NULL, response_body = NULL, response_headers = '{}'
WHERE r.expires_at <= taskmill_now()
RETURNING r.id
"""
_READ = """
SELECT fingerprint, response_status, response_body, response_headers FROM taskmill_idempotency
WHERE tenant_id = %(tenant)s AND key = %(key)s AND path = %(path)s
"""
_CLOSE = """
UPDATE taskmill_idempotency SET response_status = %s, response_body = %s, response_headers = %s
WHERE id = %s
"""


class Record:
    """One key of one tenant at one path, within the caller's transaction."""

    def __init__(self, tenant_id: int, key: str, path: str, fingerprint: bytes) -> None:
        self._fingerprint = fingerprint
        self._row_id: int | None = None
        self._values: dict[str, Any] = {
            "tenant": tenant_id,
            "key": key,
            "path": path,
            "fingerprint": fingerprint,
            "seconds": conf().idempotency_hours * 3600,
        }

    def open(self) -> Answer | None:
        """Take the key, or give the answer that it already has.

        Raises:
            IdempotencyConflict: a twin holds it and has not finished within `LOCK_TIMEOUT`.
            IdempotencyMismatch: it was used with another body or query.
        """
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            try:
                cursor.execute(_OPEN, self._values)
            except OperationalError as error:
                if isinstance(error.__cause__, LockNotAvailable | DeadlockDetected):
                    raise IdempotencyConflict from error
                raise
            taken = cursor.fetchone()
            if taken is not None:
                self._row_id = taken[0]
                return None
            cursor.execute(_READ, self._values)
            return self._earlier(cursor.fetchone())

    def _earlier(self, row: Any) -> Answer:
        if row is None or row[1] is None:
            raise IdempotencyConflict
        if bytes(row[0]) != self._fingerprint:
            raise IdempotencyMismatch
        body, headers = (_as_json(value) for value in row[2:])
        return Answer(status=row[1], body=body, headers=headers, is_replayed=True)

    def close(self, answer: Answer) -> None:
        """Store the answer; it becomes visible with the work when the transaction commits."""
        values: list[Any] = [
            answer.status,
            to_json(answer.body).decode(),
            to_json(dict(answer.headers)).decode(),
        ]
        with connection.cursor() as cursor:
            cursor.execute(_CLOSE, [*values, self._row_id])


def _as_json(value: Any) -> Any:
    return orjson.loads(value) if isinstance(value, str | bytes) else value
