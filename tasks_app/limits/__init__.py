"""Limits and shares as pure decisions: what a rate allows, which of the ready tasks may go, and who
is given what room there is.

No I/O and no clock: rows and times come in, verdicts go out. Source: docs/adr/0013-limits.md,
docs/adr/0017-fairness.md.
"""

from tasks_app.limits.eligibility import Candidate, Need, decide
from tasks_app.limits.fairness import FairShares, Flow, Ledger, Party, tenants_of
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
    "FairShares",
    "Flow",
    "Ledger",
    "Need",
    "Party",
    "Rate",
    "Rule",
    "Spent",
    "decide",
    "is_ahead",
    "next_token_at",
    "parse_rate",
    "spend",
    "tenants_of",
    "tokens_out",
]
