"""The only writer of a task's state: one guarded statement per verb of
`tasks_app.states.TRANSITIONS`.

Every statement is one filtered UPDATE (or INSERT) whose CTEs write the event row, and the attempt
    row where an attempt
ends, in the same statement. No row back means that somebody else won; callers answer that, they
never force it. All times are the database's (`taskmill_now()`); a worker's statement carries the
    epoch of its claim. Functions take a cursor and
neither begin nor commit. Anchors: reliability protocol 1.2 to 1.8; docs/adr/0003-transitions.md.
"""

from tasks_app.transitions.claiming import Claim, claim
from tasks_app.transitions.deciding import dispatch, dispatch_flows
from tasks_app.transitions.dispatching import (
    DispatchedTask,
    hand_back,
    mark_published,
    promote,
    return_hints,
    sweep,
    take_back,
    undispatch,
)
from tasks_app.transitions.displacing import debounce, displace
from tasks_app.transitions.flows import (
    ABOVE_ALL,
    Level,
    Tour,
    find_level,
    find_long_waiting,
    read_out,
)
from tasks_app.transitions.leases import (
    LeaseAnswer,
    forget_worker,
    note_lost_workers,
    renew_leases,
    report_worker,
)
from tasks_app.transitions.limiting import QueueRoom, read_queue_room
from tasks_app.transitions.operating import cancel_delivered, redrive, request_cancel, revise
from tasks_app.transitions.platform import platform_event
from tasks_app.transitions.purging import clean, prune, purge
from tasks_app.transitions.queueing import know_queues
from tasks_app.transitions.recovering import expire_pending, expire_running, lose, rescue
from tasks_app.transitions.submitting import NewTask, insert_tasks
from tasks_app.transitions.unblocking import START, Unblocked, unblock, unblock_freed
from tasks_app.transitions.working import (
    Success,
    confirm_cancel,
    fail,
    interrupt,
    record_stale,
    retry,
    succeed,
)

__all__ = [
    "ABOVE_ALL",
    "START",
    "Claim",
    "DispatchedTask",
    "LeaseAnswer",
    "Level",
    "NewTask",
    "QueueRoom",
    "Success",
    "Tour",
    "Unblocked",
    "cancel_delivered",
    "claim",
    "clean",
    "confirm_cancel",
    "debounce",
    "dispatch",
    "dispatch_flows",
    "displace",
    "expire_pending",
    "expire_running",
    "fail",
    "find_level",
    "find_long_waiting",
    "forget_worker",
    "hand_back",
    "insert_tasks",
    "interrupt",
    "know_queues",
    "lose",
    "mark_published",
    "note_lost_workers",
    "platform_event",
    "promote",
    "prune",
    "purge",
    "read_out",
    "read_queue_room",
    "record_stale",
    "redrive",
    "renew_leases",
    "report_worker",
    "request_cancel",
    "rescue",
    "retry",
    "return_hints",
    "revise",
    "succeed",
    "sweep",
    "take_back",
    "unblock",
    "unblock_freed",
    "undispatch",
]
