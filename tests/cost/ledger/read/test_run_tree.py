"""A run as a tree: its sums are the run's, however much of it is displayed."""

from __future__ import annotations

from support.ledger_build import UNPRICED, call, frozen, priced, root

from crewmeter_cost.ledger.read.run_tree import run_tree
from crewmeter_cost.ledger.read.runs import find_run
from crewmeter_cost.ledger.store import Ledger

SUMS = (
    "calls",
    "failed_calls",
    "unpriced_calls",
    "priced_calls",
    "inexact_calls",
    "input_tokens",
    "output_tokens",
    "cost",
)


def test_a_tree_in_part_has_the_sums_of_the_whole(either: Ledger):
    """Exact, estimated, bounded, unpriced and failed calls: each is counted, left out or not."""
    charges = [
        priced(),
        priced(status="estimated"),
        priced(status="lower_bound"),
        UNPRICED,
        priced(status="upper_bound"),
        priced(),
    ]
    spans = [(call(number, error=number == 5), charge) for number, charge in enumerate(charges, 1)]
    either.write(spans, [root()], frozen)
    run = find_run(either, "last")
    whole = run_tree(either, run)
    assert (whole.truncated, whole.root.calls, whole.root.inexact_calls) == (False, 6, 3)
    for limit in range(1, 6):
        part = run_tree(either, run, limit=limit)
        assert part.truncated
        assert [getattr(part.root, name) for name in SUMS] == [
            getattr(whole.root, name) for name in SUMS
        ]
