"""Retention that runs by itself.

`CREWMETER_KEEP` says how long detail stays in the ledger, `CREWMETER_KEEP_CONTENT` how long
captured content does.
"""

from __future__ import annotations

import logging
import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.content.content_store import ContentStore
from crewmeter_cost.ledger.maintenance.prune import BATCH, prune_content, prune_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crewmeter_cost.ledger.maintenance.prune import Pruned
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["KEEP", "Retention"]

_log = logging.getLogger("crewmeter")

KEEP = "CREWMETER_KEEP"
"""Environment variable: an age such as `90d`, `12w` or `6 months`. Unset: for ever."""

_SHORTEST = timedelta(days=1)
_EVERY_SECONDS = 6 * 3600.0
_AGAIN_SECONDS = 30.0
"""When there is more to delete than one turn may take, or the ledger refused."""


class Retention:
    """Prunes one ledger now and then, a bounded number of rows at a time.

    Raises `CrewMeterError` for a setting that is no age, or is under a day.
    """

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        *,
        most_batches: int = 5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._environ = environ
        self._keep = environ.get(KEEP)
        self._content: ContentStore | None = None
        self._most_batches = most_batches
        self._clock = clock
        self._next = float("-inf")
        self._cutoff()

    def _cutoff(self) -> datetime | None:
        if not self._keep:
            return None
        # Imported here: most apps have no such setting.
        from crewmeter_cost.time_range import instant

        now = datetime.fromtimestamp(self._clock(), UTC)
        before = instant(self._keep, option=KEEP, now=now)
        if now - before < _SHORTEST:
            raise CrewMeterError(
                f"{KEEP} {self._keep!r} is under a day", hint="use an age such as 90d"
            )
        return before

    def run(self, ledger: Ledger) -> Pruned | None:
        """Delete what is too old, if it is time to.

        Returns how much detail went, None where it was not looked for. Raises `CrewMeterError`
        where the ledger cannot be written. A fault in the content beside it is logged.
        """
        pruned = self._prune(ledger)
        if self._content is None:
            self._content = ContentStore(ledger.url, environ=self._environ)
        try:
            if pruned is not None:
                prune_content(ledger, pruned.before)
            self._content.expire()
        except CrewMeterError as error:
            _log.warning("%s; old content is not deleted", error)
        return pruned

    def _prune(self, ledger: Ledger) -> Pruned | None:
        now = time.monotonic()
        if not self._keep or now < self._next:
            return None
        self._next = now + _AGAIN_SECONDS  # also where the ledger refuses
        before = self._cutoff()
        if before is None:
            return None
        pruned = prune_rows(ledger, before, most_batches=self._most_batches)
        if pruned.calls + pruned.steps + pruned.runs < self._most_batches * BATCH:
            self._next = now + _EVERY_SECONDS
        return pruned
