"""``crewmeter mirror``: keep a copy of the ledger in ClickHouse."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter_cost.cli.options import LedgerOption
from crewmeter_cost.clickhouse.connect import connected, mirror_url
from crewmeter_cost.clickhouse.sync import copy
from crewmeter_cost.ledger.store import Ledger

if TYPE_CHECKING:
    from crewmeter_cost.clickhouse.sync import CopyResult

__all__ = ["register"]

RECENT_SECONDS = 2 * 86_400
"""How far back most rounds of ``--every`` look …"""
WHOLE_SECONDS = 3600.0
"""… and how often a round looks at everything.

What changes older history (a re-pricing) is there within the hour.
"""


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""

    @app.command("mirror", help=help)
    def command(
        to: Annotated[
            str,
            typer.Option(
                "--to",
                help="clickhouse://user:password@host:8123/database; clickhouses:// for TLS.",
            ),
        ],
        ledger: LedgerOption = None,
        every: Annotated[
            float | None,
            typer.Option(
                "--every",
                min=1,
                help="Go on: copy what changed every so many seconds.",
            ),
        ] = None,
    ) -> None:
        url = mirror_url(to)
        with Ledger.open(ledger, read_only=True) as book, connected(url) as client:
            _say(copy(book, client))
            whole = time.monotonic()
            try:
                while every is not None:
                    time.sleep(every)
                    since: int | None = int(time.time()) - RECENT_SECONDS
                    if time.monotonic() - whole >= WHOLE_SECONDS:
                        since = None
                        whole = time.monotonic()
                    sent = copy(book, client, since=since)
                    if sent.total:
                        _say(sent)
            except KeyboardInterrupt:
                return


def _say(sent: CopyResult) -> None:
    rows = ", ".join(f"{count:,} {name}" for name, count in sent.rows.items() if count)
    removed = sum(sent.removed.values())
    done = f"sent {rows}"
    if not rows:
        done = "sent nothing new" if removed else "nothing to send: ledger and mirror are the same"
    if removed:
        done += f"; removed {removed:,}"
    sys.stdout.write(f"{done}\n")
    sys.stdout.flush()
