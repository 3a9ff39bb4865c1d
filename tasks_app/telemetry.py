"""Structured log lines: a constant message plus fields; payloads never appear.

Configured by `config/logging.py`; everything logs through `logger(__name__)`.
"""

from __future__ import annotations

from typing import Any

import structlog


def logger(name: str) -> Any:
    """Give the structured logger of a module; calls take a constant message and fields."""
    return structlog.get_logger(name)
