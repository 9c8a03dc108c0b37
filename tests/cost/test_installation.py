"""Hints name an install command that works for the way crewmeter was installed."""

from __future__ import annotations

import json
import re

import pytest
from support.paths import ROOT

from crewmeter_cost.installation import install_command, upgrade_command


class Installed:
    """A distribution as `importlib.metadata` gives it, with what an installer recorded."""

    requires = ("rich>=13.9", "starlette<2,>=0.46; extra == 'sidecar'", "mypy; extra == 'dev'")

    def __init__(self, url: str | None) -> None:
        self.record = None if url is None else json.dumps({"url": url})

    def read_text(self, name: str) -> str | None:
        return self.record if name == "direct_url.json" else None


def test_a_package_of_an_index_is_named():
    """Nothing recorded: pip found it on an index, and will again."""
    source = {"distribution": lambda: Installed(None)}
    assert install_command("sidecar", **source) == "pip install 'crewmeter[sidecar]'"
    assert upgrade_command(**source) == "pip install --upgrade crewmeter"


def test_a_wheel_that_is_still_there_is_installed_from(tmp_path):
    """The wheel file itself takes the extra."""
    wheel = tmp_path / "crewmeter-0.1.0-py3-none-any.whl"
    wheel.touch()
    source = {"distribution": lambda: Installed(wheel.as_uri())}
    assert install_command("sidecar", **source) == f"pip install '{wheel}[sidecar]'"
    assert "newer wheel" in upgrade_command(**source)


def test_of_a_wheel_that_is_gone_the_packages_are_named(tmp_path):
    """What the extra would bring is all that is missing."""
    source = {"distribution": lambda: Installed((tmp_path / "gone.whl").as_uri())}
    assert install_command("sidecar", **source) == "pip install 'starlette<2,>=0.46'"


def test_a_checkout_is_installed_from(tmp_path):
    """A folder stays editable, and is renewed by git."""
    source = {"distribution": lambda: Installed(tmp_path.as_uri())}
    assert install_command("sidecar", **source) == f"pip install -e '{tmp_path}[sidecar]'"
    assert upgrade_command(**source) == f"git -C '{tmp_path}' pull"


@pytest.mark.parametrize("folder", ["tracer", "cost", "dashboards"])
def test_no_hint_writes_the_command_itself(folder):
    """One function knows how crewmeter is installed."""
    for path in (ROOT / folder).rglob("*.py"):
        if path.name != "installation.py":
            text = path.read_text("utf-8")
            written = re.search(r"pip install (-U |--upgrade )?['\"]?crewmeter", text)
            assert written is None, path
