"""`show --content`, which prints what a step captured."""

from __future__ import annotations

import json

from support.ledger_build import frozen, root
from typer.testing import CliRunner

from crewmeter_cost.cli import build
from crewmeter_cost.ledger.content.content_store import ContentStore
from crewmeter_cost.records import CapturedContent


def test_arguments_that_are_an_object_are_printed_as_json(ledger, ledger_path):
    """As on the page, so that they can be copied; a control character in them stays escaped."""
    call = {"type": "tool_call", "name": "search", "arguments": {"q": "\x1b[31mred", "all": True}}
    answer = {"type": "tool_call_response", "response": ["é"]}
    text = json.dumps([{"role": "assistant", "parts": [call, answer]}])
    run = root()
    ledger.write([], [run], frozen)
    row = CapturedContent(run.trace_id, run.span_id, 1, None, "output_messages", text)
    ContentStore(ledger.url).write([row])
    words = ["show", "last", "--content", "--ledger", str(ledger_path)]
    done = CliRunner().invoke(build("show"), words)
    assert done.exit_code == 0, done.output
    assert 'assistant: search({"q": "\\u001b[31mred", "all": true})\n["é"]' in done.output
