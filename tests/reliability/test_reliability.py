"""The document of promises names tests that exist, and says what the data file says."""

from __future__ import annotations

import ast

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


def test_the_document_has_every_promise_and_no_other():
    """docs/reliability.md is generated: run `make reliability` after a change."""
    text = DOCUMENT.read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "promise |" not in line]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [
        promise.text for promise in promises()
    ]
    assert "FAILED" not in text
