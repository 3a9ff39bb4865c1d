"""The admin's pages of schedules, for operators: see docs/how-to/schedule-tasks.md."""

from scheduler.admin.schedules import BeatProcessAdmin, FiringAdmin, ScheduleAdmin

__all__ = ["BeatProcessAdmin", "FiringAdmin", "ScheduleAdmin"]
