"""The rules that keep the source readable, counted by `scripts/house.py`."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.paths import ROOT


@pytest.mark.slow
def test_the_source_keeps_to_the_house_rules():
    """No figure is over its limit."""
    command = [sys.executable, str(ROOT / "scripts/house.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_broken_rule_is_found():
    """Broad excepts and crowded statements are counted in source written to break the rules."""
    probe = """
import ast, sys
sys.path.insert(0, sys.argv[1])
import house, house_excepts
source = "def f():\\n    try:\\n        pass\\n    except Exception:\\n        pass\\n"
tree = ast.parse(source)
assert list(house_excepts.broad_excepts("m", tree)) == [("m.f", 4)]
again = ast.parse(source.replace("        pass\\n", "        raise\\n"))
assert list(house_excepts.broad_excepts("m", again)) == []
dense = "def g(a, b, c):\\n    return (a if a else b) + (b if c else a)\\n"
module = house.Module("m", "m", house.ROOT / "m.py", dense, ast.parse(dense))
crowded = house.conditional_expressions([module])[1]
assert crowded.value == 1 and not crowded.passes
"""
    command = [sys.executable, "-c", probe, str(ROOT / "scripts")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
