"""What the notifications app stores."""

from notifications.models.webhooks import (
    WebhookDelivery,
    WebhookEndpoint,
    WebhookTaskSecret,
    WebhookTry,
)

__all__ = ["WebhookDelivery", "WebhookEndpoint", "WebhookTaskSecret", "WebhookTry"]
