"""The notebook in `examples/` runs from its first cell to its last, and draws its plots."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib.util import find_spec

import pytest
from support.paths import ROOT

from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.ledger.store import Ledger

pytestmark = [
    pytest.mark.skipif(find_spec(name) is None, reason=f"needs the PyPI package {name}")
    for name in ("matplotlib", "pandas")
]

NOTEBOOK = ROOT / "examples/costs.ipynb"
AFTER = """
import matplotlib.pyplot
print("drawn", [len(figure.axes[0].patches or figure.axes[0].collections)
                for figure in map(matplotlib.pyplot.figure, matplotlib.pyplot.get_fignums())])
print("support conversations", len(sessions))
"""


@pytest.mark.slow
def test_the_notebook_runs_and_draws(tmp_path):
    """Each code cell runs in order in one process, on the demo's history of thirty days."""
    path = str(tmp_path / "ledger.db")
    with Ledger.open(path) as ledger:
        load_history(ledger, days=30, seed=3, until=datetime.now(UTC), calls_per_day=60)
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell.get("outputs") for cell in cells)
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", "\n".join([*code, AFTER])],
        env={**os.environ, "CREWMETER_LEDGER": path, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "calls, $" in lines[0]
    assert "every failed run was looked at" in lines
    (drawn,) = [line for line in lines if line.startswith("drawn")]
    bars, points = json.loads(drawn.removeprefix("drawn "))
    assert bars > 30
    assert points > 0
    assert int(lines[-1].rpartition(" ")[2]) > 0
