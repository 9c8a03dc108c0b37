"""Which interpreter end-to-end apps run in.

This one, or (``E2E_PYTHON``) that of an environment with another CrewAI.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from importlib.util import find_spec

__all__ = ["APPS_PYTHON", "has"]

APPS_PYTHON = os.environ.get("E2E_PYTHON", sys.executable)


@functools.cache
def has(module: str) -> bool:
    """Whether the apps' interpreter can import `module` (looked up, not imported)."""
    parent, _, _ = module.rpartition(".")
    if sys.executable == APPS_PYTHON:
        return bool(parent == "" or find_spec(parent)) and find_spec(module) is not None
    probe = (
        "import importlib.util as u, sys; sys.exit(not "
        f"({f'u.find_spec({parent!r}) and' if parent else ''} u.find_spec({module!r})))"
    )
    return (
        subprocess.run([APPS_PYTHON, "-c", probe], capture_output=True, check=False).returncode == 0
    )
