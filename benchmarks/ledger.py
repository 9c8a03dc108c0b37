"""What the ledger takes and how fast it answers: ``python benchmarks/ledger.py [--calls N]
[--history N…] [--batch N] [--ledger URL]``.

Writes: calls a second through `Ledger.write` (durable, as the sidecar runs it) beside raw
``sqlite3.executemany`` of the same rows into the same table with the same indexes. Reports: the
median of several readings over 30 days, by model and by crew and agent, beside scanning the calls
for the same figures.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.ledger.write.rows import CALL_COLUMNS
from crewmeter_cost.pricing.charge import Charge
from crewmeter_cost.pricing.charge_result import FrozenRates
from crewmeter_cost.records import Call, CallContext

SECOND = 10**9
UNTIL = datetime(2026, 11, 21, tzinfo=UTC)
DAYS = 30
LIMITS = {"write": 35_000, "share": 0.25, "report": 0.030, "speedup": 50}


def contexts(draw: random.Random) -> list[CallContext]:
    """Return a company: 5 teams, 60 users, 8 crews of 3 agents."""
    return [
        CallContext(
            run_kind="crew",
            run_name=f"crew {crew}",
            crew=f"crew {crew}",
            agent=f"agent {crew}.{agent}",
            task=f"task {crew}.{agent}",
            team=f"team {crew % 5}",
            user=f"user {draw.randrange(12) * 5 + crew % 5}",
            service="app",
            environment="prod",
            tags=(("cost_center", str(crew % 4)),),
        )
        for crew in range(8)
        for agent in range(3)
        for _ in range(10)
    ]


def batches(count: int, size: int, days: float = DAYS, seed: int = 1):
    """`count` priced calls in batches, evenly over `days` days; six calls a run."""
    draw = random.Random(seed)
    home = contexts(draw)
    charge = Charge(5_250_000_000, "priced", (), "openai", "gpt-4o", "genai-prices", "v1")
    started = int((UNTIL - timedelta(days=days)).timestamp()) * SECOND
    step = int(days * 86_400 * SECOND) // count
    usage = [
        TokenUsage(draw.randrange(200, 9000), draw.randrange(20, 900), cache_read=128)
        for _ in range(500)
    ]
    names = (
        "run_kind",
        "run_name",
        "crew",
        "agent",
        "task",
        "team",
        "user",
        "service",
        "environment",
        "tags",
    )
    batch = []
    for number in range(count):
        if number % 6 == 0:
            trace, at = f"{draw.getrandbits(128):032x}", draw.choice(home)
            context = CallContext(
                run_id=f"{draw.getrandbits(64):016x}", **{name: getattr(at, name) for name in names}
            )
        model = f"model-{draw.randrange(9)}"
        begin = started + number * step
        call = Call(
            trace,
            f"{draw.getrandbits(64):016x}",
            None,
            begin,
            begin + int(draw.lognormvariate(0.5, 0.8) * SECOND),
            "chat",
            "openai",
            "api.openai.com",
            model,
            model,
            f"chatcmpl-{draw.getrandbits(128):032x}",
            usage[number % 500],
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
        batch.append((call, charge))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def frozen(version: str) -> FrozenRates:
    return FrozenRates(version, "genai-prices", "openai", "gpt-4o", "{}")


def write(ledger: Ledger, count: int, size: int, days: float) -> float:
    """Seconds spent in `Ledger.write` for `count` calls."""
    spent = 0.0
    for batch in batches(count, size, days):
        began = time.perf_counter()
        ledger.write(batch, (), frozen)
        spent += time.perf_counter() - began
    return spent


def raw(source: Path, target: Path, size: int) -> tuple[int, float]:
    """Rows and seconds of ``executemany`` of the same rows into an empty copy of `call`, committed
    and synced per batch.
    """
    given = sqlite3.connect(source)
    rows = given.execute(
        f"SELECT {', '.join(CALL_COLUMNS)} FROM call ORDER BY id LIMIT 200000"
    ).fetchall()
    statements = [
        row[0]
        for row in given.execute(
            "SELECT sql FROM sqlite_master WHERE tbl_name = 'call' AND sql IS NOT NULL ORDER BY "
            "type DESC"
        )
    ]
    given.close()
    taking = sqlite3.connect(target)
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "cache_size = -64000",
        "wal_autocheckpoint = 4000",
    ):
        taking.execute(f"PRAGMA {pragma}")
    for statement in statements:
        taking.execute(statement)
    sql = (
        f"INSERT INTO call ({', '.join(CALL_COLUMNS)}) VALUES "
        f"({', '.join('?' * len(CALL_COLUMNS))})"
    )
    began = time.perf_counter()
    for start in range(0, len(rows), size):
        taking.executemany(sql, rows[start : start + size])
        taking.commit()
    spent = time.perf_counter() - began
    taking.close()
    return len(rows), spent


def timed(action, times: int = 7) -> float:
    """Median seconds."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


SCAN = (
    "SELECT provider, model, COUNT(*), SUM(cost_usd), SUM(input_tokens) FROM calls WHERE "
    "time >= :low AND time < :high GROUP BY 1, 2"
)


def scan(ledger: Ledger) -> None:
    """Return the same figures without roll-ups."""
    window = {
        "low": int((UNTIL - timedelta(days=DAYS)).timestamp()),
        "high": int(UNTIL.timestamp()),
    }
    with ledger.engine.connect() as connection:
        connection.execute(text(SCAN), window).all()


def verdict(name: str, value: str, limit: str, good: bool) -> None:
    print(f"{name:<52} {value:>16}   limit {limit:<14} {'ok' if good else 'MISSED'}")


def writes(requested: argparse.Namespace, folder: Path) -> None:
    """Durable writes beside raw ``executemany``."""
    path = folder / "ledger.db"
    with Ledger.open(requested.ledger or str(path), durable=True) as ledger:
        spent = write(ledger, requested.calls, requested.batch, days=1 / 24)
        rate = requested.calls / spent
        verdict(
            f"write, batches of {requested.batch:,}",
            f"{rate:,.0f} calls/s",
            f"{LIMITS['write']:,}",
            rate >= LIMITS["write"],
        )
        if requested.ledger is None:
            count, plain = raw(path, folder / "raw.db", requested.batch)
            share = rate / (count / plain)
            verdict(
                f"of raw executemany ({count / plain:,.0f} rows/s)",
                f"{share:.0%}",
                f"{LIMITS['share']:.0%}",
                share >= LIMITS["share"],
            )
            size = sum(each.stat().st_size for each in folder.glob("ledger.db*"))
            print(f"{'bytes per call, everything':<52} {size / requested.calls:>16.0f}")


WINDOWS = {
    "from midnight to midnight": (0, 0),
    "edges at :17 and :37": (17, 37),
    "edges at :30, the most calls": (30, 30),
}
"""Minutes after the hour at which the reported windows begin and end."""


def reports(ledger: Ledger, history: int) -> None:
    """Time reports over 30 days on `history` calls."""
    longest = 0.0
    for name, (begins, ends) in WINDOWS.items():
        since, until = (
            UNTIL - timedelta(days=DAYS) + timedelta(minutes=begins),
            UNTIL - timedelta(minutes=60 - ends if ends else 0),
        )
        spent = timed(
            lambda since=since, until=until: report(ledger, by=["model"], since=since, until=until)
        )
        longest = max(longest, spent)
        verdict(
            f"by model, {history:,} calls, {name}",
            f"{spent * 1000:.1f} ms",
            "30 ms",
            spent < LIMITS["report"],
        )
    for by in (["crew", "agent"], ["hour"]):
        spent = timed(
            lambda by=by: report(ledger, by=by, since=UNTIL - timedelta(days=DAYS), until=UNTIL)
        )
        name = f"by {' and '.join(by)}, {history:,} calls"
        print(f"{name:<52} {spent * 1000:>13.1f} ms")
    scanned = timed(lambda: scan(ledger), times=1)
    good = scanned / longest >= LIMITS["speedup"] or history < 5e6
    verdict(
        f"the slowest beside scanning ({scanned * 1000:,.0f} ms)",
        f"{scanned / longest:.0f}x",
        "50x at 5 M",
        good,
    )


def main() -> None:
    """Print every figure beside its limit."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--calls",
        type=int,
        default=60_000,
        help="calls written as they come in a busy hour; 0: no writing",
    )
    options.add_argument(
        "--history",
        type=int,
        nargs="+",
        default=[30_000],
        help="calls spread over 30 days, for the reports; several to see what grows",
    )
    options.add_argument("--batch", type=int, default=5_000)
    options.add_argument(
        "--ledger",
        help="another ledger, e.g. postgresql+psycopg://…, for one history; default: temporary "
        "SQLite files",
    )
    options.add_argument(
        "--keep",
        type=Path,
        help="folder where to leave the SQLite files of the histories, and to find them again",
    )
    requested = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="crewmeter-bench-") as temporary:
        folder = Path(temporary)
        if requested.calls:
            writes(requested, folder)
        for history in requested.history:
            other = (requested.keep or folder) / f"history-{history}.db"
            found = other.exists()
            with Ledger.open(requested.ledger or str(other), durable=True) as ledger:
                if not found:
                    write(ledger, history, requested.batch, DAYS)
                reports(ledger, history)


if __name__ == "__main__":
    main()
