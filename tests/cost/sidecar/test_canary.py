"""Words of content and keys, sent by whichever instrumentor, come out of a sidecar nowhere."""

from __future__ import annotations

from support.sidecars import request

WORD = "canaryword"
KEY = "sk-canarykey-0123456789abcdef"
CONTENT = (
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.call.arguments",
    "gen_ai.prompt.0.content",
    "gen_ai.completion.0.content",
    "llm.input_messages.0.message.content",
    "input.value",
    "output.value",
    "traceloop.entity.input",
    "http.request.header.authorization",
    "exception.message",
    "exception.stacktrace",
)


def everything_served(running) -> dict[str, bytes]:
    """What a reader can get: metrics, API, and every panel and list that the page draws."""
    boards = running.get("/api/boards").json()["boards"]
    panels = {panel["id"] for board in boards for row in board["rows"] for panel in row["panels"]}
    filters = {name for board in boards for name in board["filters"]}
    paths = [
        *("/", "/metrics", "/readyz", "/api/report?by=model", "/api/runs", "/api/page/runs"),
        *(f"/api/panels/{name}?from=now-30d" for name in sorted(panels)),
        *(f"/api/filters/{name}?from=now-30d" for name in sorted(filters)),
        *("/api/runs/00000000000000cc", "/api/page/runs/00000000000000cc"),
    ]
    answers = {path: running.get(path) for path in paths}
    assert {path: got.status for path, got in answers.items() if got.status >= 500} == {}
    return {path: got.body for path, got in answers.items()}


def test_neither_content_nor_keys_are_served_or_stored(fresh):
    """Prompts, answers, headers and stack traces under every usual name, and a key where the
    model's name belongs: not on any page, nor in file, live WAL or log.
    """
    content = dict.fromkeys(CONTENT, f"{WORD} {KEY}")
    for extra in (
        {"gen_ai.request.model": f"openai/{KEY}", "gen_ai.response.model": KEY},
        {"crewmeter.run.id": "00000000000000cc", "crewmeter.run.kind": "crew"},
    ):
        for scope_kind in ("llm", "tool"):
            body = request(3, **content, **extra, **{"crewmeter.kind": scope_kind})
            assert fresh.post(body).status == 200
    assert len(fresh.stored()) > 0
    served = everything_served(fresh)
    assert b"[redacted]" in served["/metrics"]
    assert b"[redacted]" in served["/api/report?by=model"]
    files = [path for path in fresh.ledger.parent.glob("ledger.db*") if path.is_file()]
    assert any(path.name.endswith("-wal") for path in files)
    written = {path.name: path.read_bytes() for path in files}
    written["log"] = fresh.raw_log().encode()
    for name, found in {**served, **written}.items():
        assert WORD.encode() not in found, name
        assert KEY.encode() not in found, name


def test_stored_content_is_served_in_one_way_only(nursery, tmp_path):
    """A sidecar that stores content gives it under /api/content, and nowhere else.

    Keys are scrubbed before anything is written, and the ledger holds no content.
    """
    ledger = tmp_path / "ledger.db"
    content = dict.fromkeys(CONTENT, f"{WORD} {KEY}")
    run = {"crewmeter.run.id": "00000000000000cc", "crewmeter.run.kind": "crew"}
    with nursery.start(ledger, env={"CREWMETER_CONTENT": "store"}) as running:
        body = request(1, spans=[(b"t" * 16, b"s" * 8)], **content, **run)
        assert running.post(body).status == 200
        answer = running.get(f"/api/content/00000000000000cc/{(b's' * 8).hex()}")
        texts = {item["item"]: item["text"] for item in answer.json()["items"]}
        assert set(texts) >= {"input_messages", "output_messages", "tool_arguments"}
        assert all(WORD in text and KEY not in text for text in texts.values())
        for path, body in everything_served(running).items():
            assert WORD.encode() not in body, path
        for path in ledger.parent.glob("ledger.db*"):
            assert KEY.encode() not in path.read_bytes(), path.name
            stored = WORD.encode() in path.read_bytes()
            assert stored == (path.name == "ledger.db.content"), path.name
        assert WORD not in running.raw_log()


def test_a_sidecar_stores_no_content_unless_requested(fresh):
    """Whatever apps capture and send, the sidecar's own setting decides."""
    run = {"crewmeter.run.id": "00000000000000cc", "crewmeter.run.kind": "crew"}
    body = request(1, spans=[(b"t" * 16, b"s" * 8)], **{"gen_ai.input.messages": WORD}, **run)
    assert fresh.post(body).status == 200
    assert not fresh.ledger.with_name("ledger.db.content").exists()
    answer = fresh.get(f"/api/content/00000000000000cc/{(b's' * 8).hex()}")
    assert (answer.status, answer.json()) == (200, {"items": []})
