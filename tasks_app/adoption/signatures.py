"""Signatures of adopted tasks: they can be kept, completed and called, but not be put into canvas.

Chains, groups and chords give their members ids before these are sent and hand results on in
messages; a task of the platform has its id from its row, and nothing is carried by messages.
"""

from __future__ import annotations

from typing import Any, NoReturn

from celery.canvas import Signature

from tasks_app.errors import NotAdoptable

KIND = "taskmill"
_INSTEAD = (
    "submit the next task at the end of this one (`delay`; it becomes its child), or leave the "
    "task out of TASKMILL_ADOPT"
)


def refuse_canvas(name: str, what: str) -> NoReturn:
    """Refuse what takes Celery's canvas.

    Raises:
        NotAdoptable: always; names what to do instead.
    """
    raise NotAdoptable(f"{name} is a tracked task and cannot be {what}: {_INSTEAD}")


@Signature.register_type(KIND)
class AdoptedSignature(Signature):
    """A signature of an adopted task."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self["subtask_type"] = KIND

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: Any = None) -> AdoptedSignature:
        """Read one that travelled or was cloned."""
        return cls(d, app=app)

    def freeze(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse to become part of a chain, group or chord."""
        refuse_canvas(self["task"], "part of a chain, group or chord")

    def __or__(self, other: Any) -> NoReturn:
        """Refuse `|`."""
        refuse_canvas(self["task"], "part of a chain")

    def link(self, *_: Any) -> NoReturn:
        """Refuse a callback."""
        refuse_canvas(self["task"], "given a callback (link)")

    def link_error(self, *_: Any) -> NoReturn:
        """Refuse a callback."""
        refuse_canvas(self["task"], "given a callback (link_error)")
