"""The Python client reads what the command line prints, from a ledger and from a sidecar."""

from __future__ import annotations

from decimal import Decimal

import pytest

import crewmeter_cost
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.read.report import report


@pytest.mark.slow
def test_a_report_has_rows_a_total_and_a_data_frame(month):
    """Rows and total are the ledger's report; costs are exact decimals, floats in a data frame."""
    pytest.importorskip("pandas")
    expected = report(month, by=["crew"]).document()
    with crewmeter_cost.open(str(month.engine.url)) as client:
        found = client.report(by=["crew"])
        assert [row["crew"] for row in found.rows] == [row["crew"] for row in expected["rows"]]
        assert found.total.cost_usd == Decimal(expected["total"]["cost_usd"])
        assert sum(row.cost_usd for row in found.rows) == found.total.cost_usd
        frame = found.to_pandas()
        assert list(frame.columns)[:2] == ["crew", "calls"]
        assert frame["calls"].sum() == found.total.calls
        assert frame["cost_usd"].sum() == pytest.approx(float(found.total.cost_usd))


def test_runs_are_found_and_opened(month):
    """Runs take the filter grammar; one run has its tree."""
    with crewmeter_cost.open(str(month.engine.url)) as client:
        failed = client.runs(where="status=failed", order="cost", limit=5)
        assert len(failed) == 5
        assert {run.status for run in failed} <= {"error", "abandoned"}
        run = client.run(failed[0].run_id)
        assert run.run_id == failed[0]["run_id"]
        assert run.tree["calls"] == run.calls
        total = client.report(by=[], where={"run": run.run_id}).total
        assert total.calls == run.calls


def test_mistakes_are_errors_with_a_hint(month, tmp_path):
    """A missing ledger, a wrong group and a wrong attribute name what there is."""
    with pytest.raises(CrewMeterError, match="there is no ledger"):
        crewmeter_cost.open(str(tmp_path / "none.db"))
    with crewmeter_cost.open(str(month.engine.url)) as client:
        with pytest.raises(CrewMeterError, match="cannot group by 'modle'"):
            client.report(by="modle")
        with pytest.raises(AttributeError, match="cost_usd"):
            _ = client.report(by=[]).total.price
    with pytest.raises(CrewMeterError, match="does not answer"):
        crewmeter_cost.open("http://127.0.0.1:9").runs()
