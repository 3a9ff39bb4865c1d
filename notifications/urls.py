"""The routes of this app, mounted at /api/v1 by config/urls.py."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from notifications.ticket_views import SocketTickets
from notifications.webhooks import views

webhook_routes: list[URLPattern | URLResolver] = [
    path("webhooks", views.Webhooks.as_view(), name="webhooks"),
    path("webhooks/task-secret/rotate", views.TaskSecretRotate.as_view(), name="webhook-secret"),
    path("webhooks/<str:endpoint_id>", views.WebhookDetail.as_view(), name="webhook"),
    path(
        "webhooks/<str:endpoint_id>/rotate-secret",
        views.WebhookRotate.as_view(),
        name="webhook-rotate",
    ),
    path("webhooks/<str:endpoint_id>/test", views.WebhookTest.as_view(), name="webhook-test"),
    path(
        "webhooks/<str:endpoint_id>/deliveries",
        views.WebhookDeliveries.as_view(),
        name="webhook-deliveries",
    ),
    path("deliveries/<str:delivery_id>", views.DeliveryView.as_view(), name="delivery"),
    path(
        "deliveries/<str:delivery_id>/resend",
        views.DeliveryResend.as_view(),
        name="delivery-resend",
    ),
    path("tasks/<str:task_id>/webhooks", views.TaskWebhooks.as_view(), name="task-webhooks"),
    path("tasks/<str:task_id>/deliveries", views.TaskDeliveries.as_view(), name="task-deliveries"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    *webhook_routes,
    path("ws-tickets", SocketTickets.as_view(), name="ws-tickets"),
]
