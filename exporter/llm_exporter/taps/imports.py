"""Calls back when a module is imported, so that no SDK has to be imported just to be metered.

A finder in front of `sys.meta_path` lets the other finders find an awaited module, and wraps the module's
loader to learn when the module has run. The importing code gets the same module, loader and errors as ever.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ..threads import Lock

Imported = Callable[[ModuleType], object]
"""Called with a module that has just been imported, on the importing thread. Must not raise."""


class ImportHook:
    """Awaits modules. It is in `sys.meta_path` only while it awaits any."""

    def __init__(self) -> None:
        self._awaited: dict[str, Imported] = {}
        self._changing = Lock()
        self._searching = _Searching()

    def expect(self, name: str, imported: Imported) -> None:
        """Call back each time a module is imported from now on."""
        with self._changing:
            self._awaited[name] = imported
            if self not in sys.meta_path:
                sys.meta_path.insert(0, self)

    def forget(self, names: Iterable[str]) -> None:
        """Stop calling back for these modules."""
        with self._changing:
            for name in names:
                self._awaited.pop(name, None)
            if not self._awaited:
                # A new list: another thread that iterates over the old one must not skip the next finder.
                sys.meta_path = [finder for finder in sys.meta_path if finder is not self]

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders find for an awaited module; leave all others to them."""
        imported = self._awaited.get(name)
        if imported is None or name in self._searching.names:
            return None
        self._searching.names.add(name)
        try:
            spec = self._found_by_others(name, path, target)
        finally:
            self._searching.names.remove(name)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec, imported)  # type: ignore[assignment]  # it forwards to the real one
        return spec

    def _found_by_others(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            if finder is not self and find is not None and (spec := find(name, path, target)) is not None:
                found: ModuleSpec = spec
                return found
        return None


class _Searching(threading.local):
    def __init__(self) -> None:
        self.names: set[str] = set()
        """The modules that this thread is searching for: another finder may ask all finders, us included."""


class _Loader:
    """Takes the place of a module's loader until the module has run."""

    def __init__(self, spec: ModuleSpec, imported: Imported) -> None:
        self._spec = spec
        self._loader: Any = spec.loader
        self._imported = imported

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module with its own loader, then call back."""
        self._spec.loader = self._loader
        if module.__loader__ is self:
            module.__loader__ = self._loader
        self._loader.exec_module(module)
        if sys.modules.get(self._spec.name) is module:  # otherwise it is a private copy
            self._imported(module)
