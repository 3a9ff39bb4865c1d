"""What an adopted Celery task does otherwise: how it is called, and where its reports go.

The class stands behind all of a task's own classes and before Celery's, so that what a project has
overridden (`apply_async` of its base class, say) still runs, and ends here.
"""

from __future__ import annotations

import contextvars
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from celery import Task, states
from typing_extensions import override

from tasks_app.adoption.calls import submission_options
from tasks_app.adoption.signatures import AdoptedSignature, refuse_canvas
from tasks_app.arguments import as_json
from tasks_app.context import TaskContext
from tasks_app.errors import NotAdoptable
from tasks_app.services.handles import submit

if TYPE_CHECKING:
    from collections.abc import Callable

ACTOR: Final = "celery"
_OF_RETRIES: Final = frozenset({"countdown", "eta", "retries", "ignore_result"})


@dataclass(slots=True)
class Call:
    """The attempt that an adopted task runs in.

    Attributes:
        percent: last reported.
        is_again: whether the function asked for a retry.
        when: seconds or the instant of it, or None.
    """

    context: TaskContext
    percent: float = 0.0
    is_again: bool = False
    when: Any = None


current_call: Final[contextvars.ContextVar[Call | None]] = contextvars.ContextVar(
    "taskmill_celery_call", default=None
)


class AdoptedTask(Task[Any, Any]):
    """See the module."""

    abstract = True
    taskmill_type: ClassVar[str]
    if TYPE_CHECKING:  # what Celery's stubs leave out
        __header__: Callable[..., None]
        _dump_pydantic_arguments: Callable[..., tuple[Any, Any]] | None

    @override
    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Any,
    ) -> Any:
        """Submit a task; its row joins the caller's transaction.

        Raises:
            NotAdoptable: an option that a submission cannot carry.
            TypeError: arguments that do not fit the function, or that JSON cannot carry.
            tasks_app.public.RequestError: quotas and bounds, as for every submission.
        """
        options |= {"task_id": task_id, "link": link, "link_error": link_error}
        if self.app.conf.task_always_eager:
            return super().apply_async(args, kwargs, producer=producer, shadow=shadow, **options)
        if self.typing:
            self.__header__(*(args or ()), **(kwargs or {}))
        if (dump := self._dump_pydantic_arguments) is not None:
            args, kwargs = dump(args or (), kwargs or {})
        options.setdefault("expires", self.expires)
        handle = submit(
            self.taskmill_type,
            {"args": as_json(args or [], "args"), "kwargs": as_json(kwargs or {}, "kwargs")},
            actor=ACTOR,
            **submission_options(self.name, options, self.app.timezone),
        )
        result = self.AsyncResult(str(handle.id))
        result.ignored = bool(options.get("ignore_result", self.ignore_result))
        return result

    def signature(self, args: Any = None, *starargs: Any, **starkwargs: Any) -> Any:
        """Give a signature that can be called, but not be put into canvas."""
        starkwargs.setdefault("app", self.app)
        return AdoptedSignature(self, args, *starargs, **starkwargs)

    subtask = signature

    def signature_from_request(self, request: Any = None, *rest: Any, **options: Any) -> Any:
        """Give what `self.retry` calls: a note for the end of the attempt."""
        request = self.request if request is None else request
        call = current_call.get()
        if request.is_eager or call is None:
            return super().signature_from_request(request, *rest, **options)
        args, kwargs = (*rest, None, None)[:2]
        self._check_retry(request, args, kwargs, options)
        return _Again(call, request, options.get("eta") or options.get("countdown"))

    def _check_retry(self, request: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> None:
        is_same = (args is None or list(args) == list(request.args)) and (
            kwargs is None or kwargs == request.kwargs
        )
        if not is_same:
            raise NotAdoptable(
                f"{self.name} is a tracked task and is retried with its own arguments: keep what "
                "changes elsewhere, or submit another task and return"
            )
        given = {key for key, value in options.items() if value is not None}
        for name in sorted(given - _OF_RETRIES):
            raise NotAdoptable(f"{self.name} is a tracked task: its retry takes no {name}")

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **kwargs: Any
    ) -> None:
        """Report progress; `AsyncResult.state` and `.info` answer with both while it runs.

        Raises:
            NotAdoptable: a state that ends a task: return, or raise.
            TypeError: JSON cannot carry the meta.
        """
        call = current_call.get()
        own_id = None if call is None else str(call.context.task_id)
        if call is None or not own_id == self.request.id == (task_id or self.request.id):
            super().update_state(task_id, state, meta, **kwargs)
            return
        if state in states.READY_STATES or state == states.RETRY:
            raise NotAdoptable(
                f"{self.name} is a tracked task, which ends by returning or raising, not by "
                f"update_state({state!r})"
            )
        told = as_json(meta, "meta")
        numbers = told if isinstance(told, dict) else {}
        current, total = (_number(numbers.get(name)) for name in ("current", "total"))
        if current is not None and total:
            call.percent = 100.0 * current / total
        call.context.progress(
            call.percent,
            str(numbers.get("message") or numbers.get("status") or ""),
            current=current,
            total=total,
            meta={"state": state, "info": told},
        )

    @override
    def chunks(self, *_: Any) -> NoReturn:
        """Refuse."""
        refuse_canvas(self.name, "cut into chunks")

    @override
    def map(self, *_: Any) -> NoReturn:
        """Refuse."""
        refuse_canvas(self.name, "mapped over a list")

    @override
    def starmap(self, *_: Any) -> NoReturn:
        """Refuse."""
        refuse_canvas(self.name, "mapped over a list")

    @override
    def replace(self, *_: Any) -> NoReturn:
        """Refuse."""
        refuse_canvas(self.name, "replaced while it runs")

    @override
    def add_to_chord(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        refuse_canvas(self.name, "added to a chord")


class _Again:
    """A retry that is asked for, in the place of Celery's signature of the next message."""

    def __init__(self, call: Call, request: Any, when: Any) -> None:
        self._call = call
        self._when = when
        self.args = request.args
        self.kwargs = request.kwargs

    def apply_async(self) -> None:
        """Note it; the attempt's end carries it out."""
        self._call.is_again, self._call.when = True, self._when


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else None
