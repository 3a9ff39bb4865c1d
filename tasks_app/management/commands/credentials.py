"""`manage.py credentials`: print this installation's URL and token as shell exports."""

from __future__ import annotations

import json
import shlex
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """Prints `export TASKMILL_URL=... TASKMILL_TOKEN=...` from `var/credentials.json`."""

    help = 'Print the URL and token for a shell: eval "$(manage.py credentials)"'
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Print one line.

        Raises:
            CommandError: the file is missing; it says how to make it.
        """
        path = settings.EMBEDDED.credentials
        if not path.exists():
            message = f"{path} does not exist yet; start the platform once with `make run`"
            raise CommandError(message)
        found = json.loads(path.read_text(encoding="utf-8"))
        url, token = shlex.quote(found["url"]), shlex.quote(found["token"])
        self.stdout.write(f"export TASKMILL_URL={url} TASKMILL_TOKEN={token}")
