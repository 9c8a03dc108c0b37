"""Threads that are started again where they die, and say so."""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SerialExecutor", "SupervisedThread"]

log = logging.getLogger("crewmeter.sidecar")

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0


class SupervisedThread:
    """A thread whose work begins again where it ends by an exception.

    `work` runs until it returns. `died` is called with the thread's name each time it ends by an
    exception, `SystemExit` included, which ends an ordinary thread without a word.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        *,
        died: Callable[[str], None] = lambda name: None,
        daemon: bool = False,
    ) -> None:
        self.name = name
        self.restarts = 0
        self._work = work
        self._died = died
        self._daemon = daemon
        self._running = False
        self._finished = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def problem(self) -> str | None:
        """Return why the work is not being done now, or None."""
        if self._thread is None or self._finished or self._running:
            return None
        return f"the thread {self.name} died and is being restarted"

    def start(self) -> None:
        """Start the thread, or start it anew where it is not alive."""
        if self._finished or (self._thread is not None and self._thread.is_alive()):
            return
        if self._thread is not None:
            self._record("was killed")
        self._running = True
        self._thread = threading.Thread(
            target=self._run,
            name=self.name,
            daemon=self._daemon,
        )
        self._thread.start()

    def join(self) -> None:
        """Wait for the work to return. It is not started again meanwhile."""
        self.start()
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        try:
            while True:
                try:
                    self._running = True
                    self._work()
                except BaseException as error:  # noqa: BLE001  # nothing may end it for good
                    self._running = False
                    self._record(
                        f"ended by {type(error).__name__}",
                        error,
                    )
                    self._stopping.wait(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                else:
                    self._finished = True
                    return
        finally:
            self._running = False

    def _record(self, how: str, error: BaseException | None = None) -> None:
        self.restarts += 1
        log.critical("the thread %s %s; it is started again", self.name, how, exc_info=error)
        self._died(self.name)


class SerialExecutor(Executor):
    """Runs what is submitted in one supervised thread, in order."""

    def __init__(self, name: str, *, died: Callable[[str], None] = lambda name: None) -> None:
        self._wake = threading.Condition()
        self._tasks: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        """Tasks stay here until they are done, so that none is lost with a thread."""
        self._stopping = False
        self.thread = SupervisedThread(
            name,
            self._work,
            died=died,
        )
        self.thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` and return its future."""
        future: Future[Any] = Future()
        with self._wake:
            self._tasks.append((future, lambda: fn(*args, **kwargs)))
            self._wake.notify()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Run what was submitted, then end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if wait:
            self.thread.join()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._tasks and not self._stopping:
                    self._wake.wait()
                if not self._tasks:
                    return
            self._do_first()
            with self._wake:
                self._tasks.popleft()

    def _do_first(self) -> None:
        future, call = self._tasks[0]
        try:
            if future.running():  # the thread died of it, so it is not tried again
                future.set_exception(RuntimeError("the thread ended while it ran this"))
            elif not future.done() and future.set_running_or_notify_cancel():
                future.set_result(call())
        except Exception as error:  # noqa: BLE001  # the caller gets it, with its traceback
            future.set_exception(error)
        finally:
            # The future holds the error, and the error's traceback this frame. Without these two
            # names it is no circle, and what the call was given (megabytes) is freed at once.
            del future, call
