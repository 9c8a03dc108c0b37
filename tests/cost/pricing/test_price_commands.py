"""The commands `price` and `prices`, as people and scripts call them."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import text

from crewmeter_cost.cli import main
from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pricing.catalogue import catalogue_files


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command line; returns (exit code, stdout, stderr)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["crewmeter", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own, so that `prices update` writes nowhere else."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CREWMETER_LEDGER", str(tmp_path / "ledger.db"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def test_price_prints_the_contracts_document(run):
    """`price --format json` has exactly the contract's keys, money as exact strings."""
    code, out, _ = run(
        "price",
        "gpt-4o",
        "--provider",
        "openai",
        "--input",
        "1000",
        "--cache-read",
        "400",
        "--output",
        "300",
        "--format",
        "json",
    )
    document = json.loads(out)
    version = document.pop("price_version")
    assert (code, re.fullmatch(r"[0-9a-f]{32}", version) is not None) == (0, True)
    assert document == {
        "cost_usd": "0.005",
        "cost_status": "priced",
        "provider": "openai",
        "model": "gpt-4o",
        "items": [
            {"item": "input", "quantity": 600, "rate_usd": "0.0000025", "cost_usd": "0.0015"},
            {"item": "cache_read", "quantity": 400, "rate_usd": "0.00000125", "cost_usd": "0.0005"},
            {"item": "output", "quantity": 300, "rate_usd": "0.00001", "cost_usd": "0.003"},
        ],
        "price_source": "genai-prices",
    }


@pytest.mark.parametrize(
    ("words", "usd"),
    [
        (["gpt-4o-mini", "--input", "1000", "--output", "500"], "0.00045"),
        (
            [
                "gpt-5",
                "--provider",
                "openai",
                "--input",
                "1000",
                "--cache-read",
                "400",
                "--output",
                "300",
                "--tier",
                "flex",
            ],
            "0.0019",
        ),
        (
            [
                "gpt-5.6",
                "--provider",
                "openai",
                "--input",
                "10000",
                "--output",
                "1000",
                "--at",
                "2026-08-20T23:59:59Z",
            ],
            "0.08",
        ),
        (
            [
                "claude-sonnet-4-5",
                "--provider",
                "anthropic",
                "--input",
                "1000",
                "--cache-write-1h",
                "1000",
                "--output",
                "0",
            ],
            "0.006",
        ),
        (
            [
                "claude-opus-4-5",
                "--input",
                "2000",
                "--cache-write",
                "1500",
                "--output",
                "800",
                "--web-searches",
                "2",
            ],
            "0.051875",
        ),
        (["text-embedding-3-small", "--input", "12345", "--operation", "embeddings"], "0.0002469"),
        (
            ["gpt-4o", "--host", "me.openai.azure.com", "--input", "1000", "--output", "300"],
            "0.0055",
        ),
        (
            [
                "gpt-4o",
                "--usage",
                '{"prompt_tokens": 1000, "completion_tokens": 300, "cached_prompt_tokens": 400}',
            ],
            "0.005",
        ),
    ],
)
def test_price_prices_what_was_requested(run, words, usd):
    """Counts, provider usage, moment, tier, host and operation each reach the charge."""
    moment = [] if "--at" in words else ["--at", "2026-11-21T12:00Z"]
    code, out, _ = run("price", *words, *moment, "--format", "json")
    assert (code, json.loads(out)["cost_usd"]) == (0, usd)


def test_no_price_is_no_failure(run):
    """Without a price the cost is null, the reason is on stderr and the exit code 0."""
    code, out, err = run(
        "price",
        "claude-sonnet-4-5-future",
        "--provider",
        "anthropic",
        "--input",
        "10",
        "--format",
        "json",
    )
    document = json.loads(out)
    assert (code, document["cost_usd"], document["cost_status"], document["items"]) == (
        0,
        None,
        "unknown_model",
        [],
    )
    assert document["price_source"] is document["price_version"] is None
    assert "no price for 'claude-sonnet-4-5-future' at anthropic" in err


def test_price_for_people_and_spreadsheets(run):
    """The table adds up, and the CSV has the lines."""
    _, out, err = run("price", "gpt-4o", "--input", "1000", "--output", "300")
    assert "total" in out
    assert "$0.0055" in out
    assert "provider assumed from the model's name" in err
    assert "_" not in err
    _, out, _ = run("price", "gpt-4o", "--input", "1000", "--output", "300", "--format", "csv")
    assert out.splitlines() == [
        "item,quantity,rate_usd,cost_usd",
        "input,1000,0.0000025,0.0025",
        "output,300,0.00001,0.003",
    ]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["gpt-4o", "--usage", "{"], "--usage is not JSON"),
        (["gpt-4o", "--usage", "[1]"], "--usage is no JSON object"),
        (["gpt-4o", "--usage", "{}", "--input", "5"], "--usage stands beside single counts"),
        (["gpt-4o", "--input", "-5"], "'--input'"),
        (["gpt-4o", "--input", "many"], "'--input'"),
        (["gpt-4o", "--input", "5", "--at", "soon"], "--at 'soon' is not a time"),
    ],
)
def test_price_refuses_what_it_cannot_read(run, words, problem):
    """Wrong usage is exit code 2 and names the option."""
    code, _, err = run("price", *words)
    assert (code, problem in " ".join(err.replace("│", " ").split())) == (2, True), err


def test_price_reads_the_price_file(run, home, monkeypatch):
    """$CREWMETER_PRICES applies; a mistake in it is named with its line."""
    file = home / "prices.toml"
    file.write_text('[[price]]\nprovider = "openai"\nmodel = "gpt-4o"\ninput = 1\noutput = 1\n')
    monkeypatch.setenv("CREWMETER_PRICES", str(file))
    _, out, _ = run(
        "price",
        "gpt-4o",
        "--provider",
        "openai",
        "--input",
        "1000000",
        "--output",
        "0",
        "--format",
        "json",
    )
    assert (json.loads(out)["cost_usd"], json.loads(out)["price_source"]) == ("1", "override")
    file.write_text('[[price]]\nmodel = "gpt-4o"\ninput = -1\n')
    code, _, err = run("price", "gpt-4o", "--input", "5")
    assert (code, "prices.toml line 3: price[1].input: -1 is negative" in err, "hint:" in err) == (
        2,
        True,
        True,
    )


def test_show_lists_every_price_a_model_had(run):
    """By source, provider, date and tier; unknown models are exit code 1."""
    code, out, _ = run("prices", "show", "o3", "--provider", "openai", "--format", "json")
    rows = json.loads(out)
    assert code == 0
    assert {row["source"] for row in rows} == {"genai-prices", "litellm"}
    assert [
        row["prices"]["input"]
        for row in rows
        if row["source"] == "genai-prices" and not row["tier"]
    ] == ["10", "2"]
    _, out, _ = run("prices", "show", "gpt-5.6")
    assert "10 over 272k" in out
    _, out, _ = run("prices", "show", "o3", "--format", "csv")
    assert out.startswith("source,provider,model,matched_by,from,hours,tier,prices")
    code, _, err = run("prices", "show", "gpt-9")
    assert (code, "no catalogue lists 'gpt-9'" in err) == (1, True)


def test_update_takes_a_newer_book_and_keeps_it_atomically(run, home):
    """Nothing newer: nothing done. A file becomes the user's own book and prices from then on.

    A damaged one is passed over.
    """
    code, out, _ = run("prices", "update")
    assert (code, "nothing to do" in out, catalogue_files.own_path().exists()) == (0, True, False)
    dearer = home / "newer.txt"
    text = (catalogue_files.SHIPPED / "genai-prices.txt").read_text()
    dearer.write_text(
        text.replace('"version": "0.2.3"', '"version": "9.9.9"').replace(
            '"input":"0.15"', '"input":"15"'
        )
    )
    code, out, _ = run("prices", "update", "--file", str(dearer))
    assert (code, "9.9.9, in use from now on" in out) == (0, True)
    assert [path.name for path in catalogue_files.own_path().parent.iterdir()] == [
        "genai-prices.txt"
    ]
    _, out, _ = run("price", "gpt-4o-mini", "--input", "1000000", "--format", "json")
    assert json.loads(out)["cost_usd"] == "15"
    catalogue_files.own_path().write_text("rubbish")
    _, out, _ = run("price", "gpt-4o-mini", "--input", "1000000", "--format", "json")
    assert json.loads(out)["cost_usd"] == "0.15"


def test_update_reads_genai_prices_own_file(run, home):
    """The published data.json of genai-prices compiles to the same prices.

    Anything else is refused by name.
    """
    model = {
        "id": "new-model",
        "match": {"equals": "new-model"},
        "prices": {"input_mtok": "7", "output_mtok": "8"},
    }
    provider = {
        "id": "openai",
        "name": "OpenAI",
        "api_pattern": "https://api\\.openai\\.com",
        "models": [model],
    }
    (home / "data.json").write_text(json.dumps([provider]))
    code, out, _ = run("prices", "update", "--file", str(home / "data.json"))
    assert (code, "file data.json" in out) == (0, True)
    _, out, _ = run(
        "price", "new-model", "--provider", "openai", "--input", "1000000", "--format", "json"
    )
    assert json.loads(out)["cost_usd"] == "7"
    for name, content in (
        ("bad.json", "[{}]"),
        ("worse.json", "nonsense"),
        ("book.txt", '{"format": 99}'),
    ):
        (home / name).write_text(content)
        code, _, err = run("prices", "update", "--file", str(home / name))
        assert (code, err.startswith("error:"), "Traceback" in err) == (2, True, False), err
    code, _, err = run("prices", "update", "--file", str(home / "none.json"))
    assert (code, "can't be read" in err) == (2, True)


def test_check_knows_age_and_disagreements_without_a_ledger(run):
    """No ledger yet: age and sources are still checked; --max-age fails an old book."""
    code, out, _ = run("prices", "check", "--format", "json")
    document = json.loads(out)
    assert (code, document["ledger"], document["book"]["version"]) == (0, None, "0.2.3")
    assert any(each["unit"] == "input" for each in document["disagreements"])
    assert Decimal(document["book"]["age_days"]) >= 0
    code, _, err = run("prices", "check", "--max-age", "1")
    assert (code, "check failed" in err) == (
        (1, True) if document["book"]["age_days"] > 1 else (0, False)
    )


@pytest.fixture
def called(home):
    """A ledger with a week of calls."""
    with Ledger.open(str(home / "ledger.db")) as ledger:
        load_history(
            ledger, days=4, seed=3, until=datetime(2026, 11, 21, 12, tzinfo=UTC), calls_per_day=60
        )
    return str(home / "ledger.db")


def test_check_is_of_the_models_called_in_the_window(run, called, monkeypatch):
    """`--since` and `--until` pick the calls.

    At 80 columns no line is longer, the path of the book is not in the way.
    """
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run("prices", "check", "--format", "json")
    every = {row["model"]: row["calls"] for row in json.loads(out)["ledger"]}
    _, out, _ = run(
        "prices",
        "check",
        "--since",
        "2026-11-20",
        "--until",
        "2026-11-20T12:00Z",
        "--format",
        "json",
    )
    some = {row["model"]: row["calls"] for row in json.loads(out)["ledger"]}
    _, out, _ = run(
        "report", "--since", "2026-11-20", "--until", "2026-11-20T12:00Z", "--format", "json"
    )
    assert some == {row["model"]: row["calls"] for row in json.loads(out)["rows"]}
    assert sum(some.values()) < sum(every.values())
    code, out, err = run("prices", "check")
    table = [line for line in out.splitlines() if "[[free]]" not in line]
    assert max(map(len, table)) <= 80
    assert "site-packages" not in out
    assert "genai-prices.txt" not in out
    assert (code, "no price is known for 1 model" in err) == (1, True)
    code, out, _ = run("prices", "check", "--until", "2001-01-01")
    assert (code, "no model was called" in out) == (0, True)


def test_a_damaged_ledger_is_not_taken_for_none(run, home):
    """Without --ledger, a file that is no ledger is an error, not "no ledger yet"."""
    (home / "ledger.db").write_text("not a database" * 100)
    code, _, err = run("prices", "check")
    assert (code, "ledger.db" in err) == (2, True)


def test_show_knows_what_was_charged_and_when_prices_were_in_force(run, called):
    """`--since` and `--until` leave out prices not in force then.

    `--ledger` adds what its calls were really charged at.
    """
    _, out, _ = run(
        "prices",
        "show",
        "gpt-5.6",
        "--provider",
        "openai",
        "--until",
        "2026-08-01",
        "--format",
        "json",
    )
    ours = [row for row in json.loads(out) if row["source"] == "genai-prices" and row["prices"]]
    assert [(row["from"], row["tier"]) for row in ours] == [(None, None)]
    _, out, _ = run(
        "prices",
        "show",
        "gpt-5.6",
        "--provider",
        "openai",
        "--since",
        "2026-11-01",
        "--format",
        "json",
    )
    ours = [
        row for row in json.loads(out) if row["source"] == "genai-prices" and row["tier"] is None
    ]
    assert [row["from"] for row in ours] == ["2026-08-21"]
    window = ("--since", "2026-11-19", "--until", "2026-11-21")
    _, out, _ = run("prices", "show", "gpt-5", "--ledger", called, *window, "--format", "json")
    charged = [row for row in json.loads(out) if row["calls"]]
    _, out, _ = run(
        "report", "--ledger", called, *window, "--where", "model=gpt-5", "--format", "json"
    )
    total = json.loads(out)["total"]
    assert sum(row["calls"] for row in charged) == total["calls"] - total[
        "unpriced_calls"
    ] - rejected(called)
    assert all(
        row["source"].startswith("ledger (") and row["first_call"] >= "2026-11-19"
        for row in charged
    )
    assert charged[0]["prices"]["input"]
    _, out, _ = run("prices", "show", "gpt-5", "--ledger", called)
    assert "in this ledger" in out
    _, out, _ = run("prices", "show", "gpt-5", "--ledger", called, "--format", "csv")
    assert out.splitlines()[0].endswith("prices,calls,first_call,last_call")


def rejected(path: str) -> int:
    """Calls to gpt-5 in the test's window that the provider refused.

    Neither priced nor unpriced.
    """
    with Ledger.open(path, read_only=True) as ledger, ledger.reading() as connection:
        query = (
            "SELECT count(*) FROM calls WHERE model = 'gpt-5' AND cost_usd IS NULL AND "
            "unpriced = 0 AND time >= :since AND time < :until"
        )
        window = {
            name: int(datetime(2026, 11, day, tzinfo=UTC).timestamp())
            for name, day in (("since", 19), ("until", 21))
        }
        return connection.scalar(text(query), window)


def test_check_says_what_is_wrong_with_the_users_file(run, tmp_path, monkeypatch):
    """As pricing does: the file, its line and a hint, and exit code 2."""
    prices = tmp_path / "prices.toml"
    prices.write_text("[hosts]\n[[price]\n", "utf-8")
    monkeypatch.setenv("CREWMETER_PRICES", str(prices))
    code, out, err = run("prices", "check")
    assert (code, out) == (2, "")
    assert f"{prices} line 2 is not TOML" in err
