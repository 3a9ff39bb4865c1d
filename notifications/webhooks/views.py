"""The endpoints of the API about webhooks: parse, call the service, show."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any, Final

from rest_framework.request import Request
from rest_framework.response import Response

from notifications.models import WebhookDelivery
from notifications.webhooks import services
from notifications.webhooks.selectors import (
    deliveries_listed,
    endpoints_listed,
    task_deliveries_listed,
    tries_of,
)
from notifications.webhooks.shapes import (
    NewTaskWebhook,
    NewWebhook,
    TaskWebhook,
    Webhook,
    WebhookChanges,
    WebhookDeliveryDetail,
    WebhookDeliveryList,
    WebhookDeliveryShown,
    WebhookList,
    WebhookSecret,
    WebhookWithSecret,
    delivery_object,
    try_object,
    webhook_object,
)
from tasks_app.errors import NotFound, StateConflict, ValidationFailed
from tasks_app.platform import ScopeMissing, check_event_scopes, check_task_of
from tasks_app.rest import (
    API_ROOT,
    PAGE_PARAMETERS,
    Answer,
    ApiView,
    IdempotentPost,
    Operation,
    Parameter,
    Reply,
    Strict,
    TaskView,
    page_of,
    read_body,
    read_page_request,
)

SCOPE: Final = "webhooks:write"
TAG: Final = "webhooks"
ENDPOINT_ID: Final = Parameter(
    name="endpoint_id",
    description="The endpoint's id.",
    schema={"type": "string", "format": "uuid"},
)
DELIVERY_ID: Final = Parameter(
    name="delivery_id",
    description="The delivery's id, the `webhook-id` of its tries.",
    schema={"type": "string", "format": "uuid"},
)


class NoFields(Strict):
    """A body without fields."""


class WebhookView(ApiView):
    """An address below one endpoint or delivery."""

    def id_of(self, name: str) -> uuid.UUID:
        """Give an id of the path.

        Raises:
            NotFound: it is none.
        """
        try:
            return uuid.UUID(self.kwargs[name])
        except ValueError as error:
            raise NotFound from error

    @property
    def endpoint_id(self) -> uuid.UUID:
        """The endpoint of the path, which is the caller's.

        Raises:
            NotFound: it is not.
        """
        endpoint_id = self.id_of("endpoint_id")
        return services.find_endpoint(caller=self.caller, endpoint_id=endpoint_id).id


class Webhooks(IdempotentPost, ApiView):
    """`/webhooks`."""

    scopes = {"GET": SCOPE, "POST": SCOPE}
    operations = {
        "GET": Operation(
            name="list_webhooks",
            tag=TAG,
            summary="List endpoints",
            description="The receivers of the tenant's events, newest first.",
            query=PAGE_PARAMETERS,
            replies={200: Reply(description="A page.", model=WebhookList)},
        ),
        "POST": Operation(
            name="create_webhook",
            tag=TAG,
            summary="Make an endpoint",
            description=(
                "It gets the events from now on, signed as Standard Webhooks. The secret is in"
                " this answer alone, and in replays of it."
            ),
            body=NewWebhook,
            headers=("Idempotency-Key",),
            replies={
                201: Reply(
                    description="It is made.",
                    model=WebhookWithSecret,
                    headers=("Location", "Idempotency-Replayed"),
                )
            },
            problems=(ScopeMissing, NotFound),
        ),
    }

    def get(self, request: Request) -> Response:
        """List the tenant's endpoints."""
        tenant_id = self.caller.tenant_id
        page = read_page_request(request, tenant_id)
        rows = endpoints_listed(
            tenant_id=tenant_id,
            most=page.limit + 1,
            position=None if page.position is None else uuid.UUID(page.position[0]),
            is_backward=page.is_backward,
        )
        shown, links = page_of(request, tenant_id, page, rows, lambda row: (row.id,))
        return Response({"results": [webhook_object(row) for row in shown], **links})

    def carry_out(self, request: Request, **_: Any) -> Answer:
        """Make an endpoint."""
        body = read_body(NewWebhook, request)
        check_event_scopes(self.principal, body.types)
        wish = services.EndpointWish(**body.model_dump())
        endpoint = services.create_endpoint(caller=self.caller, wish=wish)
        location = f"{API_ROOT}/webhooks/{endpoint.id}"
        return Answer(status=201, body=webhook_object(endpoint), headers={"Location": location})

    def respond(self, request: Request, answer: Answer) -> Response:
        """Show it with its secret, which is never remembered with the answer of a key.

        Raises:
            NotFound: a replay, and it was deleted meanwhile.
        """
        endpoint_id = uuid.UUID(str(answer.body["id"]))
        secret = services.secret_of(caller=self.caller, endpoint_id=endpoint_id)
        return super().respond(request, replace(answer, body=answer.body | {"secret": secret}))


class WebhookDetail(WebhookView):
    """`/webhooks/{id}`."""

    scopes = {"GET": SCOPE, "PATCH": SCOPE, "DELETE": SCOPE}
    operations = {
        "GET": Operation(
            name="get_webhook",
            tag=TAG,
            summary="Get an endpoint",
            description="What it gets, and how it has fared.",
            path=(ENDPOINT_ID,),
            replies={200: Reply(description="The endpoint.", model=Webhook)},
            problems=(NotFound,),
        ),
        "PATCH": Operation(
            name="revise_webhook",
            tag=TAG,
            summary="Change an endpoint",
            description=(
                "Disabling it stops what is pending; enabling it forgets its failures. Events from"
                " the time between are not sent; each delivery can be sent again by hand."
            ),
            path=(ENDPOINT_ID,),
            body=WebhookChanges,
            is_body_required=False,
            media_types=("application/merge-patch+json", "application/json"),
            replies={200: Reply(description="The endpoint as it is now.", model=Webhook)},
            problems=(NotFound, ScopeMissing),
        ),
        "DELETE": Operation(
            name="delete_webhook",
            tag=TAG,
            summary="Delete an endpoint",
            description="With its deliveries and their log.",
            path=(ENDPOINT_ID,),
            replies={204: Reply(description="It is gone.", has_body=False)},
            problems=(NotFound,),
        ),
    }

    def get(self, _request: Request, **_: Any) -> Response:
        """Show the endpoint."""
        endpoint_id = self.id_of("endpoint_id")
        endpoint = services.find_endpoint(caller=self.caller, endpoint_id=endpoint_id)
        return Response(webhook_object(endpoint))

    def patch(self, request: Request, **_: Any) -> Response:
        """Change what the body names."""
        endpoint_id = self.id_of("endpoint_id")
        known = services.find_endpoint(caller=self.caller, endpoint_id=endpoint_id)
        body = read_body(WebhookChanges, request).model_dump()
        if body["url"] is not None or body["types"] is not None:
            types = known.types if body["types"] is None else body["types"]
            check_event_scopes(self.principal, types)
        wish = services.EndpointWish(is_enabled=body.pop("enabled"), **body)
        endpoint = services.revise_endpoint(caller=self.caller, endpoint_id=endpoint_id, wish=wish)
        return Response(webhook_object(endpoint))

    def delete(self, _request: Request, **_: Any) -> Response:
        """Delete the endpoint."""
        services.delete_endpoint(caller=self.caller, endpoint_id=self.id_of("endpoint_id"))
        return Response(status=204)


class WebhookRotate(WebhookView):
    """`POST /webhooks/{id}/rotate-secret`."""

    scopes = {"POST": SCOPE}
    operations = {
        "POST": Operation(
            name="rotate_webhook_secret",
            tag=TAG,
            summary="Give an endpoint a new secret",
            description="For a day the former secret signs too, so that nothing is refused.",
            path=(ENDPOINT_ID,),
            body=NoFields,
            is_body_required=False,
            replies={201: Reply(description="The new secret.", model=WebhookSecret)},
            problems=(NotFound,),
        )
    }

    def post(self, request: Request, **_: Any) -> Response:
        """Rotate and show the new secret."""
        endpoint_id = self.endpoint_id
        read_body(NoFields, request)
        secret = services.rotate_secret(caller=self.caller, endpoint_id=endpoint_id)
        endpoint = services.find_endpoint(caller=self.caller, endpoint_id=endpoint_id)
        return _secret_response(secret, endpoint.previous_until)


class TaskSecretRotate(ApiView):
    """`POST /webhooks/task-secret/rotate`."""

    scopes = {"POST": SCOPE}
    operations = {
        "POST": Operation(
            name="rotate_task_webhook_secret",
            tag=TAG,
            summary="Give the addresses of tasks a new secret",
            description=(
                "It signs what is sent to `webhook_url` of submissions and `/tasks/{id}/webhooks`."
                " Call it once to learn the secret; for a day the former one signs too."
            ),
            body=NoFields,
            is_body_required=False,
            replies={201: Reply(description="The new secret.", model=WebhookSecret)},
        )
    }

    def post(self, request: Request) -> Response:
        """Rotate and show the new secret."""
        read_body(NoFields, request)
        secret = services.rotate_task_secret(caller=self.caller)
        return _secret_response(secret, services.task_secret_until(caller=self.caller))


def _secret_response(secret: str, until: Any) -> Response:
    return Response({"secret": secret, "previous_secret_until": until}, status=201)


class WebhookTest(WebhookView):
    """`POST /webhooks/{id}/test`."""

    scopes = {"POST": SCOPE}
    operations = {
        "POST": Operation(
            name="test_webhook",
            tag=TAG,
            summary="Send a test event",
            description=(
                "One try of a `webhook.test`, at most ten a minute; what came of it is in the"
                " delivery's log."
            ),
            path=(ENDPOINT_ID,),
            body=NoFields,
            is_body_required=False,
            replies={202: Reply(description="It is queued.", model=WebhookDeliveryShown)},
            problems=(NotFound, StateConflict),
        )
    }

    def post(self, request: Request, **_: Any) -> Response:
        """Queue a test event."""
        endpoint_id = self.endpoint_id
        read_body(NoFields, request)
        delivery = services.send_test(caller=self.caller, endpoint_id=endpoint_id)
        return Response(delivery_object(delivery), status=202)


class WebhookDeliveries(WebhookView):
    """`GET /webhooks/{id}/deliveries`."""

    scopes = {"GET": SCOPE}
    operations = {
        "GET": Operation(
            name="list_webhook_deliveries",
            tag=TAG,
            summary="List what was sent to an endpoint",
            description="Its deliveries, newest first; settled ones are kept for 30 days.",
            path=(ENDPOINT_ID,),
            query=PAGE_PARAMETERS,
            replies={200: Reply(description="A page.", model=WebhookDeliveryList)},
            problems=(NotFound,),
        )
    }

    def get(self, request: Request, **_: Any) -> Response:
        """List the endpoint's deliveries."""
        endpoint_id, tenant_id = self.endpoint_id, self.caller.tenant_id
        page = read_page_request(request, tenant_id)
        rows = deliveries_listed(
            endpoint_id=endpoint_id,
            most=page.limit + 1,
            position=None if page.position is None else uuid.UUID(page.position[0]),
            is_backward=page.is_backward,
        )
        shown, links = page_of(request, tenant_id, page, rows, lambda row: (row.id,))
        return Response({"results": [delivery_object(row) for row in shown], **links})


class DeliveryView(WebhookView):
    """`GET /deliveries/{id}`."""

    scopes = {"GET": SCOPE}
    operations = {
        "GET": Operation(
            name="get_webhook_delivery",
            tag=TAG,
            summary="Get a delivery with its log",
            description="The body that is sent, and what came of every try.",
            path=(DELIVERY_ID,),
            replies={200: Reply(description="The delivery.", model=WebhookDeliveryDetail)},
            problems=(NotFound,),
        )
    }

    def get(self, _request: Request, **_: Any) -> Response:
        """Show the delivery."""
        delivery_id = self.id_of("delivery_id")
        found = services.find_delivery(caller=self.caller, delivery_id=delivery_id)
        return Response(_detail(found))


def _detail(row: WebhookDelivery) -> dict[str, Any]:
    return delivery_object(row) | {
        "body": row.body,
        "log": [try_object(one) for one in tries_of(row.id)],
    }


class DeliveryResend(IdempotentPost, WebhookView):
    """`POST /deliveries/{id}/resend`."""

    scopes = {"POST": SCOPE}
    operations = {
        "POST": Operation(
            name="resend_webhook_delivery",
            tag=TAG,
            summary="Send a delivery again",
            description="Now, under the same `webhook-id`, with all its tries granted anew.",
            path=(DELIVERY_ID,),
            body=NoFields,
            is_body_required=False,
            headers=("Idempotency-Key",),
            replies={
                202: Reply(
                    description="It is queued.",
                    model=WebhookDeliveryShown,
                    headers=("Idempotency-Replayed",),
                )
            },
            problems=(NotFound, StateConflict),
        )
    }

    def carry_out(self, request: Request, **_: Any) -> Answer:
        """Queue the delivery again."""
        delivery_id = self.id_of("delivery_id")
        services.find_delivery(caller=self.caller, delivery_id=delivery_id)
        read_body(NoFields, request)
        found = services.resend(caller=self.caller, delivery_id=delivery_id)
        return Answer(status=202, body=delivery_object(found))


class TaskWebhooks(TaskView):
    """`POST /tasks/{id}/webhooks`."""

    scopes = {"POST": SCOPE}
    operations = {
        "POST": Operation(
            name="add_task_webhook",
            tag=TAG,
            summary="Send a task's end to an address",
            description=(
                "The final event is sent there, at once where the task has finished. Signed with"
                " the secret of `/webhooks/task-secret/rotate`. Repeating it changes nothing."
            ),
            body=NewTaskWebhook,
            replies={201: Reply(description="It is added.", model=TaskWebhook)},
            problems=(ValidationFailed,),
        )
    }

    def post(self, request: Request, **_: Any) -> Response:
        """Add an address to the task."""
        task_id = self.task_id
        check_task_of(tenant_id=self.caller.tenant_id, task_id=task_id)
        body = read_body(NewTaskWebhook, request)
        url = services.add_receiver(caller=self.caller, task_id=task_id, url=body.url)
        return Response({"task_id": task_id, "url": url}, status=201)


class TaskDeliveries(TaskView):
    """`GET /tasks/{id}/deliveries`."""

    scopes = {"GET": SCOPE}
    operations = {
        "GET": Operation(
            name="list_task_deliveries",
            tag=TAG,
            summary="List what was sent about a task",
            description=(
                "To addresses of its own (`webhook_url`, `/tasks/{id}/webhooks`) and to endpoints,"
                " newest first; settled ones are kept for 30 days."
            ),
            query=PAGE_PARAMETERS,
            replies={200: Reply(description="A page.", model=WebhookDeliveryList)},
        )
    }

    def get(self, request: Request, **_: Any) -> Response:
        """List the task's deliveries."""
        task_id, tenant_id = self.task_id, self.caller.tenant_id
        check_task_of(tenant_id=tenant_id, task_id=task_id)
        page = read_page_request(request, tenant_id)
        rows = task_deliveries_listed(
            tenant_id=tenant_id,
            task_id=task_id,
            most=page.limit + 1,
            position=None if page.position is None else uuid.UUID(page.position[0]),
            is_backward=page.is_backward,
        )
        shown, links = page_of(request, tenant_id, page, rows, lambda row: (row.id,))
        return Response({"results": [delivery_object(row) for row in shown], **links})
