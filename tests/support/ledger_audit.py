"""The ledger's books recomputed from its rows in the plainest way, to hold roll-ups, latencies,
views and run totals against.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, defaultdict

from crewmeter_cost.ledger.schema.latency_buckets import BOUNDS_NS
from crewmeter_cost.ledger.schema.rollup_dimensions import DIMENSIONS, LATENCY
from support.rows import label_names, named_rows, rows

HOUR_NS = 3600 * 10**9
AMOUNTS = (
    "calls",
    "failed_calls",
    "unpriced_calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)


def quantile(counts, share: float) -> float | None:
    """The `share` quantile (s) from bucket counts in the plainest way, linear inside a bucket."""
    total = sum(counts.values())
    if total <= 0:
        return None
    wanted, seen = share * total, 0
    for bucket in sorted(counts):
        count = counts[bucket]
        if count > 0 and seen + count >= wanted:
            low = BOUNDS_NS[bucket - 1] if bucket else 0
            return (low + (BOUNDS_NS[bucket] - low) * max(0.0, wanted - seen) / count) / 1e9
        seen += count
    return BOUNDS_NS[max(counts)] / 1e9


class BillingLog:
    """Everything in the ledger, read once, with names instead of label ids."""

    def __init__(self, ledger) -> None:
        tags = {
            row["id"]: json.loads(row["tags"])
            for row in rows(ledger, "SELECT id, tags FROM tag_set")
        }
        self.calls = [
            row | {"tags": tags.get(row["tag_set"], {})} for row in named_rows(ledger, "call")
        ]
        self.steps = named_rows(ledger, "step")
        self.runs = named_rows(ledger, "run")
        for call in self.calls:
            call["model"] = call["request_model"] or call["response_model"]
            call["hour"] = call["started_ns"] // HOUR_NS * 3600
            call["amounts"] = self._amounts(call)

    @staticmethod
    def _amounts(call):
        unpriced = int(call["cost_pusd"] is None and call["state"] != 2)
        return [
            1,
            int(call["state"] > 0),
            unpriced,
            call["input_tokens"] or 0,
            call["cache_read_tokens"] or 0,
            (call["cache_write_5m_tokens"] or 0) + (call["cache_write_1h_tokens"] or 0),
            call["output_tokens"] or 0,
            call["reasoning_tokens"] or 0,
            call["cost_pusd"] or 0,
            call["duration_ns"],
        ]

    def rollups(self):
        """(dimension, hour, key, key2) → [amounts…, cost, duration]."""
        books = defaultdict(lambda: [0] * 10)

        def book(dimension, hour, key, key2, amounts):
            sums = books[dimension, hour, key, key2]
            sums[:] = [old + new for old, new in zip(sums, amounts, strict=True)]

        for call in self.calls:
            hour, amounts = call["hour"], call["amounts"]
            for name, dimension in DIMENSIONS.items():
                if name in ("run", "tool", "tag") or (name == "error" and not call["state"]):
                    continue
                book(name, hour, call.get(dimension.key), call.get(dimension.key2), amounts)
            for key, value in call["tags"].items():
                book("tag", hour, f"{key}={value}", None, amounts)
            if call["tool"]:
                book("tool", hour, call["tool"], call["agent"], [0, 0, *amounts[2:9], 0])
        for step in self.steps:
            if step["kind"] == "tool":
                amounts = [1, int(step["state"] > 0), *[0] * 7, step["duration_ns"]]
                book(
                    "tool",
                    step["started_ns"] // HOUR_NS * 3600,
                    step["name"],
                    step["agent"],
                    amounts,
                )
        for run in self.runs:
            if run["status"] != "running":
                cost = run["cost_whole_usd"] * 10**12 + run["cost_pusd"]
                amounts = [
                    1,
                    int(run["status"] != "ok"),
                    run["unpriced_calls"],
                    run["input_tokens"],
                    0,
                    0,
                    run["output_tokens"],
                    0,
                    cost,
                ]
                book(
                    "run",
                    run["started_ns"] // HOUR_NS * 3600,
                    run["name"],
                    run["status"],
                    [*amounts, run["duration_ns"]],
                )
        return {key: sums for key, sums in books.items() if any(sums)}

    def latencies(self):
        """(dimension, hour, key, bucket) → count."""
        counts = Counter()
        for call in self.calls:
            bucket = bisect_left(BOUNDS_NS, call["duration_ns"])
            for name in ("total", "model", "crew", "agent", "provider", "team", "task"):
                counts[name, call["hour"], call.get(name), bucket] += 1
            if call["ttft_ns"] is not None:
                counts[
                    "ttft", call["hour"], call["model"], bisect_left(BOUNDS_NS, call["ttft_ns"])
                ] += 1
        for step in self.steps:
            if step["kind"] == "tool":
                counts[
                    "tool",
                    step["started_ns"] // HOUR_NS * 3600,
                    step["name"],
                    bisect_left(BOUNDS_NS, step["duration_ns"]),
                ] += 1
        for run in self.runs:
            if run["status"] != "running":
                counts[
                    "run",
                    run["started_ns"] // HOUR_NS * 3600,
                    run["name"],
                    bisect_left(BOUNDS_NS, run["duration_ns"]),
                ] += 1
        return counts


def stored_rollups(ledger):
    names = label_names(ledger)
    by_code = {dimension.code: name for name, dimension in DIMENSIONS.items()}
    return {
        (by_code[row["dimension"]], row["hour"], names.get(row["key"]), names.get(row["key2"])): [
            *(row[name] for name in AMOUNTS),
            row["cost_whole_usd"] * 10**12 + row["cost_pusd"],
            row["duration_ns"],
        ]
        for row in rows(ledger, "SELECT * FROM rollup_hour")
    }


def stored_latencies(ledger, table="latency_hour", start="hour"):
    names = label_names(ledger)
    by_code = {code: name for name, code in LATENCY.items()}
    return {
        (by_code[row["dimension"]], row[start], names.get(row["key"]), row["bucket"]): row["count"]
        for row in rows(ledger, f"SELECT * FROM {table}")
    }


def assert_books_hold(ledger) -> BillingLog:
    """Every roll-up, latency count and run total equals the sum of the rows."""
    books = BillingLog(ledger)
    assert stored_rollups(ledger) == books.rollups()
    hourly = books.latencies()
    assert stored_latencies(ledger) == dict(hourly)
    daily = Counter()
    for (dimension, hour, key, bucket), count in hourly.items():
        daily[dimension, hour // 86400 * 86400, key, bucket] += count
    assert stored_latencies(ledger, "latency_day", "day") == dict(daily)
    for run in books.runs:
        mine = [call for call in books.calls if call["run"] == run["id"]]
        tools = [
            step for step in books.steps if step["run"] == run["id"] and step["kind"] == "tool"
        ]
        sums = [
            sum(column) for column in zip(*(call["amounts"] for call in mine), strict=True)
        ] or [0] * 10
        assert (
            run["calls"],
            run["failed_calls"],
            run["unpriced_calls"],
            run["input_tokens"],
            run["output_tokens"],
        ) == (*sums[:4], sums[6])
        assert run["priced_calls"] == sum(call["cost_pusd"] is not None for call in mine)
        assert run["cost_whole_usd"] * 10**12 + run["cost_pusd"] == sums[8]
        assert (run["tool_calls"], run["failed_tool_calls"]) == (
            len(tools),
            sum(step["state"] > 0 for step in tools),
        )
    return books
