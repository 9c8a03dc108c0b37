"""Every native client against a server speaking its protocol, streamed and not."""

from __future__ import annotations

from collections import Counter

import pytest
from support.apps_python import has
from support.invoice import billed_lines, ledger_lines

from crewmeter_cost.demo.fake_provider import FakeProvider

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has("crewai"), reason="crewai is not installed"),
]

KINDS = ("openai", "responses", "anthropic", "gemini", "azure", "bedrock", "litellm")
NEEDS = {
    "anthropic": "anthropic",
    "gemini": "google.genai",
    "azure": "azure.ai.inference",
    "bedrock": "boto3",
    "litellm": "litellm",
}
APPS = [f"providers:{kind}:{mode}" for kind in KINDS for mode in ("plain", "stream")]


def _installed(app: str) -> bool:
    name = NEEDS.get(app.split(":")[1])
    return name is None or has(name)


@pytest.fixture(scope="module")
def stage(tmp_path_factory, perform_apps):
    """Every installed client, played once."""
    with FakeProvider() as fake_provider:
        yield perform_apps(
            [app for app in APPS if _installed(app)],
            tmp_path_factory.mktemp("providers"),
            fake_provider,
        )


@pytest.mark.parametrize("app", APPS)
def test_a_provider_is_charged_exactly_or_flagged(stage, app):
    """Each exchange is a row with the server's own tokens and cost.

    What could not be known exactly says so.
    """
    if app not in stage.played:
        pytest.skip(f"{NEEDS[app.split(':')[1]]} is not installed")
    billed, rows = stage.of(app)
    assert stage.played[app].error is None
    assert billed
    reported, retained = billed_lines(billed), ledger_lines(rows)
    assert retained - reported == Counter()
    ids = {entry.response_id for entry in billed}
    flagged = [
        row for row in rows if row["usage_status"] != "reported" and row["response_id"] in ids
    ]
    assert (reported - retained).total() == len(flagged)
    assert flagged == [] or app in LOST


LOST = {"providers:bedrock:stream"}
"""Clients that hang up before the usage comes.

CrewAI leaves Bedrock's stream once it has its structured answer.
"""
