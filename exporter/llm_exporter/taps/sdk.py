"""One SDK that can be metered: awaits its import, then loads and installs its tap."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, Final, Protocol

from ..client import default
from ..forking import late_import
from ..log import log
from .imports import Imported, ImportHook
from .switch import Switch

_hook: Final = ImportHook()


class Tap(Protocol):
    """The tap on one SDK."""

    @property
    def modules(self) -> Mapping[str, Imported]:
        """The modules of the SDK that the tap patches, and the function that patches each.

        Patching a module again changes nothing. A release that the tap does not fit is an exception.
        """

    def owners(self, client: Any) -> list[object]:
        """Return the objects that a client shares with its copies."""

    def restore(self) -> None:
        """Put the SDK's own methods back."""


class Sdk:
    """One SDK. Its tap and all that the tap needs are imported only once the SDK is.

    Args:
        package: the package that programs import.
        tap: the module of this package that has the tap, and the name of its class.
    """

    def __init__(self, package: str, tap: tuple[str, str]) -> None:
        self.package = package
        self.switch = Switch()
        self._tap_class = tap
        self._tap: Tap | None = None

    def has(self, client: object) -> bool:
        """Return whether an object is of a class of this SDK, or of a subclass."""
        return any(f"{cls.__module__}.".startswith(f"{self.package}.") for cls in type(client).__mro__)

    def owners(self, client: object) -> list[object]:
        """Return the objects that a client of this SDK shares with its copies."""
        return self._loaded().owners(client)

    def install(self) -> bool:
        """Install the tap on the SDK, now if it is imported and whenever it is imported later.

        Returns:
            False if the SDK is imported and the tap does not fit it.
        """
        _hook.expect(self.package, self._install)
        return self._install_if_imported(self.package, self._install)

    def remove_if_unused(self) -> None:
        """Put the SDK's own methods back and await its import no longer, unless a client is metered."""
        if self.switch.in_use:
            return
        _hook.forget((self.package, *(self._tap.modules if self._tap is not None else ())))
        if self._tap is not None:
            self._tap.restore()

    def _install(self, _: ModuleType) -> bool:
        """Install the tap on the package that has just been imported, and on its modules when they are."""
        try:
            default.pipeline()  # so that the first call does not have to wait for it
            modules = self._loaded().modules
        except Exception as error:
            self._warn(error)
            return False
        fits = True
        for name, patch in modules.items():
            patch_module = partial(self._patch, patch)
            if name != self.package:
                _hook.expect(name, patch_module)
            fits &= self._install_if_imported(name, patch_module)
        return fits

    @staticmethod
    def _install_if_imported(name: str, imported: Imported) -> bool:
        if sys.modules.get(name) is None:
            return True
        try:
            module = import_module(name)  # waits for another thread that is about to import it
        except Exception:
            return False  # that thread raises it
        return bool(imported(module))

    def _patch(self, patch: Imported, module: ModuleType) -> bool:
        try:
            patch(module)
        except Exception as error:
            self._warn(error)
            return False
        return True

    def _loaded(self) -> Tap:
        with late_import:
            if self._tap is None:
                module, name = self._tap_class
                self._tap = getattr(import_module(f".{module}", __package__), name)(self.switch)
            return self._tap

    def _warn(self, error: Exception) -> None:
        version = getattr(sys.modules.get(self.package), "__version__", "(unknown version)")
        log.warning(
            "llm-exporter: cannot meter %s %s: some or all of its calls are not counted",
            self.package,
            version,
            exc_info=error,
        )
