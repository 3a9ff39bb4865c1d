"""The tenant's own quotas: what is in force, how much of it is used, and setting it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.bodies import read_body
from tasks_app.api.operation import Operation, Reply
from tasks_app.api.views import ApiView
from tasks_app.selectors.quotas import quotas_shown
from tasks_app.services.quotas import QuotaSettings, change_quotas


class Quota(BaseModel):
    """One quota. What has none is not counted."""

    limit: int | None = Field(description="null: as much as you like.")
    used: int | None = Field(description="Counted up to the limit; null where there is none.")


class MinuteQuota(Quota):
    """The quota per minute."""

    renewed_in_seconds: float | None = Field(
        description="When the minute that is counted ends; null while nothing is counted."
    )


class Quotas(BaseModel):
    """The quotas of your tenant, over all of its queues."""

    max_waiting: Quota = Field(description="Tasks that wait.")
    max_waiting_bytes: Quota = Field(description="Bytes of JSON in the payloads of those.")
    max_submissions_per_minute: MinuteQuota = Field(description="Tasks accepted in a minute.")


class QuotasView(ApiView):
    """`/quotas`."""

    scopes = {"GET": "tasks:read", "PATCH": "quotas:write"}
    operations = {
        "GET": Operation(
            name="get_quotas",
            tag="limits",
            summary="Get your quotas and their use",
            description="What your tenant may submit. A queue's own quotas are shown with it.",
            replies={200: Reply(description="The quotas.", model=Quotas)},
        ),
        "PATCH": Operation(
            name="change_quotas",
            tag="limits",
            summary="Change the quotas of the key's tenant",
            description=(
                "What is given is set, null lifts it. A changed quota holds at once, the first of a"
                " tenant within 5 seconds. What waits already stays, also beyond a new quota."
            ),
            body=QuotaSettings,
            replies={200: Reply(description="The quotas.", model=Quotas)},
        ),
    }

    def get(self, _request: Request, **_: Any) -> Response:
        """Show them."""
        return Response(quotas_shown(tenant_id=self.caller.tenant_id))

    def patch(self, request: Request, **_: Any) -> Response:
        """Set or lift them."""
        change_quotas(caller=self.caller, columns=read_body(QuotaSettings, request).columns())
        return Response(quotas_shown(tenant_id=self.caller.tenant_id))
