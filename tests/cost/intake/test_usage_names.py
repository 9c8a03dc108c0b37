"""Every usage name of the instrumentors' packages is read, or ignored for a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from crewmeter_cost.intake.instrumentors.usage_names import (
    ATTRIBUTES,
    DETAILS,
    IGNORED,
    LANGFUSE,
    MLFLOW,
    Buckets,
)

# Written by `scripts/harvest_usage_names.py`: a name, a tab, the packages that have it.
HARVEST = Path(__file__).with_name("usage_names.txt").read_text().splitlines()
NAMES = [line.partition("\t")[0] for line in HARVEST]


@pytest.mark.parametrize("name", NAMES)
def test_a_published_name_is_read_or_ignored_for_a_reason(name):
    """A name that no table has would make every charge of that instrumentor a lower bound."""
    assert name in ATTRIBUTES or name in DETAILS or IGNORED.get(name)


def test_a_name_is_in_one_table_only():
    """What is read is not ignored as well."""
    assert not ATTRIBUTES.keys() & IGNORED.keys()
    assert not ATTRIBUTES.keys() & DETAILS.keys()


def test_every_bucket_exists():
    """A name points to a field of the buckets."""
    tables = (ATTRIBUTES, LANGFUSE, MLFLOW, *DETAILS.values())
    named = {bucket for table in tables for bucket in table.values()}
    assert named <= set(Buckets.__slots__)
