"""`crewmeter audit`.

The ledger against exports in the columns the consoles write, by day and model.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.cli import main
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.finance.invoice_reconciliation.provider_exports import model_key, read_export
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pricing.charge import charge_call
from crewmeter_cost.pricing.price_book import PriceBook
from crewmeter_cost.records import Call, CallContext

NOON = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()) * 10**9
DAY = 86_400 * 10**9

OPENAI_DAY = "1795132800,1795219200,2026-11-20T00:00:00+00:00,2026-11-21T00:00:00+00:00"
OPENAI_NEXT_DAY = "1795219200,1795305600,2026-11-21T00:00:00+00:00,2026-11-22T00:00:00+00:00"
OPENAI_COST = f"""start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,\
quantity,quantity_unit,line_item,project_id
{OPENAI_DAY},0.005,usd,2000,tokens,"gpt-4o-2024-08-06, input",p
{OPENAI_DAY},0.006,usd,600,tokens,"gpt-4o-2024-08-06, output",p
"""
OPENAI_USAGE = f"""start_time,end_time,start_time_iso,end_time_iso,project_id,\
num_model_requests,model,input_tokens,output_tokens,input_cached_tokens
{OPENAI_DAY},p,2,gpt-4o-2024-08-06,2000,600,0
{OPENAI_NEXT_DAY},p,1,gpt-4o-mini-2024-07-18,50,5,0
"""
ANTHROPIC_USAGE = """usage_date_utc,model_version,api_key,workspace,usage_type,context_window,\
usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,\
usage_input_tokens_cache_read,usage_output_tokens,web_search_count
2026-11-20,claude-sonnet-4-5-20250929,k,Default,standard,≤ 200k,100,500,0,400,300,0
"""
ANTHROPIC_COST = """usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,\
cost_usd,list_price_usd,cost_type
2026-11-20,Claude Sonnet 4.5,Default,k,message,≤ 200k,input_no_cache,0.00,0.00,token
2026-11-20,Claude Sonnet 4.5,Default,k,message,≤ 200k,output,0.01,0.01,token
"""
FOCUS_DAY = "USD,Usage,2026-11-20T00:00:00Z"
FOCUS = f"""BilledCost,BillingCurrency,ChargeCategory,ChargePeriodStart,ServiceCategory,SkuId,\
ResourceName
0.011,{FOCUS_DAY},AI and Machine Learning,openai/gpt-4o-2024-08-06/input,researchers
0.006795,{FOCUS_DAY},AI and Machine Learning,anthropic/claude-sonnet-4-5-20250929/output,
99,{FOCUS_DAY},Databases,x,y
"""


def call(number, provider, model, usage, *, response=None, agent="writer", at=NOON):
    """One billed call of a crew."""
    context = CallContext(
        run_id="a" * 16, run_kind="crew", run_name="news", crew="news", agent=agent
    )
    return Call(
        f"{number:032x}",
        f"{number:016x}",
        None,
        at,
        at + 10**9,
        "chat",
        provider,
        None,
        model,
        response,
        None,
        usage,
        False,
        None,
        "stop",
        None,
        None,
        None,
        "event",
        "crewmeter",
        context,
    )


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """A day with two calls to OpenAI by two agents, one to Anthropic and one without a price."""
    path = tmp_path / "ledger.db"
    monkeypatch.setenv("CREWMETER_LEDGER", str(path))
    monkeypatch.setenv("COLUMNS", "200")
    book = PriceBook.load()
    calls = [
        call(1, "openai", "gpt-4o", TokenUsage(1000, 300), response="gpt-4o-2024-08-06"),
        call(
            2,
            "openai",
            "gpt-4o",
            TokenUsage(1000, 300),
            response="gpt-4o-2024-08-06",
            agent="researcher",
        ),
        call(
            3,
            "anthropic",
            "claude-sonnet-4-5",
            TokenUsage(1000, 300, 400, 500),
            response="claude-sonnet-4-5-20250929",
        ),
        call(
            4,
            "openai",
            "gpt-4o-mini",
            TokenUsage(50, 5),
            response="gpt-4o-mini-2024-07-18",
            at=NOON + DAY,
        ),
        call(5, "acme", "secret", TokenUsage(7, 7)),
    ]
    with Ledger.open(str(path)) as books:
        books.write([(each, charge_call(each, book)) for each in calls], [], book.frozen)
    return path


@pytest.fixture
def audit(ledger, tmp_path, monkeypatch, capsys):
    """Runs the command on a file's text; returns (exit code, document or text, stderr)."""

    def audit(text, *words, format="json"):
        file = tmp_path / "export.csv"
        file.write_text(text, encoding="utf-8")
        monkeypatch.setattr(
            sys, "argv", ["crewmeter", "audit", str(file), "--format", format, *words]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        parsed = json.loads(captured.out) if format == "json" and captured.out else captured.out
        return ended.value.code or 0, parsed, captured.err

    return audit


def test_openai_costs_agree(audit):
    """Two calls of $0.0055 each against the export's lines for input and output of that day."""
    code, document, _ = audit(OPENAI_COST)
    assert (code, document["format"], document["agrees"], document["days"]) == (
        0,
        "openai-cost",
        True,
        ["2026-11-20", "2026-11-20"],
    )
    (row,) = document["rows"]
    assert (row["ledger"]["cost_usd"], row["provider"]["cost_usd"]) == ("0.011", "0.011")
    assert document["total"] == {"ledger_cost_usd": "0.011", "provider_cost_usd": "0.011"}


def test_openai_usage_agrees_day_by_day(audit):
    """Requests and tokens by day and model."""
    code, document, _ = audit(OPENAI_USAGE)
    assert code == 0
    assert [
        (row["day"], row["ledger"]["requests"], row["provider"]["input_tokens"])
        for row in document["rows"]
    ] == [
        ("2026-11-20", 2, 2000),
        ("2026-11-21", 1, 50),
    ]


def test_anthropic_usage_adds_up_its_caches(audit):
    """Their input is split in four; ours includes cached tokens."""
    code, document, _ = audit(ANTHROPIC_USAGE)
    assert (
        code,
        document["rows"][0]["provider"]["input_tokens"],
        document["rows"][0]["provider"]["output_tokens"],
    ) == (0, 1000, 300)


def test_anthropic_costs_are_rounded_to_cents(audit):
    """$0.01 in cents against $0.006795: the difference is what rounding explains.

    Their display names find our models.
    """
    code, document, _ = audit(ANTHROPIC_COST)
    assert (code, len(document["rows"]), document["rows"][0]["agrees"]) == (0, 1, True)
    code, document, _ = audit(ANTHROPIC_COST.replace("0.01,0.01", "0.25,0.25"))
    assert (code, document["agrees"]) == (1, False)


def test_focus_compares_every_provider(audit):
    """Other services are left out.

    A model that only the ledger has is listed, and named for its missing price.
    """
    code, document, _ = audit(FOCUS)
    by_model = {row["model"]: row for row in document["rows"]}
    assert by_model["gpt-4o-2024-08-06"]["agrees"]
    assert by_model["claude-sonnet-4-5-20250929"]["agrees"]
    assert by_model["secret"]["unpriced_calls"] == 1
    assert code == 0
    assert len(by_model) == 3


def test_a_call_the_provider_billed_and_we_lack_differs(audit):
    """A line of a model that is not in the ledger, or twice the money.

    Exit code 1, and the row says so.
    """
    more = (
        OPENAI_COST
        + '1795132800,1795219200,2026-11-20T00:00:00+00:00,x,3,usd,1,tokens,"o3, input",p\n'
    )
    code, document, _ = audit(more)
    (missing,) = [row for row in document["rows"] if row["model"] == "o3"]
    assert (
        code,
        missing["agrees"],
        missing["ledger"]["cost_usd"],
        missing["provider"]["cost_usd"],
    ) == (1, False, None, "3")
    code, text, _ = audit(more, format="table")
    assert "DIFFERS" in text
    assert "differ in 1 of 2 rows" in text


def test_tolerance_and_days_narrow_it(audit):
    """--tolerance is in per cent; --since and --until narrow the days."""
    dearer = OPENAI_COST.replace("0.006,usd", "0.0065,usd")
    assert audit(dearer)[0] == 1
    assert audit(dearer, "--tolerance", "10")[0] == 0
    _, document, _ = audit(OPENAI_USAGE, "--since", "2026-11-21")
    assert [row["day"] for row in document["rows"]] == ["2026-11-21"]
    code, _, err = audit(OPENAI_USAGE, "--until", "2020-01-01")
    assert (code, "no day in that window" in err) == (2, True)


def test_it_says_what_crewai_would_have_claimed(audit):
    """Two agents on one model of one run.

    Each is credited with all of it, so CrewAI says twice what the calls add up to.
    """
    _, document, _ = audit(OPENAI_COST)
    gpt, sonnet, secret = 2 * 1300, 1300, 14
    assert document["crewai_usage_metrics"] == {
        "tokens": gpt + sonnet + secret,
        "claimed_tokens": 2 * gpt + sonnet + secret,
    }
    _, text, _ = audit(OPENAI_COST, format="table")
    assert (
        "CrewAI's usage_metrics would have claimed 6,514 tokens for the crews' 3,914 (1.66×)"
        in text
    )


def test_csv_has_both_sides(audit):
    """One line a day and model."""
    _, text, _ = audit(OPENAI_USAGE, format="csv")
    header, first, *_ = text.splitlines()
    assert header.startswith("day,model,ledger_requests,provider_requests")
    assert first.startswith("2026-11-20,gpt-4o-2024-08-06,2,2,2000,2000,600,600,0.011,")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a,b\n1,2\n", "has columns of no export known here: a, b"),
        ("", "has columns of no export known here: none"),
        (OPENAI_COST.splitlines()[0] + "\n", "has no rows"),
        (OPENAI_COST.replace("0.005,usd", "much,usd"), "line 2: amount_value: 'much' is no number"),
        (OPENAI_COST.replace("0.005,usd", "0.005,eur"), "line 2: the amounts are in EUR"),
        (
            OPENAI_COST.replace("2026-11-20T00:00:00+00:00", "yesterday"),
            "line 2: start_time_iso: 'yesterday' is no date",
        ),
        (OPENAI_COST + "1,2\n", "line 4: has not as many cells as the header"),
        (OPENAI_COST.replace('"gpt', '"g"pt'), "is not CSV"),
        (FOCUS.replace("0.011,USD", "NaN,USD"), "line 2: BilledCost: 'NaN' is no number"),
    ],
)
def test_other_files_are_refused(audit, text, problem):
    """Unknown columns, broken cells, other currencies: refused by file, line and column."""
    code, _, err = audit(text)
    assert (code, problem in err, "hint:" in err) == (2, True, True), err


def test_a_missing_file_is_refused(tmp_path):
    """By its path."""
    with pytest.raises(CrewMeterError, match=r"none\.csv can't be read"):
        read_export(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5"),
        ("claude-3-5-sonnet-20241022", "Claude 3.5 Sonnet 2024-10-22"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("anthropic/claude-opus-5", "Claude Opus 5"),
        ("claude-3-7-sonnet-latest", "claude-3-7-sonnet-20250219"),
    ],
)
def test_one_model_has_one_key(ours, theirs):
    """An invoice's display name and a response's dated name are one model."""
    assert model_key(ours) == model_key(theirs)


def test_prices_check_covers_the_ledgers_models(ledger, monkeypatch, capsys):
    """`prices check` names the model without a price and fails; the others with their source."""
    monkeypatch.setattr(sys, "argv", ["crewmeter", "prices", "check", "--format", "json"])
    with pytest.raises(SystemExit) as ended:
        main()
    document = json.loads(capsys.readouterr().out)
    assert ended.value.code == 1
    assert {(row["model"], row["calls"], row["today"]) for row in document["ledger"]} == {
        ("gpt-4o", 2, "genai-prices"),
        ("claude-sonnet-4-5", 1, "genai-prices"),
        ("gpt-4o-mini", 1, "genai-prices"),
        ("secret", 1, None),
    }
    assert Decimal(document["book"]["age_days"]) >= 0


def test_prices_check_for_people_and_spreadsheets(ledger, monkeypatch, capsys):
    """The table shows models, sources and their disagreements; the CSV the models."""
    for words, seen in (
        ((), "no price for 'secret' at acme"),
        (("--format", "csv"), "acme,secret,1,1,,"),
    ):
        monkeypatch.setattr(sys, "argv", ["crewmeter", "prices", "check", *words])
        with pytest.raises(SystemExit):
            main()
        assert seen in capsys.readouterr().out


def test_calls_without_a_price_are_named_in_the_table(audit):
    """An audit says how many calls it could not compare for want of a price."""
    _, text, _ = audit(FOCUS, format="table")
    assert "without a price in the ledger: 1 call;" in text


@pytest.mark.parametrize("amount", ["0,005", "1.234,56", "0.00.5", "five"])
def test_an_amount_with_a_decimal_comma_is_refused(tmp_path, amount):
    """A spreadsheet of another language writes 0,005, which was read as 5."""
    path = tmp_path / "costs.csv"
    path.write_text(OPENAI_COST.replace("0.005,usd", f'"{amount}",usd'))
    with pytest.raises(CrewMeterError, match="amount_value"):
        read_export(path)
