"""Commands that find.

Runs by filter, reports and exports with the same filter, rates of a model.
"""

from __future__ import annotations

import json
from decimal import Decimal

import pytest


def listed(command, history, *words):
    said = command("runs", *words, "--limit", "0", "--format", "json", "--ledger", history)
    assert said.code == 0, said.err
    return json.loads(said.out)


def test_runs_are_filtered_ordered_and_searched(command, history):
    """`--where`, `--order` and `--search` give a part of all runs, in the order that was chosen."""
    every = listed(command, history)
    failed = listed(command, history, "--where", "status=failed")
    assert failed == [run for run in every if run["status"] in ("error", "abandoned")]
    assert 0 < len(failed) < len(every)
    dear = listed(command, history, "--where", "cost>0.05 duration>10s", "--order", "cost")
    costs = [Decimal(run["cost_usd"]) for run in dear]
    assert costs == sorted(costs, reverse=True)
    assert all(cost > Decimal("0.05") for cost in costs)
    assert {run["run_id"] for run in dear} == {
        run["run_id"]
        for run in every
        if Decimal(run["cost_usd"] or 0) > Decimal("0.05") and run["duration_seconds"] > 10
    }
    name = every[0]["name"]
    assert {run["name"] for run in listed(command, history, "--search", name)} >= {name}
    [one] = listed(command, history, "--search", every[0]["run_id"])
    assert one == every[0]


def test_a_report_of_failed_runs_costs_what_those_runs_cost(command, history):
    """The same filter gives the same money in runs, report and export."""
    runs = listed(command, history, "--where", "status=failed")
    words = ("--where", "status=failed", "--format", "json", "--ledger", history)
    total = json.loads(command("report", *words).out)["total"]
    assert Decimal(total["cost_usd"]) == sum(Decimal(run["cost_usd"] or 0) for run in runs)
    assert total["calls"] == sum(run["calls"] for run in runs)
    lines = command("export", "--where", "status=failed", "--ledger", history).out.splitlines()
    assert len(lines) == total["calls"]
    ids = {run["run_id"] for run in runs if run["calls"]}
    assert {json.loads(line)["run_id"] for line in lines} == ids


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["runs", "--where", "modle=x"], "did you mean model?"),
        (["export", "--where", "cost>lots"], "cost 'lots' is not a number"),
        (["report", "--by", "modle"], "did you mean model?"),
        (["runs", "--order", "price"], "cannot order by 'price'"),
        (["runs", "--since", "2199-01-01"], "is in the future"),
        (["report", "--tz", "Mars/Base"], "is not a time zone"),
    ],
)
def test_a_mistake_is_wrong_usage_with_the_way_out(command, history, words, part):
    """Exit 2; stderr names the mistake and the nearest word."""
    said = command(*words, "--ledger", history)
    assert said.code == 2
    assert part in said.err
    assert said.out == ""


def test_rates_of_a_model_are_per_million_tokens(command):
    """`price MODEL` without amounts prints the rates per 1M tokens, one column a tier."""
    said = command("price", "gpt-4o")
    assert said.code == 0
    assert "USD per 1M tokens" in said.out
    assert "OpenAI" in said.out
    [line] = [line for line in said.out.splitlines() if line.startswith("input")]
    assert line.split()[1] == "$2.50"
    document = json.loads(command("price", "gpt-4o", "--format", "json").out)
    assert document["cost_usd"] is None
    assert document["price_version"]
    rates = {(rate["item"], rate["tier"]): rate["usd"] for rate in document["rates"]}
    assert rates["input", "standard"] == "2.5"
    assert rates["input", "batch"] == "1.25"


def test_the_rates_of_an_unknown_model_are_a_failure_with_the_nearest_name(command):
    """A typo is exit 1 with the nearest name; the JSON document is printed all the same."""
    said = command("price", "gpt4o", "--format", "json")
    assert said.code == 1
    assert "did you mean gpt-4o" in said.err
    document = json.loads(said.out)
    assert (document["cost_usd"], document["cost_status"]) == (None, "unknown_model")
    assert command("price", "gpt4o", "--input", "5", "--format", "json").code == 0


def test_decimal_points_are_in_one_column(command):
    """Amounts of one column have their decimal points below each other."""
    said = command("price", "gpt-4o", "--input", "1000000", "--output", "3")
    costs = [line for line in said.out.splitlines() if "$" in line]
    assert len({line.rindex(".") for line in costs}) == 1
