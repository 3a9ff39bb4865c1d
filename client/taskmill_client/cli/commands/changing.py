"""`taskmill cancel` and `taskmill retry`: named tasks, or all that fit a filter, counted first;
`taskmill rerun`: named tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer

from taskmill_client import Conflict, NotFound, Task
from taskmill_client.calls import UNSET
from taskmill_client.cli import options
from taskmill_client.cli.faults import ExitCode, Refusal, code_of
from taskmill_client.cli.output import agree, complain, say, write, write_json
from taskmill_client.cli.reading import read_filter, read_payload
from taskmill_client.cli.session import client

MOST: Final = 10_000
"""Tasks that one command changes."""

_CANCELLABLE: Final = "pending,processing"
_RETRYABLE: Final = "failed,error,timeout,cancelled"


def cancel(
    ids: options.SomeTaskIds = None,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the task.")] = "",
    is_forced: Annotated[
        bool, typer.Option("--force", help="Kill what runs, without time to clean up.")
    ] = False,
    terms: options.Filter = "",
    is_dry: options.DryRun = False,
    is_agreed: options.Yes = False,
    is_json: options.Json = False,
    is_quiet: options.Quiet = False,
) -> None:
    """Cancel tasks: those that wait at once, those that run by asking them to stop.

    [bold]Examples[/bold]

      taskmill cancel 0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e --reason "wrong month"

      taskmill cancel --filter 'queue:reports since:1h' --dry-run

    A task that is done already is a conflict: 8.
    """
    chosen = _chosen(ids, terms, _CANCELLABLE, verb="cancel", is_dry=is_dry, is_agreed=is_agreed)
    _each(
        chosen,
        lambda one: client().tasks.cancel(one, reason, is_forced),
        is_json=is_json,
        is_quiet=is_quiet,
        is_filtered=bool(terms),
    )


def retry(
    ids: options.SomeTaskIds = None,
    *,
    terms: options.Filter = "",
    is_dry: options.DryRun = False,
    is_agreed: options.Yes = False,
    is_json: options.Json = False,
    is_quiet: options.Quiet = False,
) -> None:
    """Run tasks again that did not succeed: the same tasks, with attempts granted anew.

    [bold]Examples[/bold]

      taskmill retry 0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e

      taskmill retry --filter 'status:failed type:reports.generate since:2h' --dry-run

      taskmill retry --filter 'status:failed queue:reports' --yes

    A filter without a status means failed, error, timeout and cancelled.
    """
    chosen = _chosen(ids, terms, _RETRYABLE, verb="retry", is_dry=is_dry, is_agreed=is_agreed)
    _each(
        chosen,
        client().tasks.retry,
        is_json=is_json,
        is_quiet=is_quiet,
        is_filtered=bool(terms),
    )


def rerun(
    ids: options.TaskIds,
    *,
    pairs: options.Pairs = None,
    file: options.PayloadFile = None,
    is_json: options.Json = False,
    is_quiet: options.Quiet = False,
) -> None:
    """Submit new tasks like these, whatever became of them, and print the new ids.

    [bold]Examples[/bold]

      taskmill rerun 0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e

      taskmill wait $(taskmill rerun 0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e -q)

      taskmill rerun 0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e -p report_id=43

    A payload that is given stands in place of the old one. A task that failed is run again as
    itself by `taskmill retry`.
    """
    payload = read_payload(pairs or [], file) if pairs or file is not None else UNSET
    _each(
        list(dict.fromkeys(ids)),
        lambda one: client().tasks.rerun(one, payload=payload),
        is_json=is_json,
        is_quiet=is_quiet,
        is_filtered=False,
    )


def _chosen(
    ids: Sequence[str] | None,
    terms: str,
    status: str,
    *,
    verb: str,
    is_dry: bool,
    is_agreed: bool,
) -> list[str]:
    """Give the ids that are meant, after the question where there is one.

    Raises:
        Refusal: neither ids nor a filter, or both; nobody agrees.
        Exit: a dry run, or nothing fits.
    """
    if bool(ids) == bool(terms):
        raise Refusal(f"name the tasks to {verb}, or give --filter")
    if ids:
        if is_dry:
            say(f"would {verb} {len(ids)} named tasks")
            raise typer.Exit
        return list(dict.fromkeys(ids))
    wanted = read_filter(terms)
    if "status" not in wanted and "state" not in wanted:
        wanted["status"] = status
    count, shown = _count(wanted)
    described = " ".join(
        f"{name}:{one}"
        for name, value in wanted.items()
        for one in (value if isinstance(value, list) else [value])
    )
    if is_dry or not count:
        say(f"{'would ' + verb if count else 'nothing to ' + verb}: {shown} tasks ({described})")
        raise typer.Exit
    if count > MOST:
        raise Refusal(f"{shown} tasks fit; narrow the filter to {MOST:,}", code=ExitCode.OTHER)
    agree(f"{verb.capitalize()} {shown} tasks ({described})?", is_agreed=is_agreed)
    return [task.id for task in client().tasks.list(**wanted, limit=MOST)]


def _count(wanted: dict[str, Any]) -> tuple[int, str]:
    page = client().request("GET", "/tasks", params={**wanted, "count": "true", "limit": 1})
    count = int(page["count"])
    if page.get("count_is_capped"):
        return MOST + 1, f"more than {count:,}"
    return count, f"{count:,}"


def _each(
    ids: Sequence[str],
    change: Callable[[str], Task],
    *,
    is_json: bool,
    is_quiet: bool,
    is_filtered: bool,
) -> None:
    """Change one after the other; those that cannot be changed do not keep the others from it."""
    refused: list[ExitCode] = []
    for one in ids:
        try:
            task = change(one)
        except (Conflict, NotFound) as error:
            refused.append(code_of(error))
            complain([f"{one}: {error.detail or error.title}"])
            continue
        if is_json:
            write_json(task.raw, indent=None if len(ids) == 1 else False)
        elif is_quiet:
            write(task.id)
        else:
            write(f"{task.id}\t{task.state}")
    if len(ids) > 1 and not is_quiet:
        say(f"{len(ids) - len(refused)} of {len(ids)} done")
    if refused and not is_filtered:
        raise typer.Exit(refused[0])
