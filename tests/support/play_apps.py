"""The end-to-end apps played once, in one process under one meter, and what they leave behind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.app import Ran, run_app
from support.apps_python import APPS_PYTHON
from support.invoice import Played, window
from support.paths import APPS

if TYPE_CHECKING:
    from crewmeter_cost.demo.fake_provider import BilledExchange, FakeProvider

__all__ = ["APPS", "Stage", "perform"]


@dataclass(frozen=True)
class Stage:
    """What is left when the curtain falls.

    The process, the server's books, the ledger's rows, per app.
    """

    ran: Ran
    fake_provider: FakeProvider
    played: dict[str, Played]
    rows: list[dict[str, object]]
    steps: list[dict[str, object]]

    def of(self, app: str) -> tuple[list[BilledExchange], list[dict[str, object]]]:
        """(billed exchanges, ledger rows) of one app."""
        return window(self.fake_provider, self.rows, self.played[app])

    def steps_of(self, app: str) -> list[dict[str, object]]:
        """The steps one app left in the ledger."""
        played = self.played[app]
        return [
            step
            for step in self.steps
            if played.began_ns <= int(str(step["started_ns"])) <= played.ended_ns
        ]


def perform(apps: list[str], folder: Path, fake_provider: FakeProvider, **options: object) -> Stage:
    """Play `apps` in one process against `fake_provider`, with a ledger in `folder`."""
    ran = run_app(
        APPS / "play.py",
        *apps,
        ledger=folder / "ledger.db",
        provider_url=fake_provider.url,
        timeout=1200,
        **{"python": APPS_PYTHON, **options},
    )
    played = [
        Played(**json.loads(line[3:])) for line in ran.stdout.splitlines() if line.startswith("@@ ")
    ]
    return Stage(ran, fake_provider, {one.app: one for one in played}, ran.calls, ran.steps)
