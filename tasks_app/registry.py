"""Handlers: how a task type is declared, and the one place that knows them all.

`@handler` is used at import time by the `handlers` modules of the installed apps. Declarations are
checked then and there: unknown options, duplicate types, signatures and types that cannot travel as
JSON are refused with a sentence that says what to write instead. The registry never touches the
database; `submit`, `spawn` and `test_run` are ports that `tasks_app.apps` plugs in.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final, Protocol

from django.apps import apps
from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from tasks_app.conf import conf
from tasks_app.context import Child, TaskContext
from tasks_app.errors import HandlerDeclarationError, ProcessTimeout, UnknownTaskType
from tasks_app.limits import Rate, parse_rate
from tasks_app.policies import Retry

TYPE_PATTERN: Final = re.compile(r"^[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*$")
QUEUE_PATTERN: Final = re.compile(r"^[a-z0-9][a-z0-9._-]{0,99}$")
MAX_TYPE_LENGTH: Final = 100
MAX_TIMEOUT_SECONDS: Final = 604_800
MAX_CONCURRENCY: Final = 1_000_000
MAX_BUNDLE: Final = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a task type; None means "the queue's default, else the platform's".

    Attributes:
        queue: name of the queue its tasks wait in.
        priority: -1000 to 1000, larger is sooner.
        max_retry: further attempts after the first, 0 to 1000.
        retry: when a failed attempt is repeated; see `policy`.
        process_timeout_seconds: how long an attempt may run.
        queue_timeout_seconds: how long a task may wait for its first start.
        concurrency: most tasks of the type handed out or running at a time, of all tenants.
        rate: most tasks of the type handed out in a time, of all tenants.
        bundle: most tasks of the type that travel in one message; None for "by its run times".
    """

    queue: str = "default"
    priority: int | None = None
    max_retry: int | None = None
    retry: Retry | None = None
    process_timeout_seconds: int | None = None
    queue_timeout_seconds: int | None = None
    concurrency: int | None = None
    rate: Rate | None = None
    bundle: int | None = None

    @property
    def policy(self) -> Retry:
        """The retry policy of a task that has none of its own: the type's, else `Retry.smart()`."""
        return self.retry or Retry.smart()


class SubmitPort(Protocol):
    """Carries `Handler.submit` to the services; answers with a task handle."""

    def __call__(self, task_type: str, payload: Any, **options: Any) -> Any:
        """Submit one task."""


class SpawnPort(Protocol):
    """Carries `TaskContext.spawn` to the services; answers with a task handle."""

    def __call__(self, child: Child, context: TaskContext, /) -> Any:
        """Submit a child once."""


class TestRunPort(Protocol):
    """Carries `Handler.test_run` to the test kit; answers with a recorded run."""

    def __call__(self, declared: Handler, payload: Any, *rest: Any, **options: Any) -> Any:
        """Run one attempt in this process."""


class Handler:
    """A declared task type. Calling it calls the function it decorates."""

    timeout_error: type[ProcessTimeout] = ProcessTimeout
    """What its function sees at the process timeout."""
    submit_port: ClassVar[SubmitPort | None] = None
    spawn_port: ClassVar[SpawnPort | None] = None
    test_run_port: ClassVar[TestRunPort | None] = None

    def __init__(self, task_type: str, function: Callable[..., Any], options: Options) -> None:
        signature = _Signature.of(task_type, function)
        self.type = task_type
        self.function = function
        self.options = options
        self.is_async = inspect.iscoroutinefunction(function)
        self.takes_payload = signature.payload is not None
        self.takes_context = signature.takes_context
        self.payload_adapter: TypeAdapter[Any] | None = signature.payload
        self.result_adapter: TypeAdapter[Any] | None = signature.result
        self.description = inspect.getdoc(function) or ""
        self.__doc__ = self.description
        self.__name__ = getattr(function, "__name__", task_type)
        self.__module__ = function.__module__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the decorated function as it stands."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Handler {self.type}>"

    def payload_schema(self) -> dict[str, Any]:
        """Give the JSON Schema of the payload."""
        if self.payload_adapter is None:
            return {"type": "object", "additionalProperties": False, "properties": {}}
        return self.payload_adapter.json_schema()

    def result_schema(self) -> dict[str, Any]:
        """Give the JSON Schema of the result; empty where nothing is declared."""
        return (
            {}
            if self.result_adapter is None
            else self.result_adapter.json_schema(mode="serialization")
        )

    def decode_payload(self, raw: Any) -> Any:
        """Build the typed payload from JSON values.

        Raises:
            pydantic.ValidationError: `raw` does not fit; `.errors()` names each place.
        """
        return None if self.payload_adapter is None else self.payload_adapter.validate_python(raw)

    def encode_result(self, value: Any) -> Any:
        """Turn a result into JSON values, by the declared type where there is one."""
        if self.result_adapter is not None:
            return self.result_adapter.dump_python(value, mode="json")
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json")
        return value

    def arguments(self, payload: Any, context: TaskContext) -> list[Any]:
        """Give the positional arguments of the function."""
        return ([payload] if self.takes_payload else []) + ([context] if self.takes_context else [])

    def submit(self, payload: Any = None, **options: Any) -> Any:
        """Submit a task of this type; its row joins the caller's transaction.

        Args:
            payload: the payload model or its JSON values.
            **options: those of the API's submission body.
        """
        if Handler.submit_port is None:
            raise HandlerDeclarationError("submit() needs django.setup() first")
        return Handler.submit_port(self.type, payload, **options)

    def test_run(self, payload: Any = None, **options: Any) -> Any:
        """Run one attempt in this process, without database or broker; see `tasks_app.testing`."""
        if Handler.test_run_port is None:
            raise HandlerDeclarationError("test_run() needs django.setup() first")
        return Handler.test_run_port(self, payload, **options)


@dataclass(frozen=True, slots=True)
class _Signature:
    payload: TypeAdapter[Any] | None
    takes_context: bool
    result: TypeAdapter[Any] | None

    @classmethod
    def of(cls, task_type: str, function: Callable[..., Any]) -> _Signature:
        hints = _hints(task_type, function)
        names = list(inspect.signature(function).parameters)
        takes_context = bool(names) and _is_context(names[-1], hints)
        payload_names = names[:-1] if takes_context else names
        if len(payload_names) > 1:
            raise HandlerDeclarationError(
                f"handler {task_type}: write `def f(payload: Model, ctx: TaskContext)`; "
                f"{', '.join(payload_names)} are too many parameters, put them into one model"
            )
        payload = None
        if payload_names:
            payload = _adapter(
                task_type, payload_names[0], hints.get(payload_names[0], dict[str, Any])
            )
        returns = hints.get("return")
        result = (
            None if returns in (None, type(None), Any) else _adapter(task_type, "return", returns)
        )
        return cls(payload, takes_context, result)


def _hints(task_type: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise HandlerDeclarationError(
            f"handler {task_type}: the annotation {error.name!r} cannot be found; "
            "import it at module level"
        ) from error


def _is_context(name: str, hints: Mapping[str, Any]) -> bool:
    return hints.get(name) is TaskContext or (name not in hints and name in {"ctx", "context"})


def _adapter(task_type: str, name: str, hint: Any) -> TypeAdapter[Any]:
    try:
        adapter = TypeAdapter(hint)
        adapter.json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise HandlerDeclarationError(
            f"handler {task_type}: {name} is of type {hint!r}, which cannot travel as JSON; "
            "use a pydantic model"
        ) from error
    return adapter


_handlers: dict[str, Handler] = {}
_state: dict[str, bool] = {"is_discovered": False}


def handler(
    task_type: str,
    *,
    queue: str = "default",
    priority: int | None = None,
    max_retry: int | None = None,
    retry: Retry | None = None,
    timeout: int | None = None,
    queue_timeout: int | None = None,
    concurrency: int | None = None,
    rate: str | None = None,
    bundle: int | None = None,
    **unknown: Any,
) -> Callable[[Callable[..., Any]], Handler]:
    """Declare a task type.

    Args:
        task_type: stable public name, lower-case words joined by dots, at most 100 characters
            (`orders.process`).
        queue: lower-case name of the queue.
        priority: -1000 to 1000; larger is sooner.
        max_retry: further attempts after the first, 0 to 1000.
        retry: when a failed attempt is repeated.
        timeout: process timeout in whole seconds, 1 to 604,800.
        queue_timeout: seconds a task may wait for its first start, 1 to 604,800.
        concurrency: most tasks of the type handed out or running at a time, 1 to 1,000,000.
        rate: most tasks of the type handed out in any such time: `10/min`, `1000/s`, `100/15min`.
        bundle: most tasks of the type that a worker process takes at a time, 1 to 250; by default
            as many as it runs in about 40 ms. 1 where what is done twice after a crash matters
            more than speed.

    Concurrency and rate hold for all tenants and workers together, and can be changed live. What is
    left out (None) is the queue's default, else the platform's: priority 0, smart retries.

    Raises:
        HandlerDeclarationError: the declaration is wrong; the message says how to mend it.
    """
    _check_words(task_type, unknown)
    options = Options(
        queue=queue,
        priority=priority,
        max_retry=max_retry,
        retry=retry,
        process_timeout_seconds=timeout,
        queue_timeout_seconds=queue_timeout,
        concurrency=concurrency,
        rate=_read_rate(task_type, rate),
        bundle=bundle,
    )
    return partial(_declare, task_type, _checked(task_type, options))


def _declare(task_type: str, options: Options, function: Callable[..., Any]) -> Handler:
    declared = Handler(task_type, function, options)
    register(declared)
    return declared


_OPTIONS: Final = tuple(
    name
    for name, one in inspect.signature(handler).parameters.items()
    if one.kind is inspect.Parameter.KEYWORD_ONLY
)


def _check_words(task_type: str, unknown: Iterable[str]) -> None:
    if names := ", ".join(sorted(unknown)):
        raise HandlerDeclarationError(
            f"handler {task_type}: unknown option {names}; there are {', '.join(_OPTIONS)}"
        )
    if len(task_type) > MAX_TYPE_LENGTH or not TYPE_PATTERN.match(task_type):
        raise HandlerDeclarationError(
            f"handler {task_type!r}: a type is lower-case words joined by dots, "
            "at most 100 characters, as orders.process"
        )


def _read_rate(task_type: str, rate: str | None) -> Rate | None:
    try:
        return None if rate is None else parse_rate(str(rate))
    except ValueError as error:
        raise HandlerDeclarationError(f"handler {task_type}: rate: {error}") from error


def _checked(task_type: str, options: Options) -> Options:
    bounds: tuple[tuple[str, int | None, int, int], ...] = (
        ("priority", options.priority, -1000, 1000),
        ("max_retry", options.max_retry, 0, 1000),
        ("timeout", options.process_timeout_seconds, 1, MAX_TIMEOUT_SECONDS),
        ("queue_timeout", options.queue_timeout_seconds, 1, MAX_TIMEOUT_SECONDS),
        ("concurrency", options.concurrency, 1, MAX_CONCURRENCY),
        ("bundle", options.bundle, 1, MAX_BUNDLE),
    )
    for name, value, least, most in bounds:
        if value is not None and (type(value) is not int or not least <= value <= most):
            raise HandlerDeclarationError(
                f"handler {task_type}: {name} must be a whole number, {least} to {most}, "
                f"not {value!r}"
            )
    if options.retry is not None and not isinstance(options.retry, Retry):
        raise HandlerDeclarationError(
            f"handler {task_type}: retry is a policy such as Retry.fixed(30), not "
            f"{options.retry!r}; how often is max_retry"
        )
    if not isinstance(options.queue, str) or not QUEUE_PATTERN.match(options.queue):
        raise HandlerDeclarationError(
            f"handler {task_type}: {options.queue!r} is no queue name (a-z, 0-9, . _ -)"
        )
    return options


def register(declared: Handler) -> None:
    """Add a handler; the same function may be imported twice, another one under its type may not.

    Raises:
        HandlerDeclarationError: the type is taken.
    """
    known = _handlers.get(declared.type)
    if known is not None and known.function.__qualname__ != declared.function.__qualname__:
        raise HandlerDeclarationError(
            f"handler {declared.type} is declared in {known.__module__} "
            f"and again in {declared.__module__}"
        )
    _handlers[declared.type] = declared


def discover() -> None:
    """Import the `handlers` and `tasks` of every installed app and `TASKMILL_HANDLER_MODULES`,
    once.

    Modules named `tasks` are where the tasks of Django and of Celery are by convention.
    """
    if _state["is_discovered"]:
        return
    for config in apps.get_app_configs():
        for name in (f"{config.name}.handlers", f"{config.name}.tasks"):
            if importlib.util.find_spec(name) is not None:
                importlib.import_module(name)
    for name in conf().handler_modules:
        importlib.import_module(name)
    _state["is_discovered"] = True


def get_handler(task_type: str) -> Handler:
    """Give the handler of a type.

    Raises:
        UnknownTaskType: none is registered.
    """
    try:
        return _handlers[task_type]
    except KeyError:
        raise UnknownTaskType(
            f"no handler is registered for the task type {task_type[:100]!r}", type=task_type
        ) from None


def all_handlers() -> Iterator[Handler]:
    """Give every handler in the order of type."""
    yield from (_handlers[name] for name in sorted(_handlers))


def known_queues() -> tuple[str, ...]:
    """Give the queues that workers serve by default: those of the handlers and of the settings."""
    return tuple(
        sorted({declared.options.queue for declared in all_handlers()} | set(conf().queues))
    )
