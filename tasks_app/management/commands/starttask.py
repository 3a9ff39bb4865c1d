"""`manage.py starttask reports.render`: a handler and its test to begin with."""

from __future__ import annotations

import keyword
from pathlib import Path
from typing import Any

from django.apps import AppConfig, apps
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tasks_app.errors import UnknownTaskType
from tasks_app.management.scaffolding import function_of, handler_code, test_code, write_new
from tasks_app.registry import MAX_TYPE_LENGTH, TYPE_PATTERN, get_handler


class Command(BaseCommand):
    """Writes `handlers.py` and a test into an app; overwrites nothing."""

    help = "Write a handler and its test into an app: manage.py starttask reports.render"
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the type, and the app where it is not the type's first word."""
        parser.add_argument("type", help="public name of the task type, as reports.render")
        parser.add_argument("--app", default="", help="label of the app; default: the first word")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write the files.

        Raises:
            CommandError: the type or the app is no such thing, or a file is there; it says what to
                do.
        """
        task_type = options["type"]
        _check_type(task_type)
        config = _app_of(options["app"] or task_type.partition(".")[0])
        root = Path(config.path)
        tests = root / "tests" if (root / "tests").is_dir() else root
        handlers, test = root / "handlers.py", tests / f"test_{function_of(task_type)}.py"
        try:
            write_new(
                {handlers: handler_code(task_type), test: test_code(task_type, app=config.name)}
            )
        except FileExistsError as error:
            if error.args[0] == handlers:
                self.stdout.write(handler_code(task_type, has_imports=False))
                raise CommandError(
                    f"{handlers} is there already; nothing was written. Add the lines above to it."
                ) from error
            raise CommandError(f"{test} is there already; nothing was written.") from error
        self.stdout.write(f"{handlers}\n{test}\nTry it: python -m pytest {test}")


def _check_type(task_type: str) -> None:
    function = function_of(task_type)
    is_name = function.isidentifier() and not keyword.iskeyword(function)
    if len(task_type) > MAX_TYPE_LENGTH or not TYPE_PATTERN.match(task_type) or not is_name:
        raise CommandError(
            f"{task_type!r} is no name for a task type: lower-case words joined by dots, the last "
            "one a name for a function, as reports.render"
        )
    try:
        known = get_handler(task_type)
    except UnknownTaskType:
        return
    raise CommandError(f"{task_type} is there already, in {known.__module__}")


def _app_of(label: str) -> AppConfig:
    try:
        return apps.get_app_config(label)
    except LookupError as error:
        raise CommandError(
            f"there is no app {label!r}; add its package to TASKMILL_APPS, or name one by --app"
        ) from error
