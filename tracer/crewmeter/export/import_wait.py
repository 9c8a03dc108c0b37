"""The wait of a short app's exit for an exporter that is still being imported."""

from __future__ import annotations

from time import monotonic, process_time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

__all__ = ["IMPORTING_S", "wait_for_import"]

IMPORTING_S = 10.0
"""How long (s) an exit waits for the imports of all exporters together."""
STALLED_S = 0.5
"""After how long (s) almost without processor time nothing is being imported: it hangs."""
BUSY_S = 0.01
"""Processor time (s) that an import uses at least meanwhile, also on a busy machine."""
POLL_S = 0.02


def wait_for_import(
    thread: threading.Thread, is_needed: Callable[[], bool], until: float | None
) -> None:
    """Wait while ``thread`` imports what ``is_needed``, but not beyond ``until``.

    ``until`` is monotonic time. Imports take half a second of processor time. On a busy machine
    the exit budget of a short app would be over before its first span is sent. What uses no
    processor time hangs instead, as a factory does whose endpoint is dead, and is not waited for.
    """
    checked = monotonic()
    used_s = process_time()
    if until is None:
        until = checked + IMPORTING_S
    while thread.is_alive() and is_needed() and monotonic() < until:
        thread.join(POLL_S)
        if monotonic() - checked < STALLED_S:
            continue
        if process_time() - used_s < BUSY_S:
            return
        checked = monotonic()
        used_s = process_time()
