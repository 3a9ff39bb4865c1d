"""Static files by WhiteNoise, in both of Django's modes.

WhiteNoise's own middleware is synchronous: in an ASGI chain it would hold a thread for as long as
a view waits. This one hands requests that are not for a static file on without leaving the loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]  # WhiteNoise has no types
    """Serves what the finders and STATIC_ROOT hold; the latter need not exist."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer a request in the mode that the chain runs in."""
        if not self._is_async:
            response: HttpResponseBase = super().__call__(request)
            return response
        return self._answer_async(request)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        file = self.files.get(request.path_info)
        if file is not None:
            return await sync_to_async(self._read, thread_sensitive=False)(file, request)
        response: HttpResponseBase = await self.get_response(request)
        return response

    def _read(self, file: Any, request: HttpRequest) -> HttpResponse:
        served = self.serve(file, request)
        try:
            body = b"".join(served.streaming_content)
        finally:
            served.close()
        return HttpResponse(body, status=served.status_code, headers=dict(served.items()))

    def add_files(self, root: str, prefix: str | None = None) -> None:
        """Take the files below a directory, where it exists."""
        if Path(root).is_dir():
            super().add_files(root, prefix)
