"""The commands that read the ledger, as people run them.

Real processes, exit codes, stderr without tracebacks.
"""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.ledger_build import CONTEXT, RUN, UNPRICED, call, frozen, priced, root, step
from typer.testing import CliRunner

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.cli import build
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.read.calls import FIELDS
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.records import CallContext

EVIL = '=HYPERLINK("http://evil","click") [red]x[/]'


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    where = str(tmp_path_factory.mktemp("cli") / "ledger.db")
    evil = CallContext(
        run_id="00000000000000bb",
        run_kind="crew",
        run_name=EVIL,
        crew=EVIL,
        agent="@cmd",
        user="+1",
        tags=(("-k", "=v"),),
    )
    calls = [
        (call(1, parent_span_id=f"{30:016x}"), priced()),
        (call(2, parent_span_id=f"{30:016x}", error=True, error_type="TimeoutError"), UNPRICED),
        (call(3, parent_span_id="feedfeedfeedfeed"), priced(7)),
        (call(4, context=evil, request_model="gpt-9"), UNPRICED),
    ]
    steps = [
        step(10, "task", "write", parent_span_id=RUN),
        step(30, "agent", "writer", parent_span_id=f"{10:016x}"),
        step(
            31,
            "tool",
            "search",
            parent_span_id=f"{30:016x}",
            error=True,
            error_type="ValueError",
            details={"attempts": 2},
        ),
        root(),
        step(
            0xBB,
            "crew",
            EVIL,
            is_run=True,
            context=evil,
            error=True,
            error_type="KeyError",
            started_ns=root().started_ns + 10**9,
        ),
    ]
    with Ledger.open(where) as ledger:
        ledger.write(calls, steps, frozen)
    return where


def run(path: str, *words: str) -> str:
    """A command's stdout, in this process (importing Typer once); errors propagate."""
    done = CliRunner().invoke(
        build(words[0]), [*words, "--ledger", path], catch_exceptions=False, env={"COLUMNS": "80"}
    )
    assert done.exit_code == 0
    return done.output


def test_report_speaks_json_csv_and_table(path):
    """The three formats agree; unknown cost is null, empty and "unpriced", never 0."""
    document = json.loads(run(path, "report", "--by", "model", "--format", "json"))
    assert {row["model"]: row["cost_usd"] for row in document["rows"]} == {
        "gpt-4o": "0.005000000007",
        "gpt-9": None,
    }
    assert document["total"]["unpriced_calls"] == 2
    table = list(
        csv.DictReader(io.StringIO(run(path, "report", "--by", "model", "--format", "csv")))
    )
    assert [(row["model"], row["cost_usd"]) for row in table] == [
        ("gpt-4o", "0.005000000007"),
        ("gpt-9", ""),
    ]
    displayed = run(path, "report", "--by", "model")
    assert "unpriced" in displayed
    assert "2 of 4 calls have no price" in displayed
    assert max(map(len, displayed.splitlines())) <= 100
    assert json.loads(run(path, "report", "--by", "model,crew", "--by", "day", "--format", "json"))[
        "group_by"
    ] == ["model", "crew", "day"]
    only = json.loads(
        run(path, "report", "--by", "tool", "--where", "crew=research", "--format", "json")
    )
    assert (only["total"]["calls"], only["total"]["failed_calls"]) == (1, 1)


def test_a_limited_report_says_what_it_left_out(path):
    """`--limit 1` shows one row, the total over all, and a note.

    Without it every row is there and the document as ever.
    """
    every = json.loads(run(path, "report", "--by", "model", "--format", "json"))
    assert "truncated" not in every
    done = CliRunner().invoke(
        build("report"),
        ["report", "--by", "model", "--limit", "1", "--format", "json", "--ledger", path],
    )
    assert json.loads(done.stdout) == {
        **every,
        "rows": every["rows"][:1],
        "groups": 2,
        "truncated": True,
    }
    assert done.stderr == "note: 1 of 2 rows; the total is over all of them\n"


def test_runs_and_show(path):
    """`runs` lists newest first.

    `show` takes the start of an id or `last`, and sums each subtree.
    """
    first, second = json.loads(run(path, "runs", "--format", "json"))
    assert list(second) == [
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
    assert (first["name"], first["status"], first["cost_usd"], first["unpriced_calls"]) == (
        EVIL,
        "error",
        None,
        1,
    )
    assert (second["run_id"], second["calls"], second["tool_calls"], second["cost_usd"]) == (
        RUN,
        3,
        1,
        "0.005000000007",
    )
    assert datetime.fromisoformat(second["started_at"]) == datetime(2026, 6, 1, 12, tzinfo=UTC)
    tree = json.loads(run(path, "show", RUN[:15] + "a", "--format", "json"))
    (task, orphan) = tree["tree"]["children"]
    assert (task["name"], task["calls"], task["cost_usd"], task["failed_calls"]) == (
        "write",
        2,
        "0.005",
        1,
    )
    assert orphan["cost_usd"] == "0.000000000007"
    assert [child["kind"] for child in task["children"][0]["children"]] == ["tool", "llm", "llm"]
    displayed = run(path, "show", "last")
    assert EVIL[:20] in displayed
    assert "└─ " in run(path, "show", RUN)
    assert run(path, "show", RUN, "--format", "csv").count("\n") == 8
    assert "research" in run(path, "runs")


def test_a_refused_call_is_no_cost_and_no_zero(tmp_path):
    """A call the provider refused was never billed.

    A dash in every table and null for the call itself, never $0.00.
    """
    where = str(tmp_path / "ledger.db")
    refused = UNPRICED._replace(status="usage_missing", flags=("rejected",))
    usage = TokenUsage(status="missing", flags=("rejected",))
    lone = CallContext(
        run_id="00000000000000cc", run_kind="crew", run_name="lone", crew="lone", agent="bold"
    )
    only = call(
        1,
        context=lone,
        request_model="gpt-9",
        error=True,
        error_type="BadRequestError",
        usage=usage,
    )
    with Ledger.open(where) as ledger:
        ledger.write(
            [(only, refused), (call(2), priced())],
            [root(), step(0xCC, "crew", "lone", is_run=True, context=lone)],
            frozen,
        )
    tree = json.loads(run(where, "show", "00000000000000cc", "--format", "json"))["tree"]
    assert [child["cost_usd"] for child in tree["children"]] == [None]
    for words in (
        ["show", "00000000000000cc"],
        ["runs"],
        ["report", "--by", "model"],
        ["report", "--by", "crew"],
        ["watch", "--once"],
    ):
        assert not re.search(
            r"\$0\.0+\s",
            run(where, *words).replace("today $0.00 ", "").replace("this hour $0.00 ", ""),
        ), words
    for words, name in (
        (["runs"], "lone"),
        (["report"], "gpt-9"),
        (["show", "00000000000000cc"], "lone"),
        (["show", "00000000000000cc"], "gpt-9"),
    ):
        assert [line.split()[-1] for line in run(where, *words).splitlines() if name in line] == [
            "–"
        ], words


def test_watch_takes_the_filter_of_runs(path):
    """Runs, sums and failures of a snapshot are those of the runs and calls that match."""
    noon = "2026-06-01T23:00Z"

    def snapshot(*words: str) -> dict:
        arguments = ["--once", "--until", noon, "--format", "json", *words]
        return json.loads(run(path, "watch", *arguments))

    everything = snapshot()
    assert snapshot("--where", "status!=abandoned") == everything
    assert len(everything["finished"] + everything["running"]) == 2
    evil = snapshot("--where", "model=gpt-9")
    assert [each["run_id"] for each in evil["finished"] + evil["running"]] == ["00000000000000bb"]
    assert (evil["spent_usd"], evil["unpriced_calls"], evil["failures"]) == ("0", 1, [])
    tools = snapshot("--where", "tool=search")
    assert [each["error_type"] for each in tools["failures"]] == ["ValueError"]
    failed = {each["error_type"] for each in everything["failures"]}
    assert failed == {"TimeoutError", "ValueError"}
    models = snapshot("--where", "model=gpt-4o")
    assert [each["error_type"] for each in models["failures"]] == ["TimeoutError"]
    assert snapshot("--where", "finish_reason=none")["failures"] == []


@pytest.mark.mostly_slow("by", "runs")
@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (["report", "--by", "modle"], "did you mean model?"),
        (["report", "--where", "modle=gpt-5"], "did you mean model?"),
        (["runs", "--where", "stauts=failed"], "did you mean status?"),
        (["runs", "--order", "costs"], "did you mean cost?"),
        (["export", "--where", "usr=bob"], "did you mean user?"),
        (["watch", "--once", "--where", "agnet=x"], "did you mean agent?"),
        (["compare", "1", "2", "--by", "modle"], "cannot compare by 'modle'"),
    ],
    ids=["by", "report", "runs", "order", "export", "watch", "compare"],
)
def test_a_mistyped_word_is_named_without_a_ledger(tmp_path, words, culprit):
    """Before the first run there is no ledger, and a mistyped word is the first thing wrong."""
    command = [str(Path(sys.executable).parent / "crewmeter"), *words]
    command += ["--ledger", str(tmp_path / "none.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert culprit in " ".join(done.stderr.split())


def test_one_is_not_many(tmp_path):
    """One call is a call, one run is a run."""
    where = str(tmp_path / "ledger.db")
    with Ledger.open(where) as ledger:
        ledger.write([(call(1, request_model="gpt-9"), UNPRICED)], [root()], frozen)
    said = " ".join(
        run(where, *words)
        for words in (
            ["report"],
            ["show", "last"],
            ["whatif", "--cached", "5", "--since", "2026-05-01"],
        )
    )
    assert "1 of 1 call has no price and is not in the cost" in said
    assert "1 call to gpt-9 is in neither sum" in said
    assert "of 1 call " in run(where, "reprice", "--dry-run")
    assert "1 call, 1 step and 1 run " in run(where, "prune", "--keep", "1d", "--dry-run")


def test_show_says_which_run_it_means(path):
    """No match, and several, are errors with the way out."""
    for wanted, message in (
        ("ffff", "no run starts with"),
        ("0000", "several runs"),
        ("%", "no run starts"),
    ):
        with pytest.raises(CrewMeterError, match=message):
            run(path, "show", wanted)


def test_export_is_the_contract(path):
    """One JSON object a call with the contract's keys.

    The CSV of the same is safe in a spreadsheet.
    """
    records = [json.loads(line) for line in run(path, "export", "--format", "jsonl").splitlines()]
    assert [tuple(record) for record in records] == [FIELDS] * 4
    assert (records[0]["cost_usd"], records[0]["price_source"], records[0]["price_version"]) == (
        "0.005",
        "genai-prices",
        "v1",
    )
    assert (records[1]["cost_usd"], records[1]["cost_status"], records[1]["status"]) == (
        None,
        "unknown_model",
        "error",
    )
    assert records[3]["tags"] == {"-k": "=v"}
    assert records[0]["run_id"] == CONTEXT.run_id
    *_, evil = csv.DictReader(io.StringIO(run(path, "export", "--format", "csv")))
    assert (evil["crew"], evil["agent"], evil["user"], evil["cost_usd"]) == (
        "'" + EVIL,
        "'@cmd",
        "'+1",
        "",
    )
    assert run(path, "export", "--since", "2026-06-01T12:00:03Z").count("\n") == 2
    with pytest.raises(CrewMeterError, match="no export format"):
        run(path, "export", "--format", "xml")


def test_reprice_and_prune(path):
    """`reprice --dry-run` shows what would change; `prune --dry-run` what would go.

    Neither touches anything.
    """
    before = run(path, "export")
    document = json.loads(run(path, "reprice", "--dry-run", "--format", "json"))
    assert (document["dry_run"], document["repricing"]) == (True, None)
    assert {row["model"] for row in document["rows"]} == {"gpt-4o", "gpt-9"}
    assert "model" in run(path, "reprice", "--dry-run")
    gone = json.loads(run(path, "prune", "--keep", "2026-07-01", "--dry-run", "--format", "json"))
    assert (gone["calls"], gone["steps"], gone["runs"]) == (4, 5, 2)
    assert run(path, "export") == before


def test_repricing_for_good_and_back(tmp_path):
    """`reprice` prints its number, and `--undo` with it sets everything back."""
    where = str(tmp_path / "ledger.db")
    with Ledger.open(where) as ledger:
        ledger.write([(call(1), priced(1)), (call(2), priced(2))], [], frozen)
    before = run(where, "export")
    assert "2 of 2 calls changed" in run(where, "reprice", "--reason", "test")
    assert run(where, "export") != before
    assert "none of 2 calls" in run(where, "reprice")
    assert "2 calls cost again" in run(where, "reprice", "--undo", "1")
    assert run(where, "export") == before
    assert "2 calls, 0 steps and 1 run" in run(where, "prune", "--keep", "1d")
    assert run(where, "export") == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "--by", "colour"], "cannot group by 'colour'"),
        (["report", "--ledger", "/nowhere/ledger.db"], "there is no ledger at /nowhere/ledger.db"),
        (["runs", "--since", "yesterweek"], "--since 'yesterweek'"),
        (["report", "--ledger", "mysql://h/d"], "SQLite or PostgreSQL"),
    ],
)
def test_mistakes_are_answered_in_two_lines(path, words, said):
    """Exit code 2, an error and a hint on stderr, no traceback, nothing on stdout."""
    words = words if "--ledger" in words else [*words, "--ledger", path]
    main = "from crewmeter_cost.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", main, *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
