"""Checks of the broker and of Redis: do they answer, and are they of the kind that is needed?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import amqp
import kombu
import redis
from django.conf import settings

from tasks_app.dispatch.publish import make_publisher
from tasks_app.errors import BrokerUnavailable
from tasks_app.management.diagnosis.finding import Finding
from tasks_app.registry import known_queues

_NO_ROUTE: Final = 312
_SECONDS: Final = 5


def findings() -> list[Finding]:
    """Check the broker and Redis of the settings."""
    return [*_broker(), *_redis()]


def _broker() -> list[Finding]:
    publisher = make_publisher()
    try:
        publisher.open()
    except BrokerUnavailable as error:
        return [
            Finding(
                check="broker.reachable",
                detail=f"{error} ({error.__cause__ or 'no further reason'})",
                fix="start the broker (`make run` starts the embedded one), or mend BROKER_URL",
            )
        ]
    finally:
        publisher.close()
    kind = "RabbitMQ" if settings.IS_RABBITMQ else "Valkey or Redis"
    reachable = Finding(check="broker.reachable", detail=f"{kind} answers")
    if not settings.IS_RABBITMQ:
        return [reachable, memory_policy("broker", settings.BROKER_URL)]
    with kombu.Connection(settings.BROKER_URL, connect_timeout=_SECONDS) as connection:
        connection.ensure_connection(max_retries=1, timeout=_SECONDS)
        queues = [queue_type(connection, name) for name in known_queues()]
        return [reachable, *queues, confirms(connection)]


def queue_type(connection: kombu.Connection, name: str) -> Finding:
    """Check that a queue on RabbitMQ is the replicated kind; a missing one is made when needed."""
    queue = settings.BROKER_QUEUE(name)
    check = f"broker.queue.{name}"
    try:
        _on_channel(connection, lambda channel: queue(channel).queue_declare(passive=True))
    except amqp.NotFound:
        return Finding(check=check, detail="not there yet; made at its first use")
    try:
        _on_channel(connection, lambda channel: queue(channel).queue_declare())
    except amqp.PreconditionFailed:
        return Finding(
            check=check,
            detail="not a quorum queue",
            fix=f"stop the workers, `rabbitmqctl delete_queue {name}`, start them again: "
            "tasks are in the database and none is lost",
        )
    if reason := _refusal(connection, name):
        return Finding(
            check=check,
            detail=f"it gives no messages: {reason}",
            fix="start the nodes that hold it; if they run, its data is lost to RabbitMQ:"
            f" `rabbitmqctl delete_queue {name}`, then restart the workers: tasks are in the"
            " database and none is lost",
        )
    return Finding(check=check, detail="quorum")


def _refusal(connection: kombu.Connection, name: str) -> str:
    """Say why a queue gives no messages, or "".

    A declaration is answered for a queue whose processes are gone too (a node killed right after
    the first declaration leaves one behind); a message is not. One that comes is given back. The
    refusal ends the connection, so it is one of its own.
    """
    with connection.clone() as own:
        try:
            channel: Any = own.channel()
            channel.basic_get(name, no_ack=False)
        except (amqp.AMQPError, OSError) as error:
            return str(error)
    return ""


def confirms(connection: kombu.Connection) -> Finding:
    """Check that the broker confirms what it takes and returns what it cannot route."""
    check = "broker.confirms"
    try:
        is_returned = _on_channel(connection, _publish_twice)
    except (amqp.AMQPError, OSError) as error:
        fix = "allow BROKER_URL's user to declare and publish (rabbitmqctl set_permissions)"
        return Finding(check=check, detail=str(error), fix=fix)
    if not is_returned:
        fix = "remove the alternate exchange or policy that swallows unroutable messages"
        return Finding(check=check, detail="an unroutable message was not returned", fix=fix)
    return Finding(check=check, detail="confirms, and returns what it cannot route")


def _publish_twice(channel: Any) -> bool:
    """Publish one message that has a queue and one that has none; say whether that came back."""
    returned: list[int | None] = []
    channel.confirm_select()
    channel.events["basic_return"].add(lambda error, *_: returned.append(error.reply_code))
    queue = channel.queue_declare(exclusive=True, auto_delete=True).queue
    message = amqp.Message("doctor")
    channel.basic_publish_confirm(
        message, routing_key=queue, mandatory=True, confirm_timeout=_SECONDS
    )
    try:
        channel.basic_publish_confirm(
            message, routing_key=f"{queue}.none", mandatory=True, confirm_timeout=_SECONDS
        )
    except amqp.ChannelError as error:
        returned.append(error.reply_code)
    return _NO_ROUTE in returned


def _redis() -> list[Finding]:
    return [memory_policy("redis", settings.REDIS_URL)]


def memory_policy(part: str, url: str) -> Finding:
    """Check that a Valkey or Redis answers and never throws anything away to make room."""
    check = f"{part}.memory_policy" if part == "broker" else "redis.reachable"
    try:
        with redis.Redis.from_url(_plain(url), socket_timeout=_SECONDS) as client:
            policy = _policy(client)
    except redis.RedisError as error:
        fix = "start it (`make run` starts the embedded one), or mend REDIS_URL"
        return Finding(check=check, detail=str(error), fix=fix)
    if policy in {"noeviction", ""}:
        return Finding(check=check, detail=policy or "answers; its policy may not be read")
    return Finding(check=check, detail=policy, fix="set maxmemory-policy noeviction")


def _policy(client: redis.Redis) -> str:
    client.ping()
    try:
        return str(client.config_get("maxmemory-policy").get("maxmemory-policy", ""))
    except redis.ResponseError:
        return ""


def _plain(url: str) -> str:
    """Give a kombu URL as redis-py writes it."""
    return url.split(";", maxsplit=1)[0].replace("redis+socket://", "unix://")


def _on_channel(connection: kombu.Connection, use: Callable[[Any], Any]) -> Any:
    """Call `use` with a channel of its own; a refusal closes just that."""
    channel: Any = connection.channel()
    try:
        return use(channel)
    finally:
        if channel.is_open:
            channel.close()
