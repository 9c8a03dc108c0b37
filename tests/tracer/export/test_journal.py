"""Every call that had returned is in the ledger, however its process ends."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from support.app import run_app
from support.patience import patience

import crewmeter_cost
from crewmeter import semconv
from crewmeter.export.journal import Journal
from crewmeter.export.journal_format import journal_folder, ledger_file, read_spans
from crewmeter.export.readable_span import readable
from crewmeter.semconv.generations import Emitted
from crewmeter.spans.model_call import ModelCall
from crewmeter.spans.recorder import Recorder
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.exporter import LedgerSpanExporter
from crewmeter_cost.ledger.location import ledger_url, sqlite_path
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.ledger.write.journal_replay import has_journals, replay_journals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no flock, so no journal")

NOW = 1_800_000_000 * 10**9

HEAD = """
import multiprocessing, os, signal, sys, time
import crewmeter
handle = crewmeter.instrument(summary=False)
from crewai import LLM, Agent, Crew, Task
url = os.environ["PROVIDER_URL"] + "/v1"

def call(n=1):
    llm = LLM(model="openai/gpt-4o-mini", base_url=url, api_key="k")
    for _ in range(n):
        llm.call("hello")

def kickoff(_=None):
    llm = LLM(model="openai/gpt-4o-mini", base_url=url, api_key="k")
    agent = Agent(role="R", goal="g", backstory="b", llm=llm)
    task = Task(description="d", expected_output="x", agent=agent)
    Crew(agents=[agent], tasks=[task], name="c").kickoff()
"""


def calls_read(ledger: Path) -> int:
    """How many calls a reading command finds."""
    try:
        with crewmeter_cost.open(str(ledger)) as client:
            return client.report(by=["model"]).total.calls
    except CrewMeterError:
        return 0


ENDS = {
    "os._exit after a call": ("call(3); os._exit(7)", 7, 3),
    "kill -9 after a call": ("call(3); os.kill(os.getpid(), 9)", -9, 3),
    "SIGTERM after a kickoff": ("kickoff(); os.kill(os.getpid(), 15); time.sleep(60)", -15, 1),
    "os._exit after a kickoff": ("kickoff(); os._exit(0)", 0, 1),
    "os._exit in a forked child": (
        "pid = os.fork()\nif not pid:\n    call(2); os._exit(0)\nos.waitpid(pid, 0); os._exit(0)",
        0,
        2,
    ),
    "os._exit with a parent that calls too": (
        "call(1)\npid = os.fork()\nif not pid:\n    call(2); os._exit(0)\n"
        "os.waitpid(pid, 0); call(1); os._exit(0)",
        0,
        4,
    ),
}


@pytest.mark.mostly_slow("os._exit after a call")
@pytest.mark.parametrize("end", list(ENDS))
def test_a_call_that_returned_is_read_after_any_end(fake_provider, tmp_path, end):
    """Neither exit handler nor flush runs, and the last call has returned only just now."""
    code, returncode, calls = ENDS[end]
    ran = run_app(
        f"{HEAD}\n{code}\n",
        ledger=tmp_path / "l.db",
        provider_url=fake_provider.url,
        check=False,
        timeout=patience(120),
    )
    assert ran.returncode == returncode, ran.stderr
    assert len(fake_provider.billing_log.billed) == calls
    assert calls_read(ran.ledger) == calls
    assert calls_read(ran.ledger) == calls, "a second reader finds nothing more"
    assert not has_journals(ran.ledger)


CHILDREN = {
    "fork": """
context = multiprocessing.get_context("fork")
children = [context.Process(target=kickoff) for _ in range(3)]
[child.start() for child in children]
[child.join() for child in children]
""",
    "pool": """
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.map(kickoff, range(6))
""",
}


@pytest.mark.slow
@pytest.mark.parametrize(("way", "calls"), [("fork", 3), ("pool", 6)])
def test_children_of_multiprocessing_lose_nothing(fake_provider, tmp_path, way, calls):
    """They end by ``os._exit`` or by the pool's SIGTERM. Their parent writes what they left."""
    ran = run_app(
        HEAD + CHILDREN[way],
        ledger=tmp_path / "l.db",
        provider_url=fake_provider.url,
        timeout=patience(120),
    )
    assert len(ran.calls) == len(fake_provider.billing_log.billed) == calls
    assert not has_journals(ran.ledger)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_children_with_an_interpreter_of_their_own_lose_nothing(fake_provider, tmp_path, method):
    """A child that imports the app's module meters for itself."""
    main = f"""
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    children = [context.Process(target=kickoff) for _ in range(2)]
    [child.start() for child in children]
    [child.join() for child in children]
"""
    ran = run_app(
        HEAD + main,
        ledger=tmp_path / "l.db",
        provider_url=fake_provider.url,
        timeout=patience(180),
    )
    assert len(ran.calls) == len(fake_provider.billing_log.billed) == 2


@pytest.mark.slow
def test_twenty_sudden_ends_lose_nothing(fake_provider, tmp_path):
    """Forked children that die by SIGKILL in the middle of their calls: what returned is there."""
    script = f"""{HEAD}
pids = []
for number in range(20):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        llm = LLM(model="openai/gpt-4o-mini", base_url=url, api_key="k")
        while True:
            llm.call("hello")
            os.write(write, b".")
    os.close(write)
    seen = b""
    while len(seen) < 1 + number % 4:
        seen += os.read(read, 100)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    seen += os.read(read, 10_000)
    pids.append(len(seen))
print(sum(pids))
"""
    ran = run_app(
        script, ledger=tmp_path / "l.db", provider_url=fake_provider.url, timeout=patience(180)
    )
    returned = int(ran.stdout.split()[-1])
    assert returned <= calls_read(ran.ledger) <= len(fake_provider.billing_log.billed)


# --- the file ---------------------------------------------------------------------------------


def finished(recorder_done, *, content=False):
    """A finished call with ids, as the recorder delivers it."""
    recorder = Recorder(recorder_done.append, sampler=DEFAULT_ON)
    call = ModelCall()
    call.declared, call.model = "openai", "gpt-4o"
    call.usage = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}
    node = recorder.open("1", None, semconv.KIND_LLM, "chat gpt-4o", at_ns=NOW, call=call)
    if content:
        node.attributes[semconv.INPUT_MESSAGES] = "my secret prompt"
    recorder.close(node, NOW + 10**9)
    return node


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def journal(ledger):
    resource = Resource({"service.name": "shop"})
    return Journal(journal_folder(ledger), lambda: resource)


def written(path):
    """What is written of a file whose space is reserved."""
    return path.read_bytes().rstrip(b"\0")


def files(ledger):
    return sorted(journal_folder(ledger).glob("*.jsonl"))


def test_a_journal_holds_names_and_numbers_for_its_owner_only(journal, ledger):
    """Mode 0600, and no content even where content is captured."""
    journal.append(finished([], content=True))
    (path,) = files(ledger)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert b"secret" not in path.read_bytes()
    (span,) = read_spans(path.open("rb"))
    assert span.attributes[semconv.INPUT_TOKENS] == 1000
    assert span.resource["service.name"] == "shop"


def test_a_live_journal_is_left_alone_and_a_written_one_deleted(journal, ledger):
    """A reader takes no file whose process lives; the process deletes what is in the ledger."""
    node = finished([])
    journal.append(node)
    assert len(files(ledger)) == 1
    assert not has_journals(ledger)
    assert replay_journals(ledger, pytest.fail) == 0
    journal.release([node.journal])
    journal.close()
    assert files(ledger) == []


def test_what_was_not_written_stays_when_the_process_closes_its_journal(journal, ledger):
    """The next reader takes it once."""
    journal.append(finished([]))
    journal.close()
    read = []
    assert replay_journals(ledger, read.extend) == 1
    assert replay_journals(ledger, read.extend) == 0
    assert [span.name for span in read] == ["chat gpt-4o"]


def test_a_shutdown_says_what_waits_in_the_journal_and_what_is_lost(
    journal, ledger, monkeypatch, caplog
):
    """The ledger stays locked to the end.

    One of two spans is in the journal: it waits there and is not called lost.
    """
    monkeypatch.setattr("crewmeter_cost.exporter.BUSY_SECONDS", 0.1)
    Ledger.open(str(ledger)).close()
    saved = finished([])
    journal.append(saved)
    spans = [readable(node, Resource.get_empty(), Emitted()) for node in (saved, finished([]))]
    exporter = LedgerSpanExporter(ledger=str(ledger))
    holder = sqlite3.connect(ledger, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    exporter.export(spans)
    exporter.shutdown()
    holder.close()
    ends = [record.getMessage() for record in caplog.records][-2:]
    assert ends[0].startswith("in a journal: 1 span; ")
    assert ends[1].startswith("1 span never reached the ledger")
    journal.close()
    assert calls_read(ledger) == 1


def test_a_refused_replay_leaves_the_journal(journal, ledger):
    """Where the ledger is busy, the file stays for the next reader."""
    journal.append(finished([]))
    journal.close()

    def busy(_):
        raise CrewMeterError("the ledger is busy")

    with pytest.raises(CrewMeterError):
        replay_journals(ledger, busy)
    assert len(files(ledger)) == 1


def test_cut_and_damaged_lines_cost_only_themselves(journal, ledger):
    """A line without its line feed was not written; garbage between lines is skipped."""
    journal.append(finished([]))
    journal.close()
    (path,) = files(ledger)
    whole = written(path)
    path.write_bytes(b'nonsense\n["span",1]\n[]\n{}\n\xff\xfe\n' + whole + whole[:-20])
    read = []
    assert replay_journals(ledger, read.extend) == 1


def test_a_span_that_cannot_be_read_is_dropped_alone(journal, ledger, caplog):
    """Else it would come back with every replay, and hold up the rest."""
    for _ in range(5):
        journal.append(finished([]))
    journal.close()
    (path,) = files(ledger)
    lines = written(path).splitlines(keepends=True)
    path.write_bytes(
        b"".join(
            [*lines[:3], b'["span",1,"2",null,"n",5,6,null,"llm",true,{},{},null]\n', *lines[3:]]
        )
    )
    read = []

    def write(batch):
        if any(span.trace_id == 1 for span in batch):
            raise TypeError("no id")
        read.extend(batch)

    assert replay_journals(ledger, write) == 6
    assert len(read) == 5
    assert files(ledger) == []


def test_a_journal_is_emptied_and_begun_anew_as_it_grows(journal, ledger, monkeypatch):
    """The folder holds what is not in the ledger yet, whatever passed through it."""
    monkeypatch.setattr("crewmeter.export.journal.REUSE_BYTES", 2_000)
    monkeypatch.setattr("crewmeter.export.journal.SEGMENT_BYTES", 5_000)
    waiting = []
    for number in range(200):
        node = finished([])
        journal.append(node)
        waiting.append(node.journal)
        if number % 10 == 9:
            journal.release(waiting)
            waiting = []
        assert len(files(ledger)) < 4
    journal.close()
    assert files(ledger) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_turns_the_journal_off(journal, ledger):
    """The app's call goes on, with spans in memory only."""
    ledger.parent.chmod(0o500)
    try:
        node = finished([])
        journal.append(node)
        assert node.journal is None
    finally:
        ledger.parent.chmod(0o700)


def test_a_full_disk_turns_the_journal_off(journal, ledger, monkeypatch):
    """Space is reserved before it is used, nothing is raised, and no file is left."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    node = finished([])
    journal.append(node)
    assert node.journal is None
    assert files(ledger) == []


@pytest.mark.parametrize(
    "text",
    [
        None,
        "l.db",
        "~/l.db",
        "sub/../l.db",
        "sqlite:///l.db",
        "sqlite:////tmp/l.db",
        "sqlite:///a%20b.db",
        "sqlite:///l.db?mode=rw",
    ],
)
def test_app_and_ledger_agree_where_the_ledger_is(text, monkeypatch, tmp_path):
    """The app finds the file without SQLAlchemy, the money side with it."""
    monkeypatch.chdir(tmp_path)
    assert ledger_file(text, {}) == sqlite_path(ledger_url(text, environ={}))


@pytest.mark.parametrize("text", ["postgresql://u:p@h/db", "sqlite:///:memory:", "sqlite://"])
def test_only_a_sqlite_file_has_journals(text):
    """Beside a server's ledger there is no folder to write to."""
    assert ledger_file(text, {}) is None


def test_no_empty_folder_is_left(journal, ledger):
    """Neither by the process itself nor by a reader."""
    node = finished([])
    journal.append(node)
    journal.release([node.journal])
    journal.close()
    assert not journal_folder(ledger).exists()
    journal.append(finished([]))
    journal.close()
    assert replay_journals(ledger, lambda _: None) == 1
    assert not journal_folder(ledger).exists()
