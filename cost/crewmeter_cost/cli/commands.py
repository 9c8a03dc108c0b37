"""Every command, with its group, its line of help and two examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COMMANDS", "Command"]

_LOOK = "Look"
_MONEY = "Money"
_RUN = "Run"
_OPERATE = "Operate"


@dataclass(frozen=True, slots=True)
class Command:
    """One command as ``crewmeter --help`` lists it."""

    group: str
    help: str
    examples: tuple[str, ...]


_ALL = (
    (
        "report",
        _LOOK,
        "Calls, tokens, cost and latency by model, crew, agent, team, day …",
        ("crewmeter report --by team --since 'last month'", "crewmeter report --by crew --by day"),
    ),
    (
        "runs",
        _LOOK,
        "List runs, or find them by a filter or a text.",
        ("crewmeter runs --where 'status=failed cost>0.5'", "crewmeter runs --order cost"),
    ),
    (
        "show",
        _LOOK,
        "Show one run as a tree, with time, tokens and cost of each step.",
        ("crewmeter show last", "crewmeter show 4f1c --format json"),
    ),
    (
        "compare",
        _LOOK,
        "Compare two runs, windows or versions, and say what explains the difference.",
        ("crewmeter compare 4f1c last", "crewmeter compare 14d..7d 7d.."),
    ),
    (
        "watch",
        _LOOK,
        "Show active runs, spend, budgets and failures, and keep them up to date.",
        ("crewmeter watch", "crewmeter watch --once --format json"),
    ),
    (
        "open",
        _LOOK,
        "Open the boards of a ledger in a browser.",
        ("crewmeter open", "crewmeter open --ledger demo.db --port 8000"),
    ),
    (
        "export",
        _LOOK,
        "Write every billed call as JSON lines, CSV or FOCUS.",
        ("crewmeter export --since 'last month'", "crewmeter export --format focus > focus.csv"),
    ),
    (
        "price",
        _MONEY,
        "Print a model's rates, or what a usage costs, line by line.",
        ("crewmeter price gpt-4o", "crewmeter price gpt-4o --input 1200 --output 300"),
    ),
    (
        "prices",
        _MONEY,
        "Show, update and check the price book.",
        ("crewmeter prices check", "crewmeter prices show gpt-4o"),
    ),
    (
        "budget",
        _MONEY,
        "Set, list and remove budgets, and see what is spent of them.",
        ('crewmeter budget set "team:growth 500 USD/month" --hard', "crewmeter budget status"),
    ),
    (
        "forecast",
        _MONEY,
        "Project this month's spend, and list unusual hours.",
        ("crewmeter forecast", "crewmeter forecast --by team"),
    ),
    (
        "statement",
        _MONEY,
        "Write a monthly statement per team, ready to print.",
        (
            "crewmeter statement --month 2026-10",
            "crewmeter statement --by team --html november.html",
        ),
    ),
    (
        "audit",
        _MONEY,
        "Compare the ledger with a provider's own usage or cost export.",
        ("crewmeter audit costs.csv", "crewmeter audit usage.csv --provider anthropic"),
    ),
    (
        "whatif",
        _MONEY,
        "Price the history under other models, another tier or a better cache.",
        ("crewmeter whatif --model gpt-4o=gpt-5-mini", "crewmeter whatif --cached 60"),
    ),
    (
        "reprice",
        _MONEY,
        "Price the history again under today's book, as audited adjustments.",
        ("crewmeter reprice --dry-run", "crewmeter reprice --since 'last month'"),
    ),
    (
        "demo",
        _RUN,
        "Run a real crew against a fake provider on this machine, or write sample data.",
        ("crewmeter demo", "crewmeter demo --days 30"),
    ),
    (
        "run",
        _RUN,
        "Run a Python program with the meter on, without changing a line of it.",
        ("crewmeter run my_crew.py", "crewmeter run -m my_package --topic kettles"),
    ),
    (
        "gate",
        _RUN,
        "Fail where cost, calls or latency rose further than allowed over a baseline.",
        (
            "crewmeter gate --baseline main.json --max 'cost +10%' --max 'calls +0'",
            "crewmeter gate --write main.json",
        ),
    ),
    (
        "mcp",
        _RUN,
        "Serve the ledger to editors and assistants (MCP on stdin and stdout).",
        ("crewmeter mcp", "crewmeter mcp --ledger team.db"),
    ),
    (
        "serve",
        _OPERATE,
        "Run the sidecar: receive OTLP, keep the ledger, serve metrics and a page.",
        ("crewmeter serve", "crewmeter serve --host 0.0.0.0 --ledger postgresql://…"),
    ),
    (
        "doctor",
        _OPERATE,
        "Check versions, instrumentation, ledger and endpoint, and say what to do.",
        ("crewmeter doctor", "crewmeter doctor --quick --format json"),
    ),
    (
        "stack",
        _OPERATE,
        "Write the whole stack (compose file, collector, boards) for your project.",
        ("crewmeter stack init observability", "crewmeter stack init observability --force"),
    ),
    (
        "dashboards",
        _OPERATE,
        "Export and check Grafana boards and alert rules.",
        ("crewmeter dashboards export boards --ledger ledger.db", "crewmeter dashboards check"),
    ),
    (
        "alerts",
        _OPERATE,
        "Send a test alert through Alertmanager, and say who receives it.",
        ("crewmeter alerts test", "crewmeter alerts test --url http://alertmanager:9093"),
    ),
    (
        "prune",
        _OPERATE,
        "Delete old detail; hourly sums stay.",
        ("crewmeter prune --keep 90d --dry-run", "crewmeter prune --keep 90d"),
    ),
    (
        "forget",
        _OPERATE,
        "Replace a user's name by a pseudonym; all sums stay.",
        ("crewmeter forget --user ada --dry-run", "crewmeter forget --user ada"),
    ),
    (
        "mirror",
        _OPERATE,
        "Keep a copy of the ledger in ClickHouse, for boards over long histories.",
        (
            "crewmeter mirror --to clickhouse://host/crewmeter",
            "crewmeter mirror --to clickhouse://host/crewmeter --every 60",
        ),
    ),
)

COMMANDS: Mapping[str, Command] = {
    name: Command(group, help, examples) for name, group, help, examples in _ALL
}
"""Name → command. The module ``crewmeter_cost.cli.NAME`` has ``register(app, help)``."""
