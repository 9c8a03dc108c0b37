"""The seam on the wire: every HTTP exchange with a model provider, whoever made it, with the usage the provider itself states.

CrewAI's events say where a call belongs; the wire says what was billed. `install` watches httpx, aiohttp, requests and
botocore, each from the moment it is imported; requests and responses pass through untouched.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from crewmeter.http.clients import aiohttp, botocore, httpx, requests
from crewmeter.http.http_call import HttpExchange, Hub

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["HttpExchange", "install", "look_again", "settle"]

_PATCHES: dict[str, Callable[[ModuleType, Hub], Callable[[], None]]] = {
    "httpx": httpx.patch,
    "httpx2": httpx.patch,
    "aiohttp": aiohttp.patch,
    "requests": requests.patch,
    "botocore.client": botocore.patch,
    "aiobotocore.client": botocore.patch_aio,
}
"""Module whose import makes a library worth patching → how."""


class _Installed:
    """One installation: its hub, and what has been patched so far."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._undo: dict[str, Callable[[], None]] = {}
        self._modules = 0
        """How many modules were loaded at the last look."""

    def look(self) -> None:
        """Patch the libraries imported since the last look. Costs nothing to speak of when there is nothing new."""
        if len(sys.modules) == self._modules:
            return
        self._modules = len(sys.modules)
        for name, patch in _PATCHES.items():
            module = sys.modules.get(name)
            if module is None or name in self._undo:
                continue
            if _half_imported(module):
                self._modules = 0  # look again, even if nothing else is imported meanwhile
            else:
                self._undo[name] = patch(module, self.hub)

    def uninstall(self) -> None:
        """Put every function back."""
        self.hub.active = False
        for undo in reversed(self._undo.values()):
            undo()
        self._undo.clear()
        self.hub.settle()
        if self in _installed:
            _installed.remove(self)


def _half_imported(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


_installed: list[_Installed] = []


def install(
    *, opened: Callable[[HttpExchange], None], closed: Callable[[HttpExchange], None]
) -> Callable[[], None]:
    """Watch the wire until the returned function is called.

    ``opened`` is called in the caller's thread and context as a request is sent; ``closed`` once, when its body has ended,
    failed or been given up. Libraries not yet imported are picked up by `look_again`.
    """
    installation = _Installed(Hub(opened=opened, closed=closed))
    _installed.append(installation)
    installation.look()
    return installation.uninstall


def look_again() -> None:
    """Patch HTTP libraries imported since `install`; call it where a run starts."""
    for installation in _installed:
        installation.look()


def settle() -> None:
    """Announce exchanges whose end was noticed by the garbage collector; call it where a run ends and before a flush."""
    for installation in _installed:
        installation.hub.settle()
