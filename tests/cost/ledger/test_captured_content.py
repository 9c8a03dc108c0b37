"""Captured content: stored on request only, apart from the ledger, bounded, and soon deleted."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError
from support.ledger_build import call, frozen, priced, root
from support.paths import ROOT

from crewmeter import semconv
from crewmeter_cost.errors import CrewMeterError, NotInCatalogueError
from crewmeter_cost.intake.captured_content import LONGEST
from crewmeter_cost.ledger.content.content_store import ContentStore, content_path, content_sink
from crewmeter_cost.ledger.content.run_content import run_content, step_content
from crewmeter_cost.ledger.content.settings import stores_content
from crewmeter_cost.ledger.maintenance.forget import forget_user
from crewmeter_cost.ledger.maintenance.prune import prune, would_prune
from crewmeter_cost.ledger.maintenance.retention import Retention
from crewmeter_cost.ledger.store import Ledger
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


def test_faults_of_content_stop_no_retention(ledger, caplog):
    """A setting that is no age, or a locked file, is reported as a fault of content alone.

    Without content the setting is not looked at.
    """
    Retention({"CREWMETER_KEEP_CONTENT": "soon"}).run(ledger)
    assert caplog.text == ""
    ingest(ledger, span(1, gen_ai__input__messages="a prompt"))
    Retention({"CREWMETER_KEEP_CONTENT": "soon"}).run(ledger)
    assert "'soon' is not a time; old content is not deleted" in caplog.text
    later = datetime.now(UTC) + timedelta(days=3)
    retention = Retention({"CREWMETER_KEEP": "1d"}, clock=later.timestamp)
    with locked(content_path(ledger.url)):
        with pytest.raises(CrewMeterError, match="captured content"):
            prune(ledger, datetime.now(UTC) - timedelta(days=1))
        assert retention.run(ledger).calls == 1
    assert "locked; old content is not deleted" in caplog.text
    assert run_content(ledger, RUN) == {}
    assert content_path(ledger.url).exists()


@contextmanager
def locked(path):
    """Hold the file as another program's writer does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield


def test_prune_takes_the_content_along(either):
    """What was captured of steps that are pruned goes with them, and is counted."""
    ingest(either, span(1, gen_ai__input__messages="a", gen_ai__output__messages="b"))
    later = datetime.now(UTC) + timedelta(hours=3)
    assert would_prune(either, later).contents == 2
    assert prune(either, later).contents == 2
    assert run_content(either, RUN) == {}


def test_prune_deletes_content_that_is_too_old(either, monkeypatch):
    """Also where its steps stay: on a machine that runs no app now, nothing else deletes it."""
    ingest(either, span(1, gen_ai__input__messages="a prompt"))
    monkeypatch.setenv("CREWMETER_KEEP_CONTENT", "0s")
    before = datetime.now(UTC) - timedelta(days=90)
    assert would_prune(either, before).contents == 1
    pruned = prune(either, before)
    assert (pruned.calls, pruned.contents) == (0, 1)
    assert ContentStore(either.url, environ={}).of_traces([TRACE]) == {}


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


def test_forget_finds_traces_by_their_content(either):
    """A trace whose agent alone names the user goes as a whole, by a dry run's count and for good.

    The ledger records no user of a step. What is deleted stays so when the spans are delivered
    once more, and a name that nothing has changes nothing.
    """
    named = {"gen_ai__operation__name": "invoke_agent", "crewmeter__user": "bob"}
    batch = [
        span(1, crewmeter__kind="agent", gen_ai__input__messages="of bob's agent", **named),
        span(2, crewmeter__user=None, gen_ai__input__messages="of bob's call"),
    ]
    ingest(either, *batch)
    with pytest.raises(CrewMeterError, match="no user 'carl'"):
        forget_user(either, "carl")
    store = ContentStore(either.url)
    assert len(store.of_traces([TRACE])) == 2
    dry = forget_user(either, "bob", dry_run=True)
    assert (dry.calls, dry.contents) == (0, 2)
    assert forget_user(either, "bob").contents == 2
    ingest(either, *batch)
    assert store.of_traces([TRACE]) == {}


def test_content_is_of_spans_that_the_ledger_took(either):
    """A late span from before what was pruned leaves none, a report that replaces another does."""
    theirs = span(1, scope="other", gen_ai__response__id="r1", gen_ai__input__messages="theirs")
    ours = span(2, gen_ai__response__id="r1", gen_ai__input__messages="ours")
    ingest(either, theirs)
    ingest(either, replace(ours, parent_span_id=theirs.span_id))
    store = ContentStore(either.url)
    assert store.of_span([TRACE], ours.span_id) == {"input_messages": "ours"}
    prune(either, datetime.now(UTC) + timedelta(hours=3))
    ingest(either, span(3, gen_ai__input__messages="late"))
    assert store.of_traces([TRACE]) == {}


READER_SQL = (
    (ROOT / "scripts" / "postgres-reader.sh").read_text().split("'SQL'\n")[1].split("SQL")[0]
)


@pytest.fixture
def grafana_url(postgres_url):
    """The URL with which Grafana reads a database that the stack's script set up."""
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(READER_SQL.replace(":'password'", "'of-a-test'"))
        yield make_url(postgres_url).set(username="grafana_reader", password="of-a-test")
        connection.exec_driver_sql("DROP OWNED BY grafana_reader")
        connection.exec_driver_sql("DROP ROLE grafana_reader")
    admin.dispose()


def test_grafana_reads_the_ledger_and_no_content(postgres_url, grafana_url):
    """Its login reads every table and view of the ledger, and no prompt."""
    with Ledger.open(postgres_url) as ledger:
        ingest(ledger, span(1, gen_ai__input__messages="a prompt"))
        assert run_content(ledger, RUN) != {}
    grafana = create_engine(grafana_url, isolation_level="AUTOCOMMIT")
    with grafana.connect() as reader:
        everything = reader.exec_driver_sql(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
            "AND relkind IN ('r', 'v', 'm', 'p') AND relname <> 'captured_content'"
        )
        names = everything.scalars().all()
        assert len(names) > 10
        for name in names:
            reader.exec_driver_sql(f'SELECT * FROM "{name}" LIMIT 1')
        assert reader.exec_driver_sql("SELECT count(*) FROM call").scalar() == 1
        with pytest.raises(ProgrammingError, match="permission denied"):
            reader.exec_driver_sql("SELECT text FROM captured_content")
    grafana.dispose()


def test_no_content_is_stored_where_grafana_could_read_it(postgres_url, grafana_url, caplog):
    """A database of an earlier setup, whose login reads all: the call is stored, no prompt is."""
    admin = create_engine(postgres_url)
    with admin.begin() as connection:
        connection.exec_driver_sql("GRANT pg_read_all_data TO grafana_reader")
    with Ledger.open(postgres_url) as ledger:
        ingest(ledger, span(1, gen_ai__input__messages="a prompt"))
        assert "grafana_reader could read captured content" in caplog.text
        assert run_content(ledger, RUN) == {}
        assert len(ledger_calls(ledger)) == 1
    admin.dispose()


def ledger_calls(ledger):
    with ledger.reading() as connection:
        return connection.exec_driver_sql("SELECT id FROM call").fetchall()


def test_a_deleted_store_gives_its_space_back(ledger):
    """Thousands of items go in several transactions, and the file becomes small again."""
    store = ContentStore(ledger.url, environ={"CREWMETER_KEEP_CONTENT": "0s"})
    rows = [
        CapturedContent(TRACE, f"{n:016x}", 1, None, "tool_result", "x" * 4000) for n in range(900)
    ]
    store.write(rows)
    path = content_path(ledger.url)
    assert path.stat().st_size > 3_000_000
    assert store.expire() == 900
    assert path.stat().st_size < 100_000


def test_content_is_read_after_its_writer_was_killed(ledger):
    """What a killed process left half written is rolled back by the reader."""
    ingest(ledger, span(1, gen_ai__input__messages="a prompt"))
    path = content_path(ledger.url)
    kill = (
        "import os, sqlite3, sys\n"
        "store = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "store.execute('PRAGMA cache_size = 1')\n"
        "store.execute('BEGIN IMMEDIATE')\n"
        "for n in range(500):\n"
        "    row = ('t', str(n), 'i', 1, 1, None, 'x' * 2000)\n"
        "    store.execute('INSERT INTO captured_content VALUES (?, ?, ?, ?, ?, ?, ?)', row)\n"
        "os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", kill, str(path)], check=False)
    assert path.with_name(f"{path.name}-journal").stat().st_size > 0
    assert run_content(ledger, RUN) == {"0000000000000001": {"input_messages": "a prompt"}}


def test_a_reader_deletes_nothing(ledger):
    """Whoever only looks at a damaged store reads why, and the file stays as it was."""
    ingest(ledger, span(1))
    path = content_path(ledger.url)
    path.write_bytes(b"no database at all" * 500)
    with pytest.raises(CrewMeterError, match="not a database"):
        run_content(ledger, RUN)
    assert path.read_bytes() == b"no database at all" * 500


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
    with locked(content_path(ledger.url)):
        store = ContentStore(ledger.url)
        ingest(ledger, span(2, gen_ai__input__messages="b"), store=store)
        ingest(ledger, span(3, gen_ai__input__messages="c"), store=store)
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
