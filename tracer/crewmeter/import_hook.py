"""A hook for the moment when the app imports a module.

With it `instrument` works before ``import crewai``, and before HTTP clients are imported. Nothing
is imported for it.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["is_imported", "patch_when_imported", "when_imported"]

logger = logging.getLogger("crewmeter")


def when_imported(name: str, act: Callable[[], None]) -> Callable[[], None]:
    """Call ``act`` now if module ``name`` is imported already, else right after it is.

    Returns:
        The function that cancels the wait.
    """
    if is_imported(name):
        act()
        return lambda: None
    _finder.add(name, act)
    return lambda: _finder.discard(name, act)


def patch_when_imported(
    patches: Iterable[tuple[str, Callable[[], Iterable[Callable[[], None]]]]],
) -> Callable[[], None]:
    """Patch modules, each as soon as it is imported.

    Args:
        patches: Pairs of a module's name and what patches it, which returns what undoes that.

    Returns:
        The function that undoes all, the last first, and cancels what has not been patched.
    """
    undo: list[Callable[[], None]] = []

    def applied(patch: Callable[[], Iterable[Callable[[], None]]]) -> None:
        undo.extend(patch())

    cancel = [when_imported(name, partial(applied, patch)) for name, patch in patches]

    def restore() -> None:
        for stop_waiting in cancel:
            stop_waiting()
        while undo:
            undo.pop()()

    return restore


def is_imported(name: str) -> bool:
    """Return True for a module that is imported to its end."""
    module = sys.modules.get(name)
    if module is None:
        return False
    spec = getattr(module, "__spec__", None)
    return not getattr(spec, "_initializing", False)


class _Finder(MetaPathFinder):
    """A finder in front of ``sys.meta_path`` while somebody waits for a module."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._finding: set[str] = set()

    def add(self, name: str, act: Callable[[], None]) -> None:
        """Wait for module ``name``."""
        self._waiting.setdefault(name, []).append(act)
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def discard(self, name: str, act: Callable[[], None]) -> None:
        """Stop waiting, and leave ``sys.meta_path`` when nobody waits any more."""
        acts = self._waiting.get(name, [])
        if act in acts:
            acts.remove(act)
        if not acts:
            self._waiting.pop(name, None)
        if not self._waiting and self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module that is waited for, with a loader that calls us."""
        if fullname not in self._waiting or fullname in self._finding:
            return None
        self._finding.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._finding.discard(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, fullname)
        return spec

    def imported(self, name: str) -> None:
        """Call everybody who waits for module ``name``."""
        for act in list(self._waiting.get(name, ())):
            self.discard(name, act)
            try:
                act()
            except Exception:  # the app's import must not fail because of us
                logger.exception("%s can't be watched", name)


class _Loader(Loader):
    """A module's own loader, followed by the call."""

    def __init__(self, loader: Loader, name: str) -> None:
        self._loader = loader
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _finder.imported(self._name)


_finder = _Finder()
