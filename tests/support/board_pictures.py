"""Take the pictures of the boards in `docs/images`: the local page draws the same panels.

    python -m support.board_pictures    with tests/ on the path, and a Chromium

The ledger is the demo's history, so that nobody's numbers are in a picture.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from support.browser import CHROMIUM, CREWMETER, FLAGS, serving, visit, wait_until_drawn
from support.paths import ROOT

PICTURES = {
    "page-overview": "overview",
    "board-crews": "crews",
    "board-models": "models",
    "board-spend": "spend",
    "board-pipeline": "pipeline",
}
"""Picture → the board on it."""
START, END = "2026-10-27T20:00Z", "2026-11-26T20:00Z"
"""A range that ends in an afternoon, so that today has spend."""
IMAGES = ROOT / "docs/images"


def main() -> None:
    """Write one picture a board."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as home, sync_playwright() as play:
        folder = Path(home)
        ledger = str(folder / "demo.db")
        demo = [CREWMETER, "demo", "--days", "30", "--until", END, "--ledger", ledger]
        subprocess.run(demo, check=True, capture_output=True)
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        with serving(ledger, folder) as address:
            for name, board in PICTURES.items():
                visit(page, address, f"?view={board}&from={START}&to={END}&theme=light")
                wait_until_drawn(page)
                page.evaluate("window.scrollTo(0, 0)")
                page.screenshot(path=str(IMAGES / f"{name}-light.png"))
        browser.close()


if __name__ == "__main__":
    main()
