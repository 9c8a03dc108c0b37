"""Sample data written into a ledger through the pipeline that real spans take."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from crewmeter_cost.demo.history.runs_by_day import history
from crewmeter_cost.pipeline import Pipeline
from crewmeter_cost.pricing.price_book import PriceBook

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from crewmeter_cost.ledger.store import Ledger

__all__ = ["Loaded", "load_history"]

_BATCH = 2_000
"""Spans in one transaction."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What loading a history did."""

    spans: int
    new_calls: int
    """Calls the ledger did not have yet: loading the same history twice adds none."""


def load_history(
    ledger: Ledger,
    *,
    days: int,
    seed: int,
    until: datetime,
    calls_per_day: int,
    progress: Callable[[float], None] = lambda done: None,
) -> Loaded:
    """Ingest the sample data of the `days` days before `until`.

    `progress` is called with the share done, 0 to 1.

    Priced with the public book alone: a demo's money must not depend on the user's own rates.
    """
    pipeline = Pipeline(
        ledger,
        PriceBook.load(Path(os.devnull)),
    )
    end_ns = int(until.timestamp() * 1e9)
    length_ns = days * 86_400 * 10**9
    spans = new_calls = 0
    stream = history(days, seed, until, calls_per_day=calls_per_day)
    while batch := list(islice(stream, _BATCH)):
        receipt = pipeline.ingest(batch)
        spans += receipt.spans
        new_calls += receipt.written.inserted_calls
        progress(1 - (end_ns - batch[-1].started_ns) / length_ns)
    progress(1.0)
    return Loaded(spans, new_calls)
