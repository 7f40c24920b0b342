"""Hears of modules when they are imported, so that no SDK is imported only to be metered.

A finder in front of `sys.meta_path` lets the others find an awaited module, and has its loader say when it
has run. Who imports gets what they would have got: the same module, loader and errors.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Imported = Callable[[ModuleType], object]
"""Called with a module that has just been imported, in the thread that imports it; raises nothing."""


class ImportHook:
    """Waits for modules, and stands in `sys.meta_path` while it does."""

    def __init__(self) -> None:
        self._awaited: dict[str, Imported] = {}
        self._changing = threading.Lock()
        self._finding = _Finding()

    def expect(self, name: str, imported: Imported) -> None:
        """Call back each time a module is imported from now on."""
        with self._changing:
            self._awaited[name] = imported
            if self not in sys.meta_path:
                sys.meta_path.insert(0, self)

    def forget(self, names: Iterable[str]) -> None:
        """Call back no longer."""
        with self._changing:
            for name in names:
                self._awaited.pop(name, None)
            if not self._awaited:
                # Another list: who goes through this one in another thread would leave out the next finder.
                sys.meta_path = [finder for finder in sys.meta_path if finder is not self]

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders find of an awaited module; None leaves it to them."""
        imported = self._awaited.get(name)
        if imported is None or name in self._finding.names:
            return None
        self._finding.names.add(name)
        try:
            spec = self._found_by_others(name, path, target)
        finally:
            self._finding.names.remove(name)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec, imported)  # type: ignore[assignment]  # it has all that its own has
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


class _Finding(threading.local):
    def __init__(self) -> None:
        self.names: set[str] = set()
        """The modules that this thread asks the other finders for: one of them may ask all of us in turn."""


class _Loader:
    """Stands for a module's own loader until that runs."""

    def __init__(self, spec: ModuleSpec, imported: Imported) -> None:
        self._spec = spec
        self._loader: Any = spec.loader
        self._imported = imported

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module as its own loader does, and then call back."""
        self._spec.loader = self._loader
        if module.__loader__ is self:
            module.__loader__ = self._loader
        self._loader.exec_module(module)
        if sys.modules.get(self._spec.name) is module:  # else it is a copy that nobody else will see
            self._imported(module)
