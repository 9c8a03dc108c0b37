"""The table of truth: no case is wrong, and the document says what it says."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from truth.arithmetic import amount
from truth.run import DOCUMENT, all_cases, document, outcomes

CASES = all_cases()


@pytest.fixture(scope="module")
def found():
    """Every case, run once."""
    return outcomes(CASES)


@pytest.mark.slow
def test_no_case_is_wrong(found):
    """A figure called exact is the bill, and every billed call is there once."""
    wrong = [f"{each.case['name']}: {each.found}" for each in found if each.verdict == "WRONG"]
    assert wrong == []


@pytest.mark.slow
def test_the_document_is_what_make_truth_writes(found):
    """docs/truth.md is generated: run `make truth` after a change."""
    assert DOCUMENT.read_text("utf-8") == document(found)


def test_the_cases_are_many_and_each_has_its_source():
    """At least 400, of them 100 of dimensions and endpoints that no case had before."""
    assert len(CASES) >= 400
    assert sum(bool(case.get("new")) for case in CASES) >= 100
    names = [case["name"] for case in CASES]
    assert len(set(names)) == len(names)
    for case in CASES:
        assert case["source"]
        assert case["date"]
        assert amount(case["right"]) >= 0
        assert ("spans" in case) != ("call" in case)


def test_the_arithmetic_of_the_cases_is_exact():
    """Sums are decimal, and nothing but a sum is read."""
    assert amount("(600*2.5 + 400*1.25 + 300*10) / 1e6") == Decimal("0.005")
    assert amount("2 * 0.005 - 0.001") == Decimal("0.009")
    with pytest.raises(ValueError, match="no sum"):
        amount("__import__('os')")


def test_a_case_is_one_line_of_its_file():
    """Files stay readable as differences."""
    folder = DOCUMENT.parents[1] / "tests/truth/cases"
    for path in folder.glob("*.json"):
        lines = path.read_text("utf-8").splitlines()
        assert len(lines) == len(json.loads(path.read_text("utf-8"))["cases"]) + 2
