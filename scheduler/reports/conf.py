"""The settings of the reports: `TASKMILL_REPORT_<NAME>`, read through `report_conf()`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from django.conf import settings

from tasks_app.conf import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportsConf:
    """Who gets the daily report, and when a day begins."""

    recipients: tuple[str, ...] = setting(
        (),
        "Addresses that get the daily report at 09:00, comma separated; needs `EMAIL_URL`. None: "
        "nothing is sent.",
    )
    sender: str = setting("Taskmill <taskmill@localhost>", "Whom the daily report comes from.")
    timezone: str = setting(
        "UTC", "Time zone of the system schedules (02:00, 09:00) and of the reported day."
    )
    history_days: float = setting(
        400.0, "Days the numbers of each hour are kept.", least=1, most=36_500
    )

    def faults(self, *, has_mail: bool) -> Iterator[tuple[str, str]]:
        """Give what refuses the start as `(variable, fix)`.

        Args:
            has_mail: whether `EMAIL_URL` is set.
        """
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            yield "TASKMILL_REPORT_TIMEZONE", f"{self.timezone!r} is no IANA time zone"
        for one in self.recipients:
            if one.count("@") != 1 or one.startswith("@") or one.endswith("@") or " " in one:
                yield "TASKMILL_REPORT_RECIPIENTS", f"{one!r} is no address; write ops@example.org"
        if self.recipients and not has_mail:
            yield "EMAIL_URL", "set it for TASKMILL_REPORT_RECIPIENTS: smtp+tls://user:pw@host:587"


def report_conf() -> ReportsConf:
    """Give the settings in force."""
    found: ReportsConf = settings.REPORTS
    return found
