"""What other apps build endpoints of the API from: the base view and what it says of itself.

`tasks_app.public` is for work with tasks, `tasks_app.platform` for the feed and the engine, this
for addresses below `/api/v1`. A view declares its `scopes` and `operations`, takes `self.caller`,
and raises errors of `tasks_app.errors`; its routes are included in `config/urls.py`.
"""

from tasks_app.api.authentication import WatchAuthentication
from tasks_app.api.bodies import read_body
from tasks_app.api.failures import authenticated
from tasks_app.api.idempotency import Answer, IdempotentPost
from tasks_app.api.operation import Operation, Parameter, Reply
from tasks_app.api.pages import readers_only
from tasks_app.api.pagination import (
    PAGE_PARAMETERS,
    invalid_parameter,
    page_of,
    read_page_request,
    read_text,
)
from tasks_app.api.permissions import check_task_type
from tasks_app.api.problems import problem_body, problem_headers, reads_only
from tasks_app.api.renderers import to_json
from tasks_app.api.tasks import TaskView
from tasks_app.api.views import ApiView
from tasks_app.selectors.shapes import Event, PlatformEvent, Task
from tasks_app.selectors.task_object import API_ROOT
from tasks_app.services.submission import Instant, Strict, SubmissionOptions, Tag, Text, Url

__all__ = [
    "API_ROOT",
    "PAGE_PARAMETERS",
    "Answer",
    "ApiView",
    "Event",
    "IdempotentPost",
    "Instant",
    "Operation",
    "Parameter",
    "PlatformEvent",
    "Reply",
    "Strict",
    "SubmissionOptions",
    "Tag",
    "Task",
    "TaskView",
    "Text",
    "Url",
    "WatchAuthentication",
    "authenticated",
    "check_task_type",
    "invalid_parameter",
    "page_of",
    "problem_body",
    "problem_headers",
    "read_body",
    "read_page_request",
    "read_text",
    "readers_only",
    "reads_only",
    "to_json",
]
