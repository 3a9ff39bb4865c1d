"""What may be asked of webhooks: endpoints that get events, and what was sent to them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial
from typing import Final

from taskmill_client.binding import Bound, iteration, operation
from taskmill_client.calls import get_call, id_path, keyed_call, known, post_call
from taskmill_client.pages import emit_pages
from taskmill_client.records import Delivery, Webhook, WebhookSecret, made
from taskmill_client.wire import Call, Flow

_OF_ENDPOINTS: Final = "the id of an endpoint is what webhooks.create() and webhooks.list() give"
_OF_DELIVERIES: Final = "the id of a delivery is what webhooks.deliveries() gives"


def _path(webhook_id: str | uuid.UUID, suffix: str = "") -> str:
    return id_path("webhooks", webhook_id, suffix, advice=_OF_ENDPOINTS)


def _delivery_path(delivery_id: str | uuid.UUID, suffix: str = "") -> str:
    return id_path("deliveries", delivery_id, suffix, advice=_OF_DELIVERIES)


class WebhookOperations(Bound):
    """`client.webhooks`; an API key needs the scope `webhooks:write`."""

    @iteration(Webhook)
    def list(self, /, *, limit: int | None = None) -> Flow[None]:
        """Give the endpoints, the newest first."""
        make = partial(made, Webhook)
        yield from emit_pages(self._exchange, "/webhooks", {}, limit=limit, make=make)

    @operation
    def create(
        self,
        /,
        url: str,
        *,
        description: str = "",
        types: Sequence[str] = (),
        tags: Sequence[str] = (),
        idempotency_key: str | None = None,
    ) -> Flow[Webhook]:
        """Make an endpoint, which gets the events from now on.

        Args:
            url: where they are sent; https.
            types: of the events; none for those of tasks but `task.progress` and `task.log`.
            tags: only of tasks with one of these.

        Returns:
            The endpoint with its `secret`, which is shown here alone: keep it.

        Raises:
            ValidationRefused: the address is not allowed, or a type is unknown.
        """
        named = {"url": url, "description": description, "types": [*types], "tags": [*tags]}
        call = keyed_call("/webhooks", named, idempotency_key)
        return made(Webhook, (yield from self._exchange.json(call)))

    @operation
    def get(self, /, webhook_id: str | uuid.UUID) -> Flow[Webhook]:
        """Give an endpoint, with how it has fared.

        Raises:
            NotFound: there is none with this id (any more).
        """
        return made(Webhook, (yield from self._exchange.json(get_call(_path(webhook_id)))))

    @operation
    def update(
        self,
        /,
        webhook_id: str | uuid.UUID,
        *,
        url: str | None = None,
        description: str | None = None,
        types: Sequence[str] | None = None,
        tags: Sequence[str] | None = None,
        enabled: bool | None = None,
    ) -> Flow[Webhook]:
        """Change an endpoint; what is left out or None stays.

        Args:
            enabled: False stops what is pending too; True forgets its failures.
        """
        body = known(
            url=url,
            description=description,
            types=None if types is None else [*types],
            tags=None if tags is None else [*tags],
            enabled=enabled,
        )
        call = Call(method="PATCH", path=_path(webhook_id), body=body, is_repeatable=True)
        return made(Webhook, (yield from self._exchange.json(call)))

    @operation
    def delete(self, /, webhook_id: str | uuid.UUID) -> Flow[None]:
        """Delete an endpoint, with its deliveries and their log.

        Raises:
            NotFound: there is none with this id (any more).
        """
        yield from self._exchange.json(Call(method="DELETE", path=_path(webhook_id)))

    @operation
    def rotate_secret(self, /, webhook_id: str | uuid.UUID) -> Flow[WebhookSecret]:
        """Give an endpoint a new secret; for a day the former one signs too."""
        call = post_call(_path(webhook_id, "/rotate-secret"))
        return made(WebhookSecret, (yield from self._exchange.json(call)))

    @operation
    def rotate_task_secret(self) -> Flow[WebhookSecret]:
        """Give the addresses of tasks (`webhook_url`, `tasks.add_webhook`) a new secret.

        Call it once to learn the secret; for a day the former one signs too.
        """
        call = post_call("/webhooks/task-secret/rotate")
        return made(WebhookSecret, (yield from self._exchange.json(call)))

    @operation
    def test(self, /, webhook_id: str | uuid.UUID) -> Flow[Delivery]:
        """Send it a `webhook.test` once; what came of it is in `webhooks.delivery`.

        Raises:
            Conflict: it is disabled.
            TooManyRequests: there were ten within a minute.
        """
        call = post_call(_path(webhook_id, "/test"))
        return made(Delivery, (yield from self._exchange.json(call)))

    @iteration(Delivery)
    def deliveries(self, /, webhook_id: str | uuid.UUID, *, limit: int | None = None) -> Flow[None]:
        """Give what was sent to an endpoint, the newest first; settled ones for 30 days."""
        path, make = _path(webhook_id, "/deliveries"), partial(made, Delivery)
        yield from emit_pages(self._exchange, path, {}, limit=limit, make=make)

    @operation
    def delivery(self, /, delivery_id: str | uuid.UUID) -> Flow[Delivery]:
        """Give a delivery with its body and the log of its tries."""
        call = get_call(_delivery_path(delivery_id))
        return made(Delivery, (yield from self._exchange.json(call)))

    @operation
    def resend(
        self, /, delivery_id: str | uuid.UUID, *, idempotency_key: str | None = None
    ) -> Flow[Delivery]:
        """Send a delivery again, now, under the same `webhook-id`, its tries granted anew.

        Raises:
            Conflict: it is under way, or its endpoint is disabled.
        """
        call = keyed_call(_delivery_path(delivery_id, "/resend"), {}, idempotency_key)
        return made(Delivery, (yield from self._exchange.json(call)))
