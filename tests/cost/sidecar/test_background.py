"""A thread that dies is started again, loses nothing, and is seen in /readyz and a metric."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest
from support.sidecars import request

from crewmeter_cost.sidecar.background import SerialExecutor, SupervisedThread


def until(true, seconds=60):
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, MemoryError])
def test_work_begins_again_where_it_ends_by_an_exception(error):
    """Also by SystemExit, which ends an ordinary thread without a word."""
    began = threading.Semaphore(0)
    died = []

    def work():
        began.release()
        if not died:
            raise error("x")

    thread = SupervisedThread("worker", work, died=died.append)
    thread.start()
    assert began.acquire(timeout=30)
    assert began.acquire(timeout=30)
    thread.join()
    assert (died, thread.restarts, thread.problem) == (["worker"], 1, None)


def test_a_task_that_ends_its_thread_fails_and_the_next_one_is_done():
    """Whoever waits gets an error, and is not left waiting."""
    executor = SerialExecutor("worker")

    def end():
        raise SystemExit

    ended = executor.submit(end)
    done = executor.submit(lambda: 7)
    with pytest.raises(RuntimeError, match="ended"):
        ended.result(30)
    assert done.result(30) == 7
    executor.shutdown()


def test_what_a_failed_task_was_given_is_freed_without_the_collector():
    """The future, its error and the frames in the traceback form no circle."""

    class Body:
        pass

    def fail(body):
        raise ValueError(type(body))

    executor = SerialExecutor("worker")
    gc.disable()
    try:
        body = Body()
        freed = weakref.ref(body)
        future = executor.submit(fail, body)
        assert isinstance(future.exception(30), ValueError)
        del body, future
        until(lambda: freed() is None)
    finally:
        gc.enable()
        executor.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["crewmeter-writer", "crewmeter-reader", "crewmeter-budgets"])
def test_every_thread_may_die_once(nursery, tmp_path, name):
    """Spans are taken and acknowledged as before, and the restart shows."""
    with nursery.start(tmp_path / "ledger.db") as running:
        assert running.post(request(3)).status == 200
        metric = f'crewmeter_thread_restarts_total{{thread="{name}"}}'
        assert running.metric(metric) == 0
        running.kill_thread(name)
        if name != "crewmeter-budgets":
            acknowledged = sum(running.post(request(3)).status == 200 for _ in range(3))
            assert acknowledged >= 2  # the one it died of may be refused, and is sent again
            until(lambda: running.metric(metric) == 1)
            assert len(running.stored()) >= 3 * (1 + acknowledged)
        else:
            until(lambda: running.metric(metric) == 1)
        until(lambda: running.get("/readyz").status == 200)
        assert f"{name} died and was restarted 1 times" in running.get("/readyz").text
        assert any("started again" in str(line["message"]) for line in running.log())
        running.terminate()
