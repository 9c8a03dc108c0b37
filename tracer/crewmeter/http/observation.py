"""Observe every HTTP exchange with a model provider, whoever makes it.

CrewAI's events say where a call belongs; its HTTP exchange says what was billed. `install` patches
httpx, aiohttp, requests and botocore, each from the moment it is imported. Calls by http.client,
websockets and grpc are recorded without being read. Requests and responses
pass through untouched.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from crewmeter.http.clients import (
    aiohttp,
    botocore,
    grpc,
    http_client,
    httpx,
    requests,
    websockets,
)
from crewmeter.http.http_call import HttpExchange, HttpObserver
from crewmeter.import_hook import is_imported, when_imported

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["HttpExchange", "announce_late", "install", "look_again"]

_PATCHES: dict[str, Callable[[ModuleType, HttpObserver], Callable[[], None]]] = {
    "httpx": httpx.patch,
    "httpx2": httpx.patch,
    "aiohttp": aiohttp.patch,
    "requests": requests.patch,
    "http.client": http_client.patch,
    "websockets.client": websockets.patch,
    "grpc._channel": grpc.patch,
    "grpc.aio._channel": grpc.patch,
    "botocore.client": botocore.patch,
    "aiobotocore.client": botocore.patch_aio,
}
"""Module whose import makes a library worth patching → how."""


class _PatchedLibraries:
    """One installation: its observer, and what has been patched so far."""

    def __init__(self, observer: HttpObserver) -> None:
        self.observer = observer
        self._undo: dict[str, Callable[[], None]] = {}
        self._stop_waiting: list[Callable[[], None]] = []

    def watch(self) -> None:
        """Patch the libraries that are imported, and the others as soon as they are."""
        self.look()
        for name in _PATCHES:
            if name not in self._undo:
                self._stop_waiting.append(
                    when_imported(
                        name,
                        partial(self._patch, name),
                    )
                )

    def look(self) -> None:
        """Patch the libraries imported since the last look."""
        for name in _PATCHES:
            if is_imported(name):
                self._patch(name)

    def _patch(self, name: str) -> None:
        if name not in self._undo:
            self._undo[name] = _PATCHES[name](
                sys.modules[name],
                self.observer,
            )

    def uninstall(self) -> None:
        """Put every function back."""
        self.observer.active = False
        while self._stop_waiting:
            self._stop_waiting.pop()()
        for undo in reversed(self._undo.values()):
            undo()
        self._undo.clear()
        self.observer.announce_late()
        self.observer.give_up_background()
        if self in _installed:
            _installed.remove(self)


_installed: list[_PatchedLibraries] = []


def install(
    *, opened: Callable[[HttpExchange], None], closed: Callable[[HttpExchange], None]
) -> Callable[[], None]:
    """Observe HTTP exchanges until the returned function is called.

    A library not yet imported is patched as soon as it is.

    Args:
        opened: Called in the caller's thread and context as a request is sent.
        closed: Called once, when the response's body has ended, failed or been given up.

    Returns:
        A function that puts everything back.
    """
    installation = _PatchedLibraries(HttpObserver(opened=opened, closed=closed))
    _installed.append(installation)
    installation.watch()
    return installation.uninstall


def look_again() -> None:
    """Patch the libraries that were half imported at `install`, whose import is over."""
    for installation in _installed:
        installation.look()


def announce_late() -> None:
    """Announce exchanges whose end the garbage collector noticed.

    Call it where a run ends and before a flush.
    """
    for installation in _installed:
        installation.observer.announce_late()
