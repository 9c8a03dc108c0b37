"""A change that makes a crew loop is found by `compare` and stopped by `gate`."""

from __future__ import annotations

import json
import re
import sys

import pytest
from support.ledger_build import NOON, SECOND, UNPRICED, call, frozen, priced, step

from crewmeter_cost.cli import main
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.records import CallContext

CENT = 10**10


def write_run(ledger: Ledger, number: int, *, loops: int, version: str, unpriced: int = 0) -> None:
    """Write a run whose agent calls a tool and a model so many times."""
    context = CallContext(
        run_id=f"{number:016x}",
        run_kind="crew",
        run_name="research",
        crew="research",
        agent="writer",
        task="write",
        tags=(("version", version),),
    )
    started = NOON + number * 1000 * SECOND
    base = number * 1000
    task, agent = f"{base + 1:016x}", f"{base + 2:016x}"
    steps = [
        step(
            number,
            "crew",
            "research",
            is_run=True,
            context=context,
            started_ns=started,
            ended_ns=started + 100 * SECOND,
        ),
        step(base + 1, "task", "write", context=context, parent_span_id=f"{number:016x}"),
        step(base + 2, "agent", "writer", context=context, parent_span_id=task),
    ]
    calls = []
    for index in range(loops):
        outcome = UNPRICED if index < unpriced else priced(CENT)
        span = base + 100 + index
        calls.append((call(span, context=context, parent_span_id=agent), outcome))
        steps.append(step(span + 100, "tool", "search", context=context, parent_span_id=agent))
    ledger.write(calls, steps, frozen)


@pytest.fixture
def path(ledger, ledger_path):
    """Two runs of version 1 with 3 loops, then one of version 2 with 6."""
    write_run(ledger, 1, loops=3, version="1")
    write_run(ledger, 2, loops=3, version="1")
    write_run(ledger, 3, loops=6, version="2")
    return str(ledger_path)


@pytest.fixture
def command(monkeypatch, capsys):
    """Run a command; gives exit code, stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["crewmeter", *words])
        monkeypatch.setenv("COLUMNS", "120")
        code = 0
        try:
            main()
        except SystemExit as done:
            code = int(done.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_two_runs_are_aligned_by_their_steps(command, path):
    """A loop is one path with more occurrences, and explains the difference first."""
    words = ("compare", f"{1:016x}", f"{3:016x}", "--ledger", path)
    code, out, _ = command(*words, "--format", "json")
    made = json.loads(out)
    assert code == 0
    assert (made["a"]["calls"], made["b"]["calls"], made["delta"]["calls"]) == (3, 6, 3)
    assert (made["a"]["cost_usd"], made["delta"]["cost_usd"]) == ("0.03", "0.03")
    assert made["delta"]["tool_calls"] == 3
    first = made["explanation"][0]
    assert first["path"] == ["task write", "agent writer", "llm gpt-4o"]
    assert (first["a"]["count"], first["b"]["count"]) == (3, 6)
    assert first["delta"]["cost_usd"] == "0.03"
    tools = [line for line in made["explanation"] if line["path"][-1] == "tool search"]
    assert tools[0]["delta"]["count"] == 3
    _, out, _ = command(*words)
    assert "llm gpt-4o: 6 times instead of 3, +$0.03000 (100% of the difference)" in out
    _, out, _ = command(*words, "--format", "markdown")
    assert "| calls | 3 | 6 | +3 | +100 % |" in out


def test_versions_and_windows_are_compared_by_their_groups(command, path):
    """--by names what A and B are values of; FROM..TO are windows."""
    words = ("--ledger", path, "--format", "json")
    made = json.loads(command("compare", "1", "2", "--by", "tag:version", *words)[1])
    assert (made["a"]["runs"], made["b"]["runs"]) == (2, 1)
    assert (made["a"]["calls"], made["b"]["calls"]) == (6, 6)
    windows = ("2026-06-01..2026-06-02", "2026-06-02..2026-06-03")
    made = json.loads(command("compare", *windows, *words)[1])
    assert made["a"]["calls"] + made["b"]["calls"] == 12


@pytest.mark.parametrize(
    ("limits", "code", "exceeded"),
    [
        (["cost +10%"], 1, ["cost +10%"]),
        (["cost +100%", "calls +3"], 0, []),
        (["calls +0", "p95 +20%"], 1, ["calls +0"]),
        (["cost 0.05 USD"], 1, ["cost 0.05 USD"]),
        (["cost/run 0.06"], 0, []),
        (["tool_calls +2"], 1, ["tool_calls +2"]),
    ],
)
def test_a_gate_stops_a_crew_that_loops(command, path, tmp_path, limits, code, exceeded):
    """Exit 1 where a limit is exceeded, and the result names which."""
    baseline = str(tmp_path / "main.json")
    written = command("gate", "--ledger", path, "--run", f"{1:016x}", "--write", baseline)
    assert written[0] == 0
    words = [word for limit in limits for word in ("--max", limit)]
    found, out, _ = command(
        "gate",
        "--baseline",
        baseline,
        "--ledger",
        path,
        "--run",
        "last",
        *words,
        "--format",
        "json",
    )
    results = json.loads(out)["results"]
    assert found == code
    assert [each["limit"] for each in results if each["exceeded"]] == exceeded


def test_a_gate_takes_a_ledger_or_a_report_as_baseline(command, path, tmp_path):
    """A ledger against itself passes; a report document is a baseline too."""
    words = ("--max", "cost +0%", "--max", "calls +0", "--ledger", path)
    assert command("gate", "--baseline", path, *words)[0] == 0
    assert command("gate", "--baseline", f"sqlite:///{path}", *words)[0] == 0
    report = tmp_path / "report.json"
    report.write_text(command("report", "--format", "json", "--ledger", path)[1])
    assert command("gate", "--baseline", str(report), *words)[0] == 0
    summary = tmp_path / "summary.md"
    command("gate", "--baseline", str(report), *words, "--summary", str(summary))
    assert "### crewmeter gate: passed" in summary.read_text()


def test_a_gate_does_not_pass_where_the_cost_is_not_known(command, ledger, path):
    """Calls without a price make the sum too low: the limit on cost counts as exceeded."""
    write_run(ledger, 9, loops=1, version="3", unpriced=1)
    words = ("--baseline", path, "--ledger", path, "--run", f"{9:016x}", "--format", "json")
    code, out, _ = command("gate", *words, "--max", "cost +500%")
    assert code == 1
    assert json.loads(out)["results"][0]["reason"] == "cost is not known"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("{}", "is empty"),
        ("nonsense", "is not JSON"),
        ("[1]", "not a JSON object"),
        ('{"currency": "EUR", "totals": {"calls": 1}}', "is in EUR, the ledger in USD"),
        (
            '{"format": "crewmeter-baseline", "version": 2, "currency": "USD", "totals": {}}',
            "has version 2",
        ),
        (
            '{"format": "crewmeter-baseline", "version": 1, "currency": "USD", "totals": {}}',
            "it has no call",
        ),
        ('{"format": "other", "currency": "USD"}', "is not a baseline of crewmeter"),
    ],
)
def test_a_baseline_that_cannot_be_compared_is_refused(command, path, tmp_path, content, message):
    """Empty, of another currency, of a newer version, or not a baseline: exit 2 with the reason."""
    baseline = tmp_path / "baseline.json"
    baseline.write_text(content)
    words = ("--baseline", str(baseline), "--max", "cost +10%", "--ledger", path)
    code, out, err = command("gate", *words)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize("limit", ["cost", "cost +ten%", "price +10%", "cost 10%", "cost +1e9%"])
def test_a_limit_with_a_mistake_is_wrong_usage(command, path, limit):
    """Exit 2, with a limit that works in the hint."""
    code, _, err = command("gate", "--baseline", path, "--max", limit, "--ledger", path)
    assert (code, "--max" in err) == (2, True)


@pytest.mark.parametrize(
    ("term", "calls", "tools"),
    [("cost_status=priced", 6, 6), ("finish_reason!=length", 6, 6), ("tool=search", 0, 6)],
)
def test_windows_are_compared_under_every_filter(command, path, term, calls, tools):
    """A filter on tools or on calls compares what it selects, instead of a report of both."""
    words = ("compare", "1", "2", "--by", "tag:version", "--where", term)
    code, out, err = command(*words, "--ledger", path, "--format", "json")
    assert (code, err) == (0, "")
    made = json.loads(out)
    assert made["a"]["tool_calls"] == tools
    model_calls = [each for each in made["steps"] if each["path"][-1].startswith("model")]
    assert sum(each["a"]["count"] for each in model_calls) == calls


def test_a_gate_prints_amounts_with_their_units(command, path):
    """Dollars to a millionth, seconds to a hundredth, counts whole. JSON has them exactly."""
    words = ("gate", "--baseline", path, "--ledger", path, "--max", "cost +0%")
    _, out, _ = command(*words, "--max", "p95 +0%", "--max", "calls +0")
    cost, latency, calls = (line.split()[2:-1] for line in out.splitlines()[1:4])
    assert all(re.fullmatch(r"\$\d+\.\d{6}", amount) for amount in cost), out
    assert all(re.fullmatch(r"\d+\.\d\ds", amount) for amount in latency), out
    assert all(re.fullmatch(r"\d+", amount) for amount in calls), out


def test_a_metric_with_a_typo_names_the_nearest(command, path):
    """As a filter does."""
    code, _, error = command("gate", "--baseline", path, "--ledger", path, "--max", "csot +1%")
    assert (code, "did you mean cost?" in error) == (2, True)
