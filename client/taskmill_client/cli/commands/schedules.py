"""`taskmill schedules` and `taskmill types`."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer

from taskmill_client.cli import options
from taskmill_client.cli.completing import complete_schedules
from taskmill_client.cli.faults import ExitCode, Refusal
from taskmill_client.cli.grouping import Group
from taskmill_client.cli.output import (
    age,
    facts,
    say,
    styled,
    table,
    write,
    write_json,
    write_json_lines,
)
from taskmill_client.cli.reading import nearest
from taskmill_client.cli.session import client

schedules = Group("Show, run, pause and resume schedules (scope schedules:write).")
types = Group("Show what can be submitted.")
Schedule = Annotated[
    str,
    typer.Argument(metavar="SCHEDULE", help="Its id or key.", autocompletion=complete_schedules),
]


@schedules.command("ls")
def list_schedules(*, is_json: options.Json = False) -> None:
    """List schedules with their next instants.

    [bold]Examples[/bold]

      taskmill schedules ls
    """
    found = client().schedules.list()
    if is_json:
        write_json_lines(found)
        return
    rows = (
        (
            one["id"],
            one["key"],
            one["type"],
            styled(one["status"]),
            _rule(one),
            age(one["next_at"]),
            age(one["last_fired_at"]),
        )
        for one in found
    )
    table(("ID", "KEY", "TYPE", "STATUS", "RULE", "NEXT", "LAST"), rows)


def _rule(one: dict[str, Any]) -> str:
    if one.get("cron"):
        return f"{one['cron']} {one['timezone']}"
    if one.get("interval_seconds"):
        return f"every {one['interval_seconds']} s"
    return str(one.get("once_at") or one.get("solar") or "")


def _id_of(schedule: str) -> str:
    """Give the id of a schedule that is named by its id or its key.

    Raises:
        Refusal: there is none of this key.
    """
    try:
        return str(uuid.UUID(schedule))
    except ValueError:
        known = {str(one["key"]): str(one["id"]) for one in client().schedules.list()}
    if schedule not in known:
        raise Refusal(
            f"there is no schedule {schedule!r}",
            hint=nearest(schedule, known) or "`taskmill schedules ls` lists them",
            code=ExitCode.NOT_FOUND,
        )
    return known[schedule]


@schedules.command("run")
def run_schedule(
    schedule: Schedule, *, is_json: options.Json = False, is_quiet: options.Quiet = False
) -> None:
    """Fire a schedule now, and print the id of the task.

    [bold]Examples[/bold]

      taskmill wait $(taskmill schedules run nightly -q)
    """
    found = client().schedules.run(_id_of(schedule))
    if is_json:
        write_json(found)
        return
    write(str(found["task_id"]))
    if not is_quiet:
        say(f"watch it: taskmill wait {found['task_id']}")


@schedules.command("pause")
def pause_schedule(
    schedule: Schedule,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why.")] = "",
    is_json: options.Json = False,
) -> None:
    """Fire a schedule no more.

    [bold]Examples[/bold]

      taskmill schedules pause nightly --reason "until the move is over"
    """
    _done(client().schedules.pause(_id_of(schedule), reason), is_json=is_json)


@schedules.command("resume")
def resume_schedule(schedule: Schedule, *, is_json: options.Json = False) -> None:
    """Fire a schedule again, from its next instant on.

    [bold]Examples[/bold]

      taskmill schedules resume nightly
    """
    _done(client().schedules.resume(_id_of(schedule)), is_json=is_json)


def _done(found: dict[str, Any], *, is_json: bool) -> None:
    if is_json:
        write_json(found)
    else:
        next_at = f"; next: {found['next_at']}" if found.get("next_at") else ""
        say(f"schedule {found['key']} is {found['status']}{next_at}")


@types.command("ls")
def list_types(*, is_json: options.Json = False, is_quiet: options.Quiet = False) -> None:
    """List task types.

    [bold]Examples[/bold]

      taskmill types ls
    """
    found = client().task_types.list()
    if is_json:
        write_json_lines(found)
    elif is_quiet:
        for one in found:
            write(one["type"])
    else:
        rows = (
            (one["type"], one["defaults"]["queue"], one["description"].partition("\n")[0])
            for one in found
        )
        table(("TYPE", "QUEUE", "DESCRIPTION"), rows)


@types.command("show")
def show_type(task_type: options.TaskType, *, is_json: options.Json = False) -> None:
    """Show a task type: its payload, defaults and how its tasks went.

    [bold]Examples[/bold]

      taskmill types show reports.generate
    """
    found = client().task_types.get(task_type)
    if is_json:
        write_json(found)
        return
    facts(_facts(found))
    write("")
    table(("FIELD", "TYPE", "REQUIRED", "DEFAULT", "DESCRIPTION"), _fields(found))


def _facts(found: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    yield "type", found["type"]
    yield "description", found["description"]
    yield from ((name.replace("_", " "), value) for name, value in found["defaults"].items())
    statistics = found.get("statistics") or {}
    if statistics.get("success_rate") is not None:
        yield "success rate", f"{statistics['success_rate']:.1%} of {statistics['sample']}"


def _fields(found: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    schema = found.get("payload_schema") or {}
    for name, one in (schema.get("properties") or {}).items():
        kinds = [str(part.get("type", "")) for part in one.get("anyOf", [])]
        kind = str(one.get("type") or " or ".join(kind for kind in kinds if kind))
        words = one.get("enum")
        yield (
            name,
            ", ".join(map(str, words)) if words else kind,
            "yes" if name in (schema.get("required") or []) else "",
            "" if one.get("default") is None else one["default"],
            one.get("description", ""),
        )
