"""Runs found by a filter: the grammar, its SQL, and the same answers in reports and exports."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ledger_build import NOON, SECOND, UNPRICED, call, frozen, priced, root, step

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.filters import CALL_KEYS, NAME_KEYS, Filter, Term, parse_filter
from crewmeter_cost.ledger.read import run_search
from crewmeter_cost.ledger.read.calls import calls
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.read.run_search import find_runs
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.records import CallContext

PICO = 10**12


def context(number: int, **changes: object) -> CallContext:
    names = {
        "run_id": f"{number:016x}",
        "run_kind": "crew",
        "run_name": "research",
        "crew": "research",
        "agent": "Senior Writer",
        "user": "ada",
    }
    return CallContext(**{**names, **changes})  # type: ignore[arg-type]


@pytest.fixture
def filled(either: Ledger) -> Ledger:
    """Run 1: gpt-4o, $2, 10 s. Run 2: gpt-5 with a tool, failed. Run 3: unpriced, tagged."""
    one = context(1)
    two = context(2, crew="billing", run_name="billing", agent="Clerk", user="bob")
    three = context(3, tags=(("env", "prod"), ("who", "o'hara")))
    spans = [
        (call(11, context=one), priced(2 * PICO)),
        (call(21, context=two, request_model="gpt-5"), priced(PICO // 2)),
        (
            call(22, context=two, request_model="gpt-4o", finish_reason="length"),
            priced(PICO // 4),
        ),
        (call(31, context=three, request_model="gpt-9"), UNPRICED),
    ]

    def run(number: int, owner: CallContext, seconds: int, **changes: object):
        started = NOON + number * 100 * SECOND
        base = {"is_run": True, "context": owner, "started_ns": started}
        times = {"ended_ns": started + seconds * SECOND}
        return step(number, "crew", owner.run_name, **{**base, **times, **changes})

    steps = [
        run(1, one, 10),
        run(2, two, 200, error=True, error_type="APITimeoutError"),
        step(23, "tool", "search", context=two, parent_span_id=f"{2:016x}"),
        run(3, three, 60),
    ]
    either.write(spans, steps, frozen)
    return either


def found(ledger: Ledger, where: Filter | str | None = None, **options: object) -> list[int]:
    return [int(run.run_id, 16) for run in find_runs(ledger, where=where, **options).runs]


@pytest.mark.mostly_slow("sqlite")
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("model=gpt-4o", [2, 1]),
        ("model=gpt-5 agent=Clerk", [2]),
        ("model=gpt-5 agent=Senior Writer", []),
        ('agent="Senior Writer"', [3, 1]),
        ("agent=Senior Writer model=gpt-4o", [1]),
        ("status=failed", [2]),
        ("status=ok", [3, 1]),
        ("status!=failed", [3, 1]),
        ("cost>0.5", [2, 1]),
        ("cost>=2", [1]),
        ("cost<1", [2]),
        ("cost=2 USD", [1]),
        ("duration>2m", [2]),
        ("duration<=60", [3, 1]),
        ("calls>1", [2]),
        ("tool=search", [2]),
        ("tool=search model=gpt-5", [2]),
        ("tool!=search", [3, 1]),
        ("error=timeout", [2]),
        ("user=bob", [2]),
        ("user!=bob", [3, 1]),
        ("tag:env=prod", [3]),
        ("tag:env!=prod", [2, 1]),
        ("tag:who=o'hara", [3]),
        ("unpriced_calls>0", [3]),
        ("crew=research status=ok cost>1 duration<1m", [1]),
        ("run=0000000000000002", [2]),
        ("team=", [3, 2, 1]),
        ("user!=", [3, 2, 1]),
        ("tag:env= user=ada", [1]),
        ("tag:env!=", [3]),
        ("agent=", []),
        ("cost_status=unknown_model", [3]),
        ("cost_status!=priced", [3]),
        ("finish_reason=length", [2]),
        ("finish_reason=length model=gpt-5", []),
    ],
)
def test_a_filter_finds_the_runs(filled, where, expected):
    """Each key compares what it names; terms must all hold; newest runs come first."""
    assert found(filled, where) == expected


def test_orders_and_pages(filled):
    """Runs come by time, cost, duration or calls, largest first; limit and offset make pages."""
    assert found(filled, order="cost")[:2] == [1, 2]
    assert found(filled, order="duration") == [2, 3, 1]
    assert found(filled, order="calls") == [2, 3, 1]
    assert found(filled, limit=1, offset=1) == [2]
    with pytest.raises(CrewMeterError, match="cannot order by 'price'"):
        find_runs(filled, order="price")  # type: ignore[arg-type]


@pytest.mark.mostly_slow("sqlite")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("writer", [3, 1]),
        ("SEARCH", [3, 2, 1]),
        ("CLERK", [2]),
        ("gpt-9", [3]),
        ("00002", [2]),
        ("100%", []),
        ("_", []),
    ],
)
def test_a_search_looks_at_names_and_ids(filled, text, expected):
    """A text is found in ids and names, in any case; wildcards of SQL are plain characters."""
    assert found(filled, search=text) == expected


@pytest.mark.mostly_slow("sqlite")
def test_reports_and_exports_take_the_same_filter(filled):
    """What describes a run selects the calls of the runs that `runs` lists with it."""
    failed = report(filled, by=["model"], where="status=failed")
    assert failed.total.sums["calls"] == 2
    assert failed.total.cost_pusd == PICO * 3 // 4
    both = report(filled, by=["model"], where=["status=failed", "model=gpt-5"])
    assert [row.keys for row in both.rows] == [("gpt-5",)]
    tools = report(filled, by=["tool"], where="status=failed")
    assert tools.total.sums["calls"] == 1
    exported = calls(filled, where=parse_filter("duration>2m model!=gpt-5"))
    assert [record["request_model"] for record in exported] == ["gpt-4o"]


@pytest.mark.parametrize(
    ("where", "message", "hint"),
    [
        ("modle=gpt-5", "cannot filter by 'modle'", "did you mean model?"),
        ("status=faild", "status 'faild' is not known", "did you mean failed?"),
        ("cost>cheap", "cost 'cheap' is not a number", None),
        ("cost>1_0", "cost '1_0' is not a number", None),
        ("cost>nan", "cost 'nan' is not a number", None),
        ("duration>soon", "duration 'soon' is not a time span", "2m"),
        ("calls>1.5", "not a whole number", None),
        ("crew>5", "crew is a name", None),
        ("research", "'research' is not KEY=VALUE", None),
        ("research crew=x", "'research' is not KEY=VALUE", None),
    ],
)
def test_a_filter_with_a_mistake_is_named(where, message, hint):
    """The error names the term, and the nearest key where there is one."""
    with pytest.raises(CrewMeterError) as refusal:
        parse_filter(where)
    assert message in refusal.value.message
    assert hint is None or hint in (refusal.value.hint or "")


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]))


@given(key=st.sampled_from(["crew", "tag:env", "model", "error", "name"]), value=ANY_TEXT)
def test_a_term_is_written_as_it_is_read(key, value):
    """A link to runs quotes names from data, and the filter in it is about that very name."""
    term = Term(key, "=", value)
    assert parse_filter(f"status=ok {term.text} cost>1").terms[1] == term
    assert parse_filter(term.text).terms == (term,)


@settings(max_examples=60, deadline=None)
@given(value=st.text(st.characters(exclude_characters='"', exclude_categories=["Cs", "Cc"])))
def test_a_value_stays_a_value(month, value):
    """Whatever is written in a quoted value is compared, never run: no run is called so."""
    for key in (*NAME_KEYS, *CALL_KEYS, "tag:env", "run", "name", "kind", "error"):
        wanted = parse_filter(f'{key}="x{value}\'; --"')
        assert wanted.terms[0].value == f"x{value}'; --"
        assert find_runs(month, where=wanted).runs == ()
    find_runs(month, search=value[:200])


def test_several_values_of_one_name_widen_it(filled):
    """A term with further values, which the page's menus make, finds runs with any of them."""
    wanted = Filter((Term("user", "=", "bob", also=("eve", "ada")),))
    assert found(filled, wanted) == [3, 2, 1]
    assert report(filled, by=[], where=wanted).total.sums["calls"] == 4


@pytest.mark.mostly_slow("sqlite")
@pytest.mark.parametrize("key", ["model", "provider", "finish_reason", "cost_status"])
def test_tool_calls_are_not_filtered_by_what_model_calls_have(filled, key):
    """Tools have no model: the refusal says so, whichever way the model is compared."""
    for operator in ("=", "!="):
        with pytest.raises(CrewMeterError, match=f"tool calls have no {key}"):
            report(filled, by=["tool"], where=f"{key}{operator}x")


def test_calls_of_somebody_else_inside_a_run_are_found(filled):
    """Names that only a call has are found as well as those that the run itself carries."""
    assert found(filled, "user=eve") == []
    inner = call(12, context=context(1, user="eve", team="guests"))
    filled.write([(inner, priced(PICO))], [], frozen)
    assert found(filled, "user=eve") == [1]
    assert found(filled, "team=guests") == [1]
    assert found(filled, "user=ada") == [3, 1]


def test_a_name_is_found_in_old_runs_too(filled, monkeypatch):
    """Names that an index lists are looked for in every run, and nothing is left unsaid."""
    monkeypatch.setattr(run_search, "SCANNED_RUNS", 1)
    for where, expected in (("user=bob", [2]), ("name=billing", [2]), ("status=failed", [2])):
        page = find_runs(filled, where=where)
        assert [int(run.run_id, 16) for run in page.runs] == expected
        assert page.note is None
    # Among the runs of one name the bound counts these runs only.
    assert found(filled, "user=ada model=gpt-9") == [3]
    assert find_runs(filled, where="user=ada model=gpt-9").note is not None


@pytest.mark.parametrize(
    ("where", "index"),
    [
        ("user=ada", "run_user"),
        ("team=", "run_team"),
        ("session=s", "run_session"),
        ("name=research", "run_name"),
        ("status=failed", "run_not_ok"),
        ("status=running", "run_not_ok"),
        (None, "run_time"),
    ],
)
def test_an_indexed_question_reads_an_index(ledger_path, where, index):
    """SQLite's plan names the index that answers, so that a million runs cost no more than ten."""
    statements: list[str] = []
    plans: list[str] = []
    with Ledger.open(str(ledger_path)) as ledger:
        ledger.write([(call(1, context=context(1, session="s")), priced(PICO))], [], frozen)
        with ledger.read_session() as session:
            # The search takes this connection: it is the only one that is idle.
            connection = session.connection
            connection.set_trace_callback(statements.append)
        find_runs(ledger, where=where)
        connection.set_trace_callback(None)
        for statement in statements:
            if "FROM run" in statement:
                plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}")
                plans.extend(row[3] for row in plan)
    assert any(f"INDEX {index} " in plan or plan.endswith(index) for plan in plans), plans


def test_a_search_is_bounded_and_says_so(filled, monkeypatch):
    """A search looks through a fixed number of the newest runs and notes where it stopped."""
    monkeypatch.setattr(run_search, "SCANNED_RUNS", 2)
    page = find_runs(filled, where="crew=research")
    assert [int(run.run_id, 16) for run in page.runs] == [3]
    assert page.note is not None
    assert "searched the newest 2 runs" in page.note
    assert find_runs(filled).note is None


@pytest.mark.slow
def test_a_tag_is_found_among_any_number_of_tag_sets(tmp_path):
    """Past 30,000 sets a filter was cut without a word, past 250,000 it was a traceback."""
    many = """
        WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 260000)
        INSERT INTO tag_set (tags) SELECT '{"env": "prod", "n": "' || n || '"}' FROM number
    """
    tagged = context(1, tags=(("env", "prod"),))
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        with ledger.writing() as work:
            work.connection.exec_driver_sql(many)
        ledger.write([(call(1, context=tagged), priced())], [root(context=tagged)], frozen)
        assert len(find_runs(ledger, where="tag:env=prod").runs) == 1
        assert not find_runs(ledger, where="tag:env!=prod").runs
        assert report(ledger, where=parse_filter("tag:env=prod")).total.sums["calls"] == 1


def test_a_tag_of_other_case_is_another_tag(either):
    """On SQLite the value of Customer was counted under customer."""
    tagged = [context(1, tags=(("customer", "acme"),)), context(2, tags=(("Customer", "acme"),))]
    spans = [(call(number, context=each), priced()) for number, each in enumerate(tagged, 1)]
    either.write(spans, [], frozen)
    for by in (["tag:customer"], ["tag:customer", "hour"]):
        rows = report(either, by=by).rows
        assert sorted(str(row.keys[0]) for row in rows) == ["None", "acme"]
        assert {row.sums["calls"] for row in rows} == {1}


def test_a_search_for_nul_is_refused(either):
    """PostgreSQL takes no such text, and was said to be down."""
    with pytest.raises(CrewMeterError, match="NUL"):
        find_runs(either, search="a\0b")
