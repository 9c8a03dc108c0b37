"""What people script against.

Options, keys, types and order of every reading command, key by key.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from decimal import Decimal

import pytest

AMOUNTS = {
    "calls": int,
    "failed_calls": int,
    "unpriced_calls": int,
    "input_tokens": int,
    "cache_read_tokens": int,
    "cache_write_tokens": int,
    "output_tokens": int,
    "reasoning_tokens": int,
    "cost_usd": str,
    "success_rate": float,
    "p50_seconds": float,
    "p95_seconds": float,
}
CALL = [
    "started_at",
    "duration_seconds",
    "run_id",
    "trace_id",
    "span_id",
    "operation",
    "provider",
    "request_model",
    "response_model",
    "crew",
    "flow",
    "task",
    "agent",
    "user",
    "team",
    "session",
    "tags",
    "status",
    "error_type",
    "finish_reason",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "cost_status",
    "price_source",
    "price_version",
]
RUN = [
    "run_id",
    "kind",
    "name",
    "status",
    "started_at",
    "duration_seconds",
    "calls",
    "tool_calls",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "unpriced_calls",
]
GROUPS = [
    "model",
    "provider",
    "crew",
    "agent",
    "task",
    "tool",
    "run",
    "user",
    "team",
    "session",
    "tag:customer",
    "hour",
    "day",
    "month",
]
EXACT = re.compile(r"\d+(\.\d*[1-9])?")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def typed(row: dict, shape: dict[str, type]) -> None:
    """Every value has its type, or is null."""
    for key, kind in shape.items():
        assert row[key] is None or type(row[key]) is kind, (key, row[key])


@pytest.mark.parametrize("by", GROUPS)
def test_a_report_has_the_contracts_keys(command, history, by):
    """Each group gives `since, until, currency, group_by, rows, total`.

    A row has its key, then the twelve amounts, in order.
    """
    said = command("report", "--by", by, "--format", "json", "--ledger", history)
    assert (said.code, said.err) == (0, "")
    made = json.loads(said.out)
    assert list(made) == ["since", "until", "currency", "group_by", "rows", "total"]
    assert (made["since"], made["until"], made["currency"], made["group_by"]) == (
        None,
        None,
        "USD",
        [by],
    )
    assert made["rows"]
    assert list(made["total"]) == list(AMOUNTS)
    for row in made["rows"]:
        assert list(row) == [by, *AMOUNTS]
        typed(row, AMOUNTS)
        assert row["cost_usd"] is None or EXACT.fullmatch(row["cost_usd"])
        assert row["calls"] >= row["failed_calls"]


def test_groups_repeat_and_add_up(command, history):
    """`--by` is repeatable; whatever the groups, exact costs and calls add up to the total."""
    for groups in (["team", "model"], ["day", "crew", "tag:customer"], ["hour"]):
        words = [word for group in groups for word in ("--by", group)]
        made = json.loads(command("report", *words, "--format", "json", "--ledger", history).out)
        assert made["group_by"] == groups
        assert sum(Decimal(row["cost_usd"] or 0) for row in made["rows"]) == Decimal(
            made["total"]["cost_usd"]
        )
        assert sum(row["calls"] for row in made["rows"]) == made["total"]["calls"]


def test_a_report_by_tool_speaks_of_tool_calls(command, history):
    """Grouped by tool, `calls` are tool calls: as many as the runs count."""
    tools = json.loads(
        command("report", "--by", "tool", "--format", "json", "--ledger", history).out
    )
    calls = json.loads(
        command("report", "--by", "model", "--format", "json", "--ledger", history).out
    )
    assert tools["total"]["calls"] != calls["total"]["calls"]
    with sqlite3.connect(history) as ledger:
        assert (
            tools["total"]["calls"]
            == ledger.execute("SELECT count(*) FROM steps WHERE kind = 'tool'").fetchone()[0]
        )
    ledger.close()


def test_an_export_has_the_contracts_keys_in_order(command, history):
    """One object a billed call; exact cost or null with its status.

    Nulls where nothing is known.
    """
    said = command("export", "--ledger", history)
    assert (said.code, said.err) == (0, "")
    calls = [json.loads(line) for line in said.out.splitlines()]
    assert {tuple(call) for call in calls} == {tuple(CALL)}
    total = json.loads(command("report", "--format", "json", "--ledger", history).out)["total"]
    assert len(calls) == total["calls"]
    assert sum(Decimal(call["cost_usd"] or 0) for call in calls) == Decimal(total["cost_usd"])
    for call in calls:
        assert INSTANT.fullmatch(call["started_at"])
        assert type(call["tags"]) is dict
        assert (len(call["trace_id"]), len(call["span_id"])) == (32, 16)
        assert (call["cost_usd"] is None) == (call["price_version"] is None)
        assert call["cost_usd"] is None or EXACT.fullmatch(call["cost_usd"])
    assert {call["cost_status"] for call in calls if call["cost_usd"] is None} <= {
        "unknown_model",
        "usage_missing",
        "invalid_usage",
    }
    rows = list(
        csv.reader(io.StringIO(command("export", "--format", "csv", "--ledger", history).out))
    )
    assert (rows[0], len(rows)) == (CALL, len(calls) + 1)


def test_runs_and_one_run(command, history):
    """`runs` has the contract's keys, newest first.

    `show` knows every one of them by id, start of id, and `last`.
    """
    listed = json.loads(command("runs", "--format", "json", "--ledger", history).out)
    assert {tuple(run) for run in listed} == {tuple(RUN)}
    assert [run["started_at"] for run in listed] == sorted(
        (run["started_at"] for run in listed), reverse=True
    )
    for run in listed:
        assert INSTANT.fullmatch(run["started_at"])
        assert run["cost_usd"] is None or EXACT.fullmatch(run["cost_usd"])
    displayed = [
        command("show", word, "--format", "json", "--ledger", history).out
        for word in ("last", listed[0]["run_id"])
    ]
    assert displayed[0] == displayed[1]
    assert json.loads(displayed[0])["run_id"] == listed[0]["run_id"]


def test_a_window_is_half_open(command, history):
    """`--since` is in, `--until` is out: two halves have what the whole has."""
    at = "2026-11-19T00:00:00Z"
    parts = [
        ("report", "--format", "json", "--ledger", history, *window)
        for window in ((), ("--since", at), ("--until", at))
    ]
    whole, late, early = [json.loads(command(*words).out)["total"] for words in parts]
    assert whole["calls"] == late["calls"] + early["calls"]
    assert late["calls"] > 0 < early["calls"]
    late_run = json.loads(
        command("show", "last", "--until", at, "--format", "json", "--ledger", history).out
    )
    assert late_run["started_at"] < at


READING = [
    ["report"],
    ["report", "--savings"],
    ["runs"],
    ["show", "last"],
    ["export"],
    ["forecast"],
    ["whatif", "--cached", "60"],
    ["statement"],
    ["watch"],
    ["budget", "list"],
    ["budget", "status"],
    ["prices", "show", "gpt-4o"],
    ["prices", "check"],
]


@pytest.mark.parametrize("words", READING, ids=str)
def test_reading_commands_share_their_options(command, history, words):
    """`--ledger`, `--since`, `--until` and `--format` on every one."""
    formats = ["jsonl", "csv"] if words == ["export"] else ["table", "json", "csv"]
    for form in formats:
        window = ["--since", "2026-11-18", "--until", "2026-11-20T11:00Z"]
        said = command(*words, "--ledger", history, *window, "--format", form)
        if words == [
            "prices",
            "check",
        ]:  # a check: the demo's own machines have a model without a price
            assert (said.code, said.err) == (
                1,
                "check failed: no price is known for 1 model of this ledger\n",
            )
        else:
            assert (said.code, said.err) == (0, "")
        assert said.out


def test_an_empty_ledger_is_no_failure(command, tmp_path):
    """Nothing yet is an answer: no rows, a total of nothing, exit code 0."""
    from crewmeter_cost.ledger.store import Ledger

    path = str(tmp_path / "empty.db")
    Ledger.open(path).close()
    made = json.loads(command("report", "--format", "json", "--ledger", path).out)
    assert (made["rows"], made["total"]["calls"], made["total"]["success_rate"]) == ([], 0, None)
    assert json.loads(command("runs", "--format", "json", "--ledger", path).out) == []
    assert command("export", "--ledger", path).out == ""
