"""How many files an addition takes: tried in a copy of the source.

Each test copies the packages, edits the files that CONTRIBUTING.md names and no other, and runs
the copy.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROVIDER = '''
"""A protocol that nobody speaks."""
from crewmeter import semconv
from crewmeter.providers.provider_protocol import ProviderProtocol, Route, UsageShape, keys
from crewmeter.usage.draft import UsageDraft, count

def _read(raw, _provider):
    draft = UsageDraft()
    draft.input = count(raw, "heard")
    draft.output = count(raw, "spoken")
    return draft

TOY = ProviderProtocol(
    name="toy",
    provider="toy",
    routes=(Route("converse", semconv.CHAT, "/toy/"),),
    shapes=(UsageShape("heard", _read, keys("heard spoken")),),
)
'''
CALL = """
import httpx, json
from support.canned_http import canned
from support.http_recording import recording
answer = b'{"id": "a1", "model": "toy-1", "usage": {"heard": 7, "spoken": 5}}'
with canned(answer) as server, recording() as recorder:
    httpx.post(server.url + "/toy/v1/converse", json={"model": "toy-1"})
(exchange,) = recorder.closed
usage = exchange.usage
print(json.dumps([exchange.operation, exchange.provider, usage.status, usage.input, usage.output]))
"""

MIGRATION = '''
"""A column of cache writes for five minutes."""
import sqlalchemy as sa
from alembic import op

revision = "{number}"
down_revision = "{before}"

def upgrade() -> None:
    column = sa.Column("cache_write_5m_tokens", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("rollup_hour", column)
'''
REPORT = """
import json, sys
from datetime import UTC, datetime
from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.ledger.sql import Sql
from crewmeter_cost.sidecar.openapi import description
now = datetime(2026, 11, 20, tzinfo=UTC)
with Ledger.open(sys.argv[1]) as ledger:
    load_history(ledger, days=12, seed=1, until=now, calls_per_day=40)
    with ledger.read_session() as session:
        session_sum = session.value(Sql("SELECT sum(cache_write_5m_tokens) FROM call"))
    whole = report(ledger, by=["model"]).document()
    part = report(ledger, by=["model"], since=datetime(2026, 11, 1, 0, 20, tzinfo=UTC)).document()
described = json.loads(description())["components"]["schemas"]["Amounts"]["properties"]
print(json.dumps([session_sum, whole["total"], part["total"], sorted(described)]))
"""


@pytest.fixture
def copied(tmp_path):
    """The packages, copied, and a runner of scripts that import the copies."""
    for package in ("tracer", "cost"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    paths = [tmp_path / "tracer", tmp_path / "cost", ROOT / "tests"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}

    def run(*words: str) -> str:
        command = [sys.executable, *words]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return tmp_path, run


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


@pytest.mark.slow
def test_a_provider_is_one_file_and_its_line_in_the_registry(copied):
    """Routes, usage and name of a new protocol are read without another edit."""
    folder, run = copied
    providers = folder / "tracer/crewmeter/providers"
    (providers / "protocols/toy.py").write_text(PROVIDER, "utf-8")
    registry = providers / "registry.py"
    replace(registry, "    BEDROCK,\n", "    TOY,\n    BEDROCK,\n")
    first = "from crewmeter.providers.protocols.vertex import ("
    replace(registry, first, f"from crewmeter.providers.protocols.toy import TOY\n{first}")
    assert json.loads(run("-c", CALL)) == ["chat", "toy", "reported", 7, 5]


@pytest.mark.slow
def test_a_report_column_is_three_files(copied):
    """Its line, its stored column and the migration: roll-ups, report and API follow."""
    folder, run = copied
    schema = folder / "cost/crewmeter_cost/ledger/schema"
    columns = schema / "report_columns.py"
    replace(
        columns,
        ')\n"""In the order of the columns of `rollup_hour`."""',
        '    _tokens("cache_write_5m_tokens", "cache_write_5m_tokens"),\n'
        ')\n"""In the order of the columns of `rollup_hour`."""',
    )
    replace(
        columns,
        '    ReportColumn("output_tokens"',
        '    ReportColumn("cache_write_5m_tokens", "tokens", "5m", "Written for five minutes"),\n'
        '    ReportColumn("output_tokens"',
    )
    replace(
        schema / "tables.py",
        "    duration_ns: int = Field(sa_column=big_column())\n\n\nclass LatencyHour",
        "    duration_ns: int = Field(sa_column=big_column())\n"
        "    cache_write_5m_tokens: int = Field(sa_column=big_column())\n\n\nclass LatencyHour",
    )
    versions = schema / "migrations/versions"
    newest = max(file.name[1:5] for file in versions.glob("r0*.py"))
    number = f"{int(newest) + 1:04}"
    text = MIGRATION.format(number=number, before=newest)
    (versions / f"r{number}_cache_writes.py").write_text(text, "utf-8")
    run("-m", "crewmeter_cost.ledger.schema.generate")  # what is derived
    stored, whole, part, described = json.loads(run("-c", REPORT, str(folder / "l.db")))
    assert whole["cache_write_5m_tokens"] == stored > 0
    assert 0 < part["cache_write_5m_tokens"] <= stored
    assert "cache_write_5m_tokens" in described
