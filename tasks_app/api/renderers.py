"""JSON out, by orjson: aware times as RFC 3339 with `Z`, UUIDs as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from rest_framework.renderers import BaseRenderer
from typing_extensions import override

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS


def to_json(value: Any) -> bytes:
    """Give the UTF-8 JSON of a value of plain types, dataclasses, times and UUIDs."""
    return orjson.dumps(value, option=_OPTIONS)


class JSONRenderer(BaseRenderer):
    """Renders every answer of the API that is no problem."""

    media_type = "application/json"
    format = "json"
    charset = None

    @override
    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Give the body; no bytes for None.

        DRF hands the response in; kept, it would be in a circle with its context, see `ApiView`.
        """
        if isinstance(renderer_context, dict):
            renderer_context.pop("response", None)
        return b"" if data is None else to_json(data)
