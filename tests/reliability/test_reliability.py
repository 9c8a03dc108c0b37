"""Every promise names tests that exist."""

from __future__ import annotations

import ast
import re

import pytest

from reliability.run import DOCUMENT, KINDS, ROOT, promises


@pytest.mark.parametrize("promise", promises(), ids=lambda promise: promise.text[:40])
def test_a_promise_names_tests_that_exist(promise):
    """A renamed test must not leave a promise without proof."""
    assert promise.kind in KINDS
    for test in promise.tests:
        path, name = test.split("::")
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in names, test


def test_the_document_says_what_is_promised():
    """Each promise has its row with its tests, was tried, and held. A changed promise must be tried
    again: `make reliability` writes the document.
    """
    document = DOCUMENT.read_text("utf-8")
    rows = [line for line in document.splitlines() if line.startswith("| ") and "`" in line]
    assert len(rows) == len(promises())
    tried = dict.fromkeys(KINDS, 0)
    for promise, row in zip(promises(), rows, strict=True):
        tests = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in promise.tests)
        count = re.fullmatch(
            rf"\| {re.escape(promise.text)} \| {promise.kind} \| (\d+) \| 0 \| 0 \| "
            rf"{re.escape(tests)} \|",
            row,
        )
        assert count, f"make reliability: {promise.text}"
        assert int(count[1]) >= len(promise.tests)
        tried[promise.kind] += int(count[1])
    sums = ", ".join(f"{tried[kind]} {words}" for kind, words in KINDS.items())
    assert f"{len(rows)} promises: {sums}." in document
