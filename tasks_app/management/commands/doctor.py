"""`manage.py doctor`: check every part and print the fix for each fault."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from tasks_app.management.diagnosis import Finding, diagnose


class Command(BaseCommand):
    """Prints a line per check; leaves with 1 where there is something to mend."""

    help = "Check every part of the installation; exit code 0, or 1 with the fix for each fault."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--json", action="store_true", help="A JSON list instead of lines.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check and print."""
        found = diagnose()
        write = self._write_json if options["json"] else self._write_lines
        write(found)
        if not all(finding.is_ok for finding in found):
            sys.exit(1)

    def _write_json(self, found: list[Finding]) -> None:
        rows = [
            {"check": one.check, "ok": one.is_ok, "detail": one.detail, "fix": one.fix}
            for one in found
        ]
        self.stdout.write(json.dumps(rows, indent=2))

    def _write_lines(self, found: list[Finding]) -> None:
        width = max(len(one.check) for one in found)
        for one in found:
            self.stdout.write(
                f"{'ok   ' if one.is_ok else 'FAULT'} {one.check:<{width}} {one.detail}"
            )
            if one.fix:
                self.stdout.write(f"      fix: {one.fix}")
        faults = sum(not one.is_ok for one in found)
        self.stdout.write(
            f"{faults} of {len(found)} checks found a fault" if faults else "All well"
        )
