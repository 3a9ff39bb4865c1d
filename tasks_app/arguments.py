"""Task types whose payload is the arguments of a call: `{"args": [...], "kwargs": {...}}`.

What the bridges to other task systems share (`adoption` for Celery, `django_tasks` for Django): how
such a type is declared, and what of Python's values may travel as JSON. A payload names no
function; which one is called was settled when its type was declared.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from tasks_app.context import TaskContext
from tasks_app.registry import Handler, handler


class CallArguments(BaseModel):
    """The arguments of a call."""

    model_config = ConfigDict(extra="forbid")

    args: list[Any] = []
    kwargs: dict[str, Any] = {}


def as_json(value: Any, at: str) -> Any:
    """Give a value as JSON carries it: tuples become lists, everything else stays what it is.

    Args:
        at: what the error calls the value, such as `args`.

    Raises:
        TypeError: it would come back as something else, or not at all; names the place.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [as_json(item, f"{at}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {_key(key, at): as_json(item, f"{at}[{key!r}]") for key, item in value.items()}
    raise TypeError(
        f"{at} is a {type(value).__name__}, which JSON cannot carry; pass text, numbers, lists "
        "and dictionaries, such as the id of an object"
    )


def _key(key: Any, at: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{at} has the key {key!r}; in JSON every key is text")
    return key


def declare_call(
    task_type: str,
    run: Callable[..., Any],
    *,
    stands_for: Callable[..., Any],
    first: int = 0,
    is_checked: bool = True,
    **options: Any,
) -> Handler:
    """Declare a task type that calls a function with the arguments of its payload.

    Args:
        run: `(CallArguments, TaskContext) -> result`, a coroutine function or a plain one.
        stands_for: what is called in the end; gives name, description and signature, by which
            submissions are checked.
        first: leading parameters that the payload does not give.
        is_checked: whether arguments have to fit the signature.
        **options: those of `handler`.

    Raises:
        HandlerDeclarationError: the type is no type or is taken.
    """
    payload: Any = CallArguments
    if is_checked:
        fits = AfterValidator(_checker(inspect.signature(stands_for), first))
        payload = Annotated[CallArguments, fits]
    run.__annotations__ = {"payload": payload, "ctx": TaskContext}
    run.__module__ = stands_for.__module__
    run.__qualname__ = stands_for.__qualname__
    run.__name__ = stands_for.__name__
    run.__doc__ = inspect.getdoc(stands_for)
    return handler(task_type, **options)(run)


def _checker(signature: inspect.Signature, first: int) -> Callable[[CallArguments], CallArguments]:
    def fits(call: CallArguments) -> CallArguments:
        try:
            signature.bind(*[None] * first, *call.args, **call.kwargs)
        except TypeError as error:
            raise ValueError(str(error)) from error
        return call

    return fits
