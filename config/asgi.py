"""The ASGI application that uvicorn serves: HTTP by Django, routed by protocol through Channels."""

from __future__ import annotations

import os

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")  # noqa: TID251 - how Django is told its settings

site = get_asgi_application()

from notifications.cross_origin import CrossOriginReads  # noqa: E402 - needs settings
from notifications.routing import SocketApplication  # noqa: E402 - as below
from tasks_app.api.asgi import api_application  # noqa: E402 - needs the apps that `site` sets up
from tasks_app.garbage import spare_what_stays  # noqa: E402 - called when all is loaded

application = ProtocolTypeRouter(
    {"http": CrossOriginReads(api_application(site)), "websocket": SocketApplication()}
)
spare_what_stays()
