"""Finds what is wrong with an installation, and says how to mend it.

`manage.py doctor` is the face. Every check is one small function that answers with a `Finding` and
changes nothing; a check that needs a part which does not answer is left out, since that part is
reported already.
"""

from __future__ import annotations

from tasks_app.management.diagnosis import broker, database, processes, secrets
from tasks_app.management.diagnosis.finding import Finding


def diagnose() -> list[Finding]:
    """Check every part of the installation that the settings name."""
    return [
        *secrets.findings(),
        *database.findings(),
        *broker.findings(),
        *processes.findings(),
    ]


__all__ = ["Finding", "diagnose"]
