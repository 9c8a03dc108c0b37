"""Captured content: stored on request only, apart from the ledger, bounded, and soon deleted."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.ledger_build import call, frozen, priced, root

from crewmeter import semconv
from crewmeter_cost.errors import CrewMeterError, NotInCatalogueError
from crewmeter_cost.intake.captured_content import LONGEST
from crewmeter_cost.ledger.content.content_store import ContentStore, content_path, content_sink
from crewmeter_cost.ledger.content.run_content import run_content, step_content
from crewmeter_cost.ledger.content.settings import stores_content
from crewmeter_cost.ledger.maintenance.forget import forget_user
from crewmeter_cost.ledger.maintenance.prune import prune, would_prune
from crewmeter_cost.ledger.maintenance.retention import Retention
from crewmeter_cost.pipeline import Pipeline
from crewmeter_cost.pricing.price_book import PriceBook
from crewmeter_cost.records import CapturedContent, Span

DAY_NS = 86_400 * 10**9
TRACE = "0" * 31 + "1"
RUN = "00000000000000aa"
KEY = "sk-canarykey-0123456789abcdef"


def span(number: int, *, scope: str = "crewmeter", **attributes: object) -> Span:
    """Return a model call of the run, with these attributes; ``__`` in a name is a dot."""
    own = {
        semconv.OPERATION: "chat",
        semconv.PROVIDER: "openai",
        semconv.REQUEST_MODEL: "gpt-4o-mini",
        semconv.INPUT_TOKENS: 10,
        semconv.OUTPUT_TOKENS: 5,
        semconv.KIND: "llm",
        semconv.RUN_ID: RUN,
        semconv.USER: "ada",
    }
    more = {name.replace("__", "."): value for name, value in attributes.items()}
    now = time.time_ns()
    return Span(
        trace_id=TRACE,
        span_id=f"{number:016x}",
        parent_span_id=None,
        name="chat",
        started_ns=now - 10**9,
        ended_ns=now,
        error=False,
        attributes={**own, **more},
        resource={},
        scope=scope,
    )


def ingest(ledger, *spans: Span, store: ContentStore | None = None) -> None:
    store = store or ContentStore(ledger.url)
    Pipeline(ledger, PriceBook.load(), content=store).ingest(spans)


def test_nothing_is_stored_unless_requested(ledger, ledger_path, monkeypatch):
    """Without the setting there is no store, and no file appears."""
    monkeypatch.delenv("CREWMETER_CONTENT", raising=False)
    sink = content_sink(ledger.url)
    assert sink is None
    pipeline = Pipeline(ledger, PriceBook.load(), content=sink)
    pipeline.ingest([span(1, gen_ai__input__messages="a prompt")])
    assert not content_path(ledger.url).exists()
    assert run_content(ledger, RUN) == {}


@pytest.mark.parametrize(("text", "stored"), [("store", True), ("ON", True), ("", False)])
def test_the_setting_says_yes_or_no(text, stored):
    """`store` stores, nothing stores nothing, and anything else is an error."""
    assert stores_content({"CREWMETER_CONTENT": text}) is stored
    with pytest.raises(CrewMeterError, match="CREWMETER_CONTENT 'all'"):
        stores_content({"CREWMETER_CONTENT": "all"})


def test_a_step_has_its_content(either):
    """Prompt, answer and error of a call are found by run and span, in the order to read them."""
    failed = replace(span(2, gen_ai__input__messages="again"), status_message="no such tool")
    ingest(
        either,
        span(1, gen_ai__output__messages="an answer", gen_ai__input__messages="a prompt"),
        failed,
        span(3),
    )
    assert run_content(either, RUN) == {
        "0000000000000001": {"input_messages": "a prompt", "output_messages": "an answer"},
        "0000000000000002": {"input_messages": "again", "error_message": "no such tool"},
    }
    assert list(step_content(either, RUN, "0000000000000001")) == [
        "input_messages",
        "output_messages",
    ]
    assert step_content(either, RUN, "0000000000000003") == {}
    for run_id, span_id in ((RUN, "00000000000000ff"), ("other", "0000000000000001"), (RUN, "x")):
        with pytest.raises(NotInCatalogueError, match="there is no step"):
            step_content(either, run_id, span_id)


def test_a_repeated_batch_changes_nothing(either):
    """OTLP delivers at least once."""
    ingest(either, span(1, gen_ai__input__messages="first"))
    ingest(either, span(1, gen_ai__input__messages="second"))
    assert step_content(either, RUN, "0000000000000001") == {"input_messages": "first"}


def test_other_instrumentors_names_are_read(ledger):
    """OpenInference's whole values and OpenLLMetry's numbered messages are content as well."""
    ingest(
        ledger,
        span(1, scope="x", input__value="in", output__value="out"),
        span(
            2,
            scope="x",
            **{
                "gen_ai.prompt.1.content": "second",
                "gen_ai.prompt.0.role": "system",
                "gen_ai.prompt.0.content": "first",
                "llm.output_messages.0.message.content": "said",
            },
        ),
        span(
            3,
            scope="x",
            gen_ai__operation__name="execute_tool",
            crewmeter__kind="tool",
            input__value='{"q": 1}',
            output__value="found",
        ),
    )
    found = run_content(ledger, RUN)
    assert found["0000000000000001"] == {"input_messages": "in", "output_messages": "out"}
    messages = json.loads(found["0000000000000002"]["input_messages"])
    assert [(each["role"], each["parts"][0]["content"]) for each in messages] == [
        ("system", "first"),
        (None, "second"),
    ]
    assert "said" in found["0000000000000002"]["output_messages"]
    assert found["0000000000000003"] == {"tool_arguments": '{"q": 1}', "tool_result": "found"}


def test_keys_are_scrubbed_before_anything_is_written(ledger):
    """Also a password inside JSON that is itself a text of JSON, and a key at the cut."""
    nested = json.dumps({"arguments": json.dumps({"password": "hunter22-secret"})})
    at_the_cut = "x" * (LONGEST - 10) + " " + KEY
    ingest(
        ledger,
        span(1, gen_ai__input__messages=f"use {KEY}", gen_ai__output__messages=nested),
        span(2, gen_ai__input__messages=at_the_cut),
    )
    written = content_path(ledger.url).read_bytes()
    assert b"canarykey" not in written
    assert b"sk-" not in written
    assert b"hunter22" not in written
    assert written.count(b"[redacted]") >= 2


def test_an_item_is_bounded(ledger):
    """A long text is cut with a marker, and what no database holds is left out."""
    ingest(ledger, span(1, gen_ai__input__messages="\0a\udcff" + "b" * 100_000))
    text = step_content(ledger, RUN, "0000000000000001")["input_messages"]
    assert text.startswith("a?b")
    assert text.endswith("…[cut]")
    assert len(text) == LONGEST + len("…[cut]")


def messages(*texts: str) -> str:
    """Return the JSON of a message for each text."""
    parts = [[{"type": "text", "content": text}] for text in texts]
    return json.dumps([{"role": "user", "parts": part} for part in parts])


def test_json_stays_json(ledger):
    """Each of its texts is scrubbed by itself, and a secret that is a number becomes a text."""
    unended = "as in -----BEGIN RSA PRIVATE KEY-----\nMIIE"
    settings = json.dumps({"password": 12345678, "secret": ["a-bcdef"], "max_tokens": 1000000})
    ingest(
        ledger,
        span(1, gen_ai__input__messages=messages(unended, "answer"), gen_ai__output__messages="{"),
        span(2, gen_ai__input__messages=settings, gen_ai__output__messages='{"n":  1e3}'),
        span(3, gen_ai__input__messages="[" * 50_000),
    )
    found = run_content(ledger, RUN)
    assert found["0000000000000001"]["output_messages"] == "{"
    first, second = json.loads(found["0000000000000001"]["input_messages"])
    assert first["parts"][0]["content"] == "as in [redacted]"
    assert second["parts"][0]["content"] == "answer"
    assert json.loads(found["0000000000000002"]["input_messages"]) == {
        "password": "[redacted]",
        "secret": ["[redacted]"],
        "max_tokens": 1000000,
    }
    assert found["0000000000000002"]["output_messages"] == '{"n":  1e3}'
    assert found["0000000000000003"]["input_messages"] == "[" * LONGEST + "…[cut]"


@pytest.mark.parametrize(
    ("texts", "first", "last"),
    [
        (["system", "a" * 90_000, "b" * 20_000], "system", "b" * 20_000),
        (["a" * 5_000, *["\n" * 5_000] * 50, "newest"], "a" * 100 + "…[cut]", "newest"),
        (["a" * 90] * 3_000, "…[cut, 2812 items]", "a" * 90),
    ],
    ids=["one", "many", "short"],
)
def test_long_messages_are_cut_inside_their_texts(ledger, texts, first, last):
    """They are messages all the same, the newest is whole, and what is cut says so."""
    ingest(ledger, span(1, gen_ai__input__messages=messages(*texts)))
    text = step_content(ledger, RUN, "0000000000000001")["input_messages"]
    assert LONGEST // 4 < len(text) <= LONGEST
    contents = [message["parts"][0]["content"] for message in json.loads(text)]
    assert contents[0] == first
    assert contents[-1] == last
    assert "…[cut" in "".join(contents)


def test_the_file_is_private(ledger):
    """Only its owner reads it."""
    ingest(ledger, span(1, gen_ai__input__messages="a prompt"))
    assert stat.S_IMODE(content_path(ledger.url).stat().st_mode) == 0o600


def test_old_content_goes_and_calls_stay(either):
    """By default after a week: deleted by the retention, and not read before that either."""
    ingest(either, span(1, gen_ai__input__messages="a prompt"))
    young = ContentStore(either.url, clock=lambda: time.time_ns() + 6 * DAY_NS)
    old = ContentStore(either.url, clock=lambda: time.time_ns() + 8 * DAY_NS)
    assert young.expire() == 0
    assert len(young.of_traces([TRACE])) == 1
    assert old.of_traces([TRACE]) == {}
    assert old.expire() == 1
    assert young.of_traces([TRACE]) == {}
    with either.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM call").scalar() == 1


def test_the_retention_goes_by_its_own_setting(ledger):
    """`CREWMETER_KEEP_CONTENT` holds without `CREWMETER_KEEP`, also where nothing is stored now."""
    ingest(ledger, span(1, gen_ai__input__messages="a prompt"))
    Retention({"CREWMETER_KEEP_CONTENT": "1h"}).run(ledger)
    assert run_content(ledger, RUN) != {}
    time.sleep(0.01)
    assert Retention({"CREWMETER_KEEP_CONTENT": "0s"}).run(ledger) is None
    assert run_content(ledger, RUN) == {}
    with pytest.raises(CrewMeterError, match="CREWMETER_KEEP_CONTENT 'soon' is not a time"):
        Retention({"CREWMETER_KEEP_CONTENT": "soon"}).run(ledger)


def test_prune_takes_the_content_along(either):
    """What was captured of steps that are pruned goes with them, and is counted."""
    ingest(either, span(1, gen_ai__input__messages="a", gen_ai__output__messages="b"))
    later = datetime.now(UTC) + timedelta(hours=3)
    assert would_prune(either, later).contents == 2
    assert prune(either, later).contents == 2
    assert run_content(either, RUN) == {}


def test_forget_takes_the_content_of_the_user(either):
    """Theirs, and what steps without a user captured in the traces of their calls."""
    either.write([(call(1), priced())], [root()], frozen)  # user ada, in TRACE
    store = ContentStore(either.url)
    rows = [
        CapturedContent(TRACE, "00000000000000a1", 1, "ada", "input_messages", "I am Ada"),
        CapturedContent(TRACE, "00000000000000a2", 1, None, "tool_result", "Ada's file"),
        CapturedContent("f" * 32, "00000000000000a3", 1, "ada", "input_messages", "Ada again"),
        CapturedContent("e" * 32, "00000000000000a4", 1, "bob", "input_messages", "of Bob"),
    ]
    store.write(rows)
    assert forget_user(either, "ada", dry_run=True).contents == 3
    assert forget_user(either, "ada").contents == 3
    assert store.of_traces([TRACE, "f" * 32]) == {}
    assert len(store.of_traces(["e" * 32])) == 1
    path = content_path(either.url)
    if path is not None:
        assert b"Ada" not in path.read_bytes()


def test_a_damaged_store_costs_no_call(ledger, caplog):
    """The calls are in the ledger all the same, and content is stored again with the next batch."""
    path = content_path(ledger.url)
    path.write_bytes(b"no database at all" * 500)
    store = ContentStore(ledger.url)
    ingest(ledger, span(1, gen_ai__input__messages="lost"), store=store)
    assert "is damaged" in caplog.text
    ingest(ledger, span(2, gen_ai__input__messages="stored"), store=store)
    assert run_content(ledger, RUN) == {"0000000000000002": {"input_messages": "stored"}}
    with ledger.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM call").scalar() == 2


def test_a_locked_store_costs_no_call(ledger, caplog):
    """Content that cannot be written is lost with one warning, the call is not."""
    ingest(ledger, span(1, gen_ai__input__messages="a"))
    holder = sqlite3.connect(content_path(ledger.url), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        store = ContentStore(ledger.url)
        ingest(ledger, span(2, gen_ai__input__messages="b"), store=store)
        ingest(ledger, span(3, gen_ai__input__messages="c"), store=store)
    finally:
        holder.close()
    assert caplog.text.count("was not stored") == 1
    with ledger.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM call").scalar() == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_stores_its_own(ledger):
    """A process that forks between two batches stores content in both."""
    store = ContentStore(ledger.url)
    rows = [CapturedContent(TRACE, f"{n:016x}", 1, None, "tool_result", str(n)) for n in range(3)]
    store.write(rows[:1])
    child = os.fork()
    if child == 0:
        store.write(rows[1:2])
        os._exit(0)
    store.write(rows[2:])
    os.waitpid(child, 0)
    assert len(store.of_traces([TRACE])) == 3
