"""The map of the house names what is there."""

from __future__ import annotations

import re

import pytest
from support.paths import ROOT

ARCHITECTURE = (ROOT / "docs/architecture.md").read_text("utf-8")
DECISIONS = sorted((ROOT / "docs/decisions").glob("0*.md"))
PACKAGES = ("tracer/crewmeter", "cost/crewmeter_cost", "dashboards/crewmeter_dashboards")


def section(title: str) -> str:
    """Return the text under a heading of the second level."""
    return ARCHITECTURE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_every_file_to_open_exists():
    """Each file that the table names exists, for 20 changes or more."""
    lines = section("I want to change … → open …").splitlines()
    rows = [line for line in lines if "`" in line]
    assert len(rows) >= 20
    for row in rows:
        files = re.findall(r"`([\w./-]+\.\w+)`", row.split("|")[2])
        assert files, row
        for name in files:
            assert (ROOT / name).is_file(), f"{name} is gone: {row}"


def test_every_package_has_a_row_in_the_table_of_homes():
    """A folder that is added or moved is added or moved in the table too."""
    listed = set(re.findall(r"^\| `([^`]+)` \|", section("Homes"), re.MULTILINE))
    found = {
        str(path.parent.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
        if "migrations" not in path.parts
    }
    assert listed == found


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_the_heading_and_its_row_in_the_index(path):
    """Every decision begins `# Decision N: title`; the index repeats number, file and title."""
    number, title = re.match(r"# Decision (\d+): (.+)\n", path.read_text("utf-8")).groups()
    assert int(number) == int(path.name[:4])
    index = (ROOT / "docs/decisions/README.md").read_text("utf-8")
    assert f"| [{number}]({path.name}) | {title} |" in index


def test_modules_named_in_decisions_exist():
    """A decision names a file by where it is today."""
    for path in DECISIONS:
        for name in re.findall(r"`([\w/-]+/[\w/-]+\.(?:py|toml))`", path.read_text("utf-8")):
            roots = (ROOT, ROOT / "cost/crewmeter_cost", ROOT / "tracer/crewmeter")
            assert any((root / name).exists() for root in roots), f"{path.name} names {name}"
