"""Warnings name crewmeter once, whatever logging an app has set up."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

import pytest
from support.paths import ROOT

from crewmeter.last_resort import _LastResort

APP = """
import logging, os
{setup}
import crewmeter
os.environ["CREWMETER_LOG"] = "loud"
crewmeter.instrument(summary=False).uninstrument()
"""
MESSAGE = "CREWMETER_LOG='loud' is ignored: choose one of "


def lines_of(setup: str, folder) -> list[str]:
    """Return the lines of stderr that say what is wrong with the variable."""
    done = subprocess.run(
        [sys.executable, "-c", APP.format(setup=setup)],
        env={"HOME": str(folder), "CREWMETER_LEDGER": str(folder / "ledger.db")},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return [line for line in done.stderr.splitlines() if MESSAGE in line]


@pytest.mark.parametrize(
    ("setup", "start"),
    [
        ("", "crewmeter: " + MESSAGE),
        ("logging.basicConfig()", "WARNING:crewmeter:" + MESSAGE),
        ("logging.getLogger('crewmeter').addHandler(logging.StreamHandler())", MESSAGE),
        ("logging.getLogger('crewmeter').addHandler(logging.NullHandler())", None),
    ],
)
def test_a_warning_is_printed_once_with_one_name(tmp_path, setup, start):
    """Without logging with our name in front, else as the app's handlers print it."""
    lines = lines_of(setup, tmp_path)
    assert len(lines) == (start is not None)
    assert all(line.startswith(start) for line in lines)


def test_no_message_begins_with_the_name_of_its_logger():
    """`WARNING:crewmeter:crewmeter: …` says it twice."""
    doubled = re.compile(
        r"""log(?:ger)?\.(?:debug|info|warning|error|exception|log)\(\s*f?["']crewmeter: """
    )
    for folder in ("tracer", "cost"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not doubled.search(path.read_text("utf-8")), path


def test_a_malformed_log_call_does_not_reach_the_app(capsys, monkeypatch):
    """Logging prints its own report of it, as with any other handler."""
    monkeypatch.setattr(logging.getLogger("crewmeter"), "propagate", False)
    handler = _LastResort(logging.WARNING)
    monkeypatch.setattr(logging.getLogger("crewmeter"), "handlers", [handler])
    logging.getLogger("crewmeter").warning("%d spans", "x")
    assert "Logging error" in capsys.readouterr().err
