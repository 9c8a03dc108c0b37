"""Observe every HTTP exchange with a model provider, whoever makes it.

CrewAI's events say where a call belongs; its HTTP exchange says what was billed. `install` patches
httpx, aiohttp, requests and botocore, each from the moment it is imported. Requests and responses
pass through untouched.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from crewmeter.http.clients import aiohttp, botocore, httpx, requests
from crewmeter.http.http_call import HttpExchange, HttpObserver

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["HttpExchange", "announce_late", "install", "look_again"]

_PATCHES: dict[str, Callable[[ModuleType, HttpObserver], Callable[[], None]]] = {
    "httpx": httpx.patch,
    "httpx2": httpx.patch,
    "aiohttp": aiohttp.patch,
    "requests": requests.patch,
    "botocore.client": botocore.patch,
    "aiobotocore.client": botocore.patch_aio,
}
"""Module whose import makes a library worth patching → how."""


class _PatchedLibraries:
    """One installation: its observer, and what has been patched so far."""

    def __init__(self, observer: HttpObserver) -> None:
        self.observer = observer
        self._undo: dict[str, Callable[[], None]] = {}
        self._modules = 0
        """How many modules were loaded at the last look."""

    def look(self) -> None:
        """Patch the libraries imported since the last look; almost free where there are none."""
        if len(sys.modules) == self._modules:
            return
        self._modules = len(sys.modules)
        for name, patch in _PATCHES.items():
            module = sys.modules.get(name)
            if module is None or name in self._undo:
                continue
            if _is_half_imported(module):
                self._modules = 0  # look again, even if nothing else is imported meanwhile
            else:
                self._undo[name] = patch(module, self.observer)

    def uninstall(self) -> None:
        """Put every function back."""
        self.observer.active = False
        for undo in reversed(self._undo.values()):
            undo()
        self._undo.clear()
        self.observer.announce_late()
        self.observer.give_up_background()
        if self in _installed:
            _installed.remove(self)


def _is_half_imported(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


_installed: list[_PatchedLibraries] = []


def install(
    *, opened: Callable[[HttpExchange], None], closed: Callable[[HttpExchange], None]
) -> Callable[[], None]:
    """Observe HTTP exchanges until the returned function is called.

    Libraries not yet imported are patched by `look_again`.

    Args:
        opened: Called in the caller's thread and context as a request is sent.
        closed: Called once, when the response's body has ended, failed or been given up.

    Returns:
        A function that puts everything back.
    """
    installation = _PatchedLibraries(HttpObserver(opened=opened, closed=closed))
    _installed.append(installation)
    installation.look()
    return installation.uninstall


def look_again() -> None:
    """Patch HTTP libraries imported since `install`; call it where a run starts."""
    for installation in _installed:
        installation.look()


def announce_late() -> None:
    """Announce exchanges whose end the garbage collector noticed.

    Call it where a run ends and before a flush.
    """
    for installation in _installed:
        installation.observer.announce_late()
