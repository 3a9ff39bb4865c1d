"""Values as safe HTML: everything a client or a handler wrote goes through `format_html`."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from django.utils.html import format_html
from django.utils.safestring import SafeString

MAX_SHOWN_CHARACTERS: Final = 65_536
_SIGNS: Final = {
    "scheduled": "◷",
    "queued": "…",
    "blocked": "⏸",
    "dispatched": "→",
    "retrying": "↻",
    "running": "▶",
    "cancelling": "■",
    "success": "✓",
    "failed": "✗",
    "error": "!",
    "cancelled": "⊘",
    "timeout": "⌛",
}


def state_badge(state: str) -> SafeString:
    """Show a state by sign, word and colour."""
    return format_html(
        '<span class="tm-state tm-{}">{}\N{NO-BREAK SPACE}{}</span>',
        state,
        _SIGNS.get(state, "?"),
        state,
    )


def progress_bar(percent: float, message: str = "") -> SafeString:
    """Show a progress of 0 to 100 as a bar with its number."""
    return format_html(
        '<progress max="100" value="{}" title="{}"></progress> {}\N{NO-BREAK SPACE}%',
        f"{percent:.1f}",
        message,
        f"{percent:.0f}",
    )


def pretty_json(value: Any) -> SafeString:
    """Show JSON values indented, cut after `MAX_SHOWN_CHARACTERS`."""
    if value is None:
        return format_html('<span class="tm-none">{}</span>', "-")
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False)
    rest = len(text) - MAX_SHOWN_CHARACTERS
    if rest > 0:
        text = f"{text[:MAX_SHOWN_CHARACTERS]}\n... {rest} more characters; the API gives them all"
    return format_html('<pre class="tm-json">{}</pre>', text)


def seconds_between(start: datetime | None, end: datetime | None) -> str:
    """Give a duration in seconds, `-` where an end is missing."""
    return "-" if start is None or end is None else f"{(end - start).total_seconds():.2f} s"
