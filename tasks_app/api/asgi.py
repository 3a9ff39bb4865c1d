"""The short way in for the API: one hop into a bounded pool of threads per request.

Django's own ASGI handler starts a thread per request and changes threads at every middleware. Calls
to /api/v1 and the probes need none of those middlewares, so they are answered here: resolved and
read on the event loop, run whole in one thread, sent from the loop. Waits (`Prefer: wait`) and
streams hold no thread. Everything else, asynchronous views included, goes to Django's handler.
Source: docs/adr/0005-web-threads.md.
"""

from __future__ import annotations

import asyncio
import contextvars
import io
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, Final, TypeVar, cast
from urllib.parse import unquote_to_bytes
from weakref import WeakKeyDictionary

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core import signals
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.urls import Resolver404, ResolverMatch, get_resolver, set_script_prefix
from typing_extensions import override

from tasks_app.api.gathering import ApplyingResponse, Gatherer, may_go_along, settled_together
from tasks_app.api.middleware import bind, finish
from tasks_app.api.parsers import default_body_bytes
from tasks_app.api.problems import problem_response
from tasks_app.api.sse import EventStream
from tasks_app.api.streams import is_live, streamed
from tasks_app.errors import Forbidden, PayloadTooLarge, RequestError, TaskmillError
from tasks_app.metrics import HTTP_RESPONSES

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
T = TypeVar("T")
R = TypeVar("R")
Finish = Callable[[], HttpResponseBase]
Visit = tuple[contextvars.Context, HttpRequest]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

API_PREFIX: Final = "/api/v1/"
_INSTEAD: Final = "\ufffd"
"""Stands in a decoded path for what was not UTF-8, or for itself."""
PROBES: Final = frozenset({"/health", "/livez", "/readyz", "/metrics"})


class ClientGone(Exception):
    """The client hung up before its answer."""


class ApiApplication(ASGIHandler):
    """Serves the API; hands all other requests to `site`.

    Args:
        site: Django's ordinary ASGI application.
        threads: how many requests run at a time; more wait their turn. No more than the database
            pool has connections.
    """

    def __init__(self, site: Application, *, threads: int) -> None:
        super().__init__()
        self._site = site
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="api")
        self._answer = convert_exception_to_response(self._run_view)
        self._gatherers: WeakKeyDictionary[
            asyncio.AbstractEventLoop, Gatherer[Visit, HttpResponseBase]
        ] = WeakKeyDictionary()

    @override
    def load_middleware(self, is_async: bool = False) -> None:
        """Load none: `middleware.bind` and `finish` are called directly."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path.startswith(API_PREFIX) or path in PROBES):
            return await self._site(scope, receive, send)
        match = _resolved(path)
        if match is not None and not _is_threaded(match):
            return await self._site(scope, receive, send)
        try:
            await self._serve(scope, receive, send, match)
        except ClientGone:
            return None

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, match: ResolverMatch | None
    ) -> None:
        request, refusal = _request_of(scope)
        bind(request)
        response: HttpResponseBase
        try:
            if refusal is not None:
                raise refusal
            _check_way_in(request, scope)
            request._stream = await _read_body(receive, request, _limit(match))  # noqa: SLF001
        except TaskmillError as error:
            response = problem_response(error, request)
        else:
            request.resolver_match = match
            response = await self._answered(request, match)
            if getattr(response, "wait", None) is not None and match is not None:
                response = await _unless_gone(self._wait(match, request, response), receive())
            elif is_live(response):
                response = streamed(request, response)
        HTTP_RESPONSES.labels(f"{response.status_code // 100}xx").inc()
        await self._send(finish(request, response), receive, send)

    async def _answered(
        self, request: HttpRequest, match: ResolverMatch | None
    ) -> HttpResponseBase:
        """Run the view: alone in a thread, or with others of its kind that came with it."""
        if not (_is_gathering(match, request) and may_go_along(request)):
            return await self._in_thread(self._one_request, request)
        request.goes_along = True  # type: ignore[attr-defined]  # our own attribute
        context = contextvars.copy_context()
        response = await self._gatherer().result_of((context, request))
        if isinstance(response, ApplyingResponse):
            return await self._in_thread(self._apart, (request, response))
        return response

    def _gatherer(self) -> Gatherer[Visit, HttpResponseBase]:
        loop = asyncio.get_running_loop()
        if loop not in self._gatherers:
            self._gatherers[loop] = Gatherer(partial(self._in_thread, self._together))
        return self._gatherers[loop]

    async def _send(self, response: HttpResponseBase, receive: Receive, send: Send) -> None:
        """Send a response; a stream ends with its client, also with one that takes nothing."""
        events: EventStream | None = getattr(response, "events", None)
        if events is None:
            await self.send_response(response, send)
            return
        await _unless_gone(self.send_response(response, send), receive(), events.stuck())

    async def _in_thread(self, step: Callable[[T], R], about: T) -> R:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, context.run, step, about)

    async def _wait(
        self, match: ResolverMatch, request: HttpRequest, response: Any
    ) -> HttpResponseBase:
        """Wait without a thread, and take one for what became of it."""
        waited: Callable[..., Awaitable[Finish]] = getattr(match.func, "waited")  # noqa: B009 - set by WaitingView
        finish = await waited(request, response, response.wait)
        return await self._in_thread(partial(_finished, request), finish)

    def _one_request(self, request: HttpRequest) -> HttpResponseBase:
        set_script_prefix("/")
        signals.request_started.send(sender=self.__class__, scope=None)
        response = cast("HttpResponseBase", self._answer(request))
        if getattr(response, "wait", None) is not None:
            signals.request_finished.send(sender=self.__class__)
        elif not response.streaming:
            response.close()
        return response

    def _together(self, visits: Sequence[Visit]) -> list[HttpResponseBase]:
        """Run the views of submissions; those that still apply have to go on alone."""
        set_script_prefix("/")
        signals.request_started.send(sender=self.__class__, scope=None)
        responses = [
            cast("HttpResponseBase", context.run(self._answer, request))
            for context, request in visits
        ]
        for number, settle in settled_together(responses):
            context, request = visits[number]
            responses[number] = context.run(_settled, request, settle)
        for response in responses:
            if not _is_unfinished(response):
                response.close()
        signals.request_finished.send(sender=self.__class__)
        return responses

    def _apart(self, applying: tuple[HttpRequest, ApplyingResponse]) -> HttpResponseBase:
        request, response = applying
        signals.request_started.send(sender=self.__class__, scope=None)
        answer = _settled(request, response.settled_alone)
        if not _is_unfinished(answer):
            answer.close()
        signals.request_finished.send(sender=self.__class__)
        return answer

    @staticmethod
    def _run_view(request: HttpRequest) -> HttpResponseBase:
        if request.path not in PROBES:
            request.get_host()
        match = request.resolver_match or get_resolver().resolve(request.path_info)
        view = getattr(match.func, "plain", match.func)
        response: HttpResponseBase = view(request, *match.args, **match.kwargs)
        if not _is_unfinished(response):
            _render(response)
        return response


def api_application(site: Application) -> ApiApplication:
    """Give the application with as many threads as the database pool has connections."""
    pool = settings.DATABASES["default"].get("OPTIONS", {}).get("pool") or {}
    return ApiApplication(site, threads=int(pool.get("max_size", 8)))


@lru_cache(maxsize=256)
def _resolved(path: str) -> ResolverMatch | None:
    try:
        return get_resolver().resolve(path)
    except Resolver404:
        return None


def _is_threaded(match: ResolverMatch) -> bool:
    return hasattr(match.func, "plain") or not iscoroutinefunction(match.func)


def _is_gathering(match: ResolverMatch | None, request: HttpRequest) -> bool:
    view = getattr(match.func, "cls", None) if match is not None else None
    return request.method == "POST" and getattr(view, "is_gathering", False)


def _is_unfinished(response: HttpResponseBase) -> bool:
    """Say whether a response is still to be made: after a wait, or after an admission."""
    return isinstance(response, ApplyingResponse) or getattr(response, "wait", None) is not None


def _settled(request: HttpRequest, settle: Finish) -> HttpResponseBase:
    """Make an answer that was still to be made; what goes wrong is answered as in any view."""

    def view(_: HttpRequest) -> HttpResponseBase:
        response = settle()
        if not _is_unfinished(response):
            _render(response)
        return response

    return cast("HttpResponseBase", convert_exception_to_response(view)(request))


def _limit(match: ResolverMatch | None) -> int:
    view = getattr(match.func, "cls", None) if match is not None else None
    return getattr(view, "max_body_bytes", None) or default_body_bytes()


def _request_of(scope: Scope) -> tuple[ASGIRequest, RequestError | None]:
    try:
        return ASGIRequest(scope, io.BytesIO()), None
    except UnicodeDecodeError:
        plain = ASGIRequest({**scope, "query_string": b""}, io.BytesIO())
        return plain, RequestError("the query is not UTF-8")


def _check_way_in(request: HttpRequest, scope: Scope) -> None:
    """Refuse a token sent in the clear where the installation has TLS; probes come from inside.
    And a path that is not UTF-8, of which different ones would be one.
    """
    path = scope["path"]
    if _INSTEAD in path:
        try:
            unquote_to_bytes(scope["raw_path"]).decode()
        except UnicodeDecodeError as error:
            raise RequestError("the path is not UTF-8") from error
    if settings.SECURE_SSL_REDIRECT and path not in PROBES and not request.is_secure():
        raise Forbidden(f"use {settings.PUBLIC_URL}; this connection is not encrypted")


async def _read_body(receive: Receive, request: HttpRequest, most_bytes: int) -> io.BytesIO:
    declared = request.META.get("CONTENT_LENGTH") or "0"
    if not declared.isdigit():
        raise RequestError("Content-Length is no number")
    if int(declared) > most_bytes:
        raise PayloadTooLarge(f"the body has {declared} bytes, the limit is {most_bytes}")
    body = io.BytesIO()
    is_more = True
    while is_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body.write(message.get("body", b""))
        if body.tell() > most_bytes:
            raise PayloadTooLarge(f"the body is larger than the limit of {most_bytes} bytes")
        is_more = message.get("more_body", False)
    request.META["CONTENT_LENGTH"] = str(body.tell())
    body.seek(0)
    return body


async def _unless_gone(work: Awaitable[T], *signs: Awaitable[Any]) -> T:
    """Give the work's result, or give up at the first sign that the client has hung up."""
    answer = asyncio.ensure_future(work)
    gone = [asyncio.ensure_future(sign) for sign in signs]
    try:
        await asyncio.wait([answer, *gone], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientGone
        return answer.result()
    finally:
        for one in (answer, *gone):
            one.cancel()


def _render(response: HttpResponseBase) -> None:
    if isinstance(response, SimpleTemplateResponse) and not response.is_rendered:
        response.render()
    if isinstance(response, HttpResponse):
        response.headers.setdefault("Content-Length", str(len(response.content)))


def _finished(request: HttpRequest, finish: Finish) -> HttpResponseBase:
    response = _settled(request, finish)
    response.close()
    return response
