"""Makes an empty installation usable: secret key, schema, the first tenant, admin and token.

Called by `manage.py up` before anything is served. Every step finds out what is there already, so
it can be repeated at each start; what people changed is left as it is.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connections

from tasks_app.errors import NotAuthenticated
from tasks_app.models import ApiKey, Tenant
from tasks_app.services.keys import SCOPES, create_api_key, find_caller

FIRST_TENANT: Final = "default"
FIRST_ADMIN: Final = "admin"
_KEY_NAME: Final = "first key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What `var/credentials.json` holds.

    Attributes:
        url: where the API answers.
        token: bearer token with all scopes.
        admin_user: name of the first administrator.
        admin_password: the password made for him; empty where it was made by somebody else.
    """

    url: str
    token: str
    admin_user: str
    admin_password: str

    @classmethod
    def read(cls, path: Path) -> Credentials | None:
        """Read the file; None where it is missing or damaged."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{name: str(found[name]) for name in cls.__slots__})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Write the file whole, readable by its owner alone."""
        write_private(path, json.dumps(asdict(self), indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; mode 0600 from its first byte on."""
    staging = path.with_name(f".{path.name}.new")
    staging.unlink(missing_ok=True)
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staging.rename(path)


def ensure_secret_key(path: Path) -> None:
    """Make the installation's SECRET_KEY once; mode 0600 at every start."""
    if path.exists():
        path.chmod(0o600)
    else:
        write_private(path, secrets.token_urlsafe(50) + "\n")


def migrate() -> None:
    """Bring the schema up to date."""
    call_command("migrate", interactive=False, verbosity=0)


def ensure_credentials(path: Path, *, url: str, say: Callable[[str], None]) -> Credentials:
    """Make the first tenant, admin and token where they are missing, and write the file.

    Args:
        path: of the file.
        url: where this start serves.
        say: told what a person should know.
    """
    tenant, _ = Tenant.objects.get_or_create(slug=FIRST_TENANT, defaults={"name": "Default"})
    known = Credentials.read(path)
    credentials = Credentials(
        url=url,
        token=_token(tenant, known, say),
        admin_user=known.admin_user if known else FIRST_ADMIN,
        admin_password=_admin_password(known, say),
    )
    credentials.write(path)
    return credentials


def close_connections() -> None:
    """Give the database back what the preparation used, pool threads included."""
    for connection in connections.all():
        connection.close()
        close_pool = getattr(connection, "close_pool", None)
        if close_pool is not None:
            close_pool()


def _token(tenant: Tenant, known: Credentials | None, say: Callable[[str], None]) -> str:
    if known is not None and _is_live(known.token):
        return known.token
    others = list(
        ApiKey.objects.filter(tenant=tenant, revoked_at=None).values_list("id", flat=True)
    )
    if others:
        say(
            "The token in the credentials file was lost or revoked: made a new one. Still valid: "
            f"{', '.join(others)}; revoke what nobody needs at /admin/tasks_app/apikey/."
        )
    _, token = create_api_key(tenant=tenant, name=_KEY_NAME, scopes=SCOPES)
    return token


def _is_live(token: str) -> bool:
    try:
        find_caller(token)
    except NotAuthenticated:
        return False
    return True


def _admin_password(known: Credentials | None, say: Callable[[str], None]) -> str:
    users = get_user_model()
    name = known.admin_user if known else FIRST_ADMIN
    if users.objects.filter(username=name).exists():
        if known is None:
            say(
                f"The credentials file was lost: {name} keeps its password; "
                f"`manage.py changepassword {name}` sets another."
            )
        return known.admin_password if known else ""
    password = secrets.token_urlsafe(15)
    users.objects.create_superuser(username=name, password=password)
    return password
