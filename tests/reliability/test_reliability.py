"""Every promise names tests that exist."""

from __future__ import annotations

import ast

import pytest

from reliability.run import KINDS, ROOT, promises


@pytest.mark.parametrize("promise", promises(), ids=lambda promise: promise.text[:40])
def test_a_promise_names_tests_that_exist(promise):
    """A renamed test must not leave a promise without proof."""
    assert promise.kind in KINDS
    for test in promise.tests:
        path, name = test.split("::")
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in names, test
