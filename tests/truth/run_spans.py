"""Run the cases that are spans of instrumentors: real OTLP to a real sidecar.

PYTHONPATH=tests python -m truth.run_spans CASES.json ROWS.json
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from truth.sidecar_process import exported, running_sidecar

_MINUTE_NS = 60 * 10**9


def otlp_span(span: dict[str, Any], trace: str, number: int, now_ns: int) -> dict[str, Any]:
    """Return a span of a case as OTLP JSON."""
    start = now_ns - _MINUTE_NS + round(float(span.get("start", 0)) * 1e9)
    end = start + round(float(span.get("seconds", 1)) * 1e9)
    return {
        "traceId": span.get("trace", trace),
        "spanId": span.get("id", f"{number:016x}"),
        "parentSpanId": span.get("parent", ""),
        "name": span.get("name", "chat x"),
        "kind": 3,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(end),
        "status": {},
        "attributes": [
            {"key": key, "value": any_value(value)} for key, value in span["attributes"].items()
        ],
    }


def any_value(value: Any) -> dict[str, Any]:
    """Return a value in OTLP's JSON."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [any_value(each) for each in value]}}
    return {"stringValue": value}


def request_body(spans: list[tuple[str, dict[str, Any]]]) -> bytes:
    """Return an OTLP request of (scope, span) pairs.

    A scope is its name, its version and its service's name, with spaces between.
    """
    groups = []
    for scope, span in spans:
        name, version, service = (*scope.split(" "), "", "")[:3]
        scoped = {"scope": {"name": name, "version": version}, "spans": [span]}
        named = [{"key": "service.name", "value": any_value(service)}] if service else []
        groups.append({"resource": {"attributes": named}, "scopeSpans": [scoped]})
    return json.dumps({"resourceSpans": groups}).encode()


def main(cases_file: str, rows_file: str) -> None:
    """Send every case, and write the rows of each by its name."""
    cases = json.loads(Path(cases_file).read_text("utf-8"))
    now_ns = time.time_ns()
    owner: dict[str, str] = {}
    batches: list[list[list[tuple[str, dict[str, Any]]]]] = []
    for number, case in enumerate(cases, 1):
        trace = f"{number:032x}"
        made = []
        for batch in case["spans"]:
            spans = []
            for span in batch:
                record = otlp_span(span, trace, number * 100 + len(spans) + len(made) * 10, now_ns)
                owner[record["spanId"] + record["traceId"]] = case["name"]
                scope = (span.get("scope", "x"), span.get("scope_version", ""))
                spans.append((" ".join((*scope, span.get("service", ""))), record))
            made.append(spans)
        batches.append(made)
    with tempfile.TemporaryDirectory(prefix="crewmeter-truth-") as folder:
        ledger = f"sqlite:///{folder}/spans.db"
        with running_sidecar(ledger, Path(folder)) as url:
            # The first batches of all cases together, then the second ones: order is stored by
            # case.
            for step in range(max(len(made) for made in batches)):
                together = [pair for made in batches if step < len(made) for pair in made[step]]
                post(url, request_body(together))
        rows: dict[str, list[Any]] = {case["name"]: [] for case in cases}
        for row in exported(ledger):
            name = owner.get(row["span_id"] + row["trace_id"])
            if name is not None:
                rows[name].append(row)
    Path(rows_file).write_text(json.dumps(rows), "utf-8")


def post(url: str, body: bytes) -> None:
    """Send one request. It is answered after the commit."""
    request = urllib.request.Request(f"{url}/v1/traces", body, {"content-type": "application/json"})
    urllib.request.urlopen(request, timeout=60).read()


if __name__ == "__main__":
    main(*sys.argv[1:])
