"""Checks of what has to stay secret: the key that signs sessions, the file with the first token."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from django.conf import settings

from tasks_app.management.diagnosis.finding import Finding

LEAST_LENGTH: Final = 32
LEAST_DIFFERENT: Final = 10


def findings() -> list[Finding]:
    """Check the secrets of the settings."""
    files = [settings.EMBEDDED.credentials, settings.EMBEDDED.secret_key]
    private = [private_file(path) for path in files if path.exists()]
    return [secret_key(settings.SECRET_KEY), *private]


def secret_key(value: str) -> Finding:
    """Check that the key cannot be guessed."""
    detail, fix = f"{len(value)} characters", ""
    if value.startswith("unset:"):
        detail, fix = "not set", "set SECRET_KEY, or start once with `make run`"
    elif len(value) < LEAST_LENGTH or len(set(value)) < LEAST_DIFFERENT:
        fix = (
            "set SECRET_KEY to 50 random characters "
            "(python -c 'import secrets; print(secrets.token_urlsafe(50))')"
        )
    return Finding(check="secrets.secret_key", detail=detail, fix=fix)


def private_file(path: Path) -> Finding:
    """Check that nobody but the owner can read a file."""
    mode = stat.S_IMODE(path.stat().st_mode)
    fix = f"chmod 600 {path}" if mode & 0o077 else ""
    return Finding(check=f"secrets.file.{path.name}", detail=f"mode {mode:04o}", fix=fix)
