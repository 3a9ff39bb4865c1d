"""Limits as pure decisions: what a rate allows, and which of the ready tasks may go.

No I/O and no clock: rows and the time of the database come in, verdicts go out. Source:
docs/adr/0013-limits.md.
"""

from tasks_app.limits.eligibility import Candidate, Need, decide
from tasks_app.limits.rate import (
    Rate,
    Spent,
    is_ahead,
    next_token_at,
    parse_rate,
    spend,
    tokens_out,
)
from tasks_app.limits.rules import Rule

__all__ = [
    "Candidate",
    "Need",
    "Rate",
    "Rule",
    "Spent",
    "decide",
    "is_ahead",
    "next_token_at",
    "parse_rate",
    "spend",
    "tokens_out",
]
