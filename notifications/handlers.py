"""The task types of this app, as far as the settings switch them on."""

from __future__ import annotations

from notifications.http_requests.calling import http_request
from notifications.http_requests.conf import http_request_conf
from notifications.messages.handlers import declare
from tasks_app.public import handler

if http_request_conf().enabled:
    handler("http.request", bundle=1)(http_request)
declare()
