"""The names of rows in `ledger_state`: what a ledger remembers about itself."""

from __future__ import annotations

__all__ = ["CALLS_NAMED_APART", "PRUNED_BEFORE", "RENAMED"]

CALLS_NAMED_APART = "calls_named_apart"
"""Set once a call has another user, team or session than its run, which then must be looked at."""
PRUNED_BEFORE = "pruned_before"
"""Detail from before this moment (unix nanoseconds) was pruned."""
RENAMED = "renamed"
"""Counts how often stored names were changed or removed, so that writers look them up again."""
