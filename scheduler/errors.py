"""What can be wrong with a schedule; joins the tree of `tasks_app.errors`."""

from __future__ import annotations

from tasks_app.errors import ConfigurationError, RequestError, ValidationFailed


class InvalidRule(ValidationFailed):
    """The timing of the schedule is not understood; `errors` says what is wrong with which part."""

    code = "invalid_schedule"

    @classmethod
    def of(cls, part: str, detail: str) -> InvalidRule:
        """Build the error of one part, such as `cron` or `timezone`."""
        return cls(
            detail, errors=[{"pointer": f"/{part}", "code": "invalid_schedule", "detail": detail}]
        )


class ScheduleNotFound(RequestError):
    """There is no such schedule."""

    code = "schedule_not_found"
    http_status = 404


class ScheduleExists(RequestError):
    """A schedule with this key exists already; change that one, or choose another key."""

    code = "schedule_exists"
    http_status = 409


class ScheduleReadOnly(RequestError):
    """The schedule is declared in code; change it there. It can be paused, resumed and run."""

    code = "schedule_read_only"
    http_status = 409


class ScheduleOver(RequestError):
    """The schedule is over: nothing is due any more, or it was removed from the code."""

    code = "schedule_over"
    http_status = 409


class ScheduleDeclarationError(ConfigurationError):
    """A schedule is declared wrongly."""

    code = "schedule_declaration_error"
