"""The FOCUS export follows the specification's rules, and adds up to the ledger to the
pico-dollar.
"""

from __future__ import annotations

import csv
import json
import re
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest

from crewmeter_cost.csv_text import csv_line
from crewmeter_cost.finance import focus
from crewmeter_cost.ledger.read.calls import billed
from crewmeter_cost.ledger.read.report import report

RULES = tomllib.loads((Path(__file__).parent / "focus_rules.toml").read_text())["columns"]
MANDATORY = 21
"""Columns that FOCUS 1.2 makes mandatory."""
DECIMAL = re.compile(r"-?\d+(\.\d+)?")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(scope="module")
def exported(month):
    """The rows, and what was left out."""
    export = focus.FocusExport()
    return list(csv.DictReader(focus.rows(billed(month), export))), export


def test_every_mandatory_column_is_there_and_ours_are_marked(exported):
    """All 21, and nothing beside the specification without `x_`."""
    rows, _ = exported
    assert sum(rule["presence"] == "M" for rule in RULES.values()) == MANDATORY
    assert {name for name in rows[0] if not name.startswith("x_")} == set(RULES)
    assert list(rows[0]) == list(focus.COLUMNS)


@pytest.mark.parametrize("column", sorted(RULES))
def test_each_column_keeps_its_rule(exported, column):
    """Type, nullability and allowed values; decimals without exponents, times in UTC with a Z."""
    rule = RULES[column]
    for row in exported[0]:
        value = row[column]
        if not value:
            assert rule["nulls"], f"{column} is null"
            continue
        if rule["type"] == "decimal":
            assert DECIMAL.fullmatch(value), value
        elif rule["type"] == "datetime":
            assert MOMENT.fullmatch(value), value
        elif rule["type"] == "json":
            assert isinstance(json.loads(value), dict)
        assert value in rule.get("values", [value])


def test_rows_that_depend_on_each_other_agree(exported):
    """Quantity times unit price is the cost, periods nest, and a name comes with its id."""
    for row in exported[0]:
        cost = Decimal(row["BilledCost"])
        assert (
            cost
            == Decimal(row["EffectiveCost"])
            == Decimal(row["ListCost"])
            == Decimal(row["ContractedCost"])
        )
        by_price = Decimal(row["ListUnitPrice"]) * Decimal(row["PricingQuantity"])
        assert abs(by_price - cost) <= Decimal("0.000000000001") * max(
            1, int(row["PricingQuantity"])
        )
        assert (
            row["BillingPeriodStart"]
            <= row["ChargePeriodStart"]
            < row["ChargePeriodEnd"]
            <= row["BillingPeriodEnd"]
        )
        assert (
            bool(row["SubAccountId"]) == bool(row["SubAccountName"]) == bool(row["SubAccountType"])
        )


def test_the_sum_is_the_ledgers_to_the_pico_dollar(month, exported):
    """And the calls without a price are counted, not written as nothing."""
    rows, export = exported
    total = report(month, by=["model"], since=None, until=None).document()["total"]
    assert sum(Decimal(row["BilledCost"]) for row in rows) == Decimal(total["cost_usd"])
    assert export.unpriced_calls == total["unpriced_calls"] > 0
    priced = (
        total["calls"]
        - total["unpriced_calls"]
        - sum(record.cost_pusd is None and not record.unpriced for record in billed(month))
    )
    assert sum(int(row["x_Calls"]) for row in rows) == priced


def test_a_formula_in_a_name_stays_text():
    """A crew called =1+1 must not run in finance's spreadsheet."""
    assert csv_line(["=1+1", "-2", "plain", None, 3]) == "'=1+1,'-2,plain,,3\n"
