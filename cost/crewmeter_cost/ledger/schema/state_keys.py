"""The names of rows in `ledger_state`: what a ledger remembers about itself."""

from __future__ import annotations

__all__ = ["PRUNED_BEFORE", "RENAMED"]

PRUNED_BEFORE = "pruned_before"
"""Detail from before this moment (unix nanoseconds) was pruned."""
RENAMED = "renamed"
"""Counts how often stored names were changed or removed, so that writers look them up again."""
