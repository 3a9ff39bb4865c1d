"""What authors of handlers and the faces of the scheduler import.

from scheduler.public import schedule
from tasks_app.public import handler

@schedule("0 7 * * MON-FRI", timezone="Europe/Berlin", overlap="skip")
@handler("reports.build")
def build() -> None: ...
"""

from scheduler.decisions import CatchUp, Outcome, Overlap, Spread
from scheduler.declared import Declared, declared_schedules, schedule
from scheduler.errors import (
    InvalidRule,
    ScheduleDeclarationError,
    ScheduleExists,
    ScheduleNotFound,
    ScheduleOver,
    ScheduleReadOnly,
)
from scheduler.operating import pause_schedule, resume_schedule, run_now
from scheduler.selectors import (
    BeatHealth,
    check_beat,
    find_schedule,
    firings_of,
    list_schedules,
    schedules_of,
)
from scheduler.services import (
    Upcoming,
    create_schedule,
    delete_schedule,
    preview_schedule,
    preview_timing,
    update_schedule,
    wanted_of,
)
from scheduler.writing import Policies, Solar, Timing, Wanted

__all__ = [
    "BeatHealth",
    "CatchUp",
    "Declared",
    "InvalidRule",
    "Outcome",
    "Overlap",
    "Policies",
    "ScheduleDeclarationError",
    "ScheduleExists",
    "ScheduleNotFound",
    "ScheduleOver",
    "ScheduleReadOnly",
    "Solar",
    "Spread",
    "Timing",
    "Upcoming",
    "Wanted",
    "check_beat",
    "create_schedule",
    "declared_schedules",
    "delete_schedule",
    "find_schedule",
    "firings_of",
    "list_schedules",
    "pause_schedule",
    "preview_schedule",
    "preview_timing",
    "resume_schedule",
    "run_now",
    "schedule",
    "schedules_of",
    "update_schedule",
    "wanted_of",
]
