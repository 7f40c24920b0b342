"""Replaces methods and attributes of an SDK's classes, and puts the SDK's own back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

from ..forking import late_import
from .private_names import resolve

Method = Callable[..., Any]
Wrap = Callable[[Method], Method]

Target = tuple[str, Wrap]
"""A method of an SDK as `module:Class.method`, and the function that wraps it."""

_PATCH: Final = "_llm_exporter_patch"


@dataclass(frozen=True, eq=False)
class _Patch:
    """One method or attribute that was replaced."""

    original: Any
    """What the class had itself; None if it only inherited it or its objects have it."""
    replacement: Any

    def undo(self, owner: type, name: str) -> bool:
        """Put the original back, unless another patch has replaced ours and may call it."""
        if vars(owner).get(name) is not self.replacement:
            return False
        if self.original is None:
            delattr(owner, name)
        else:
            setattr(owner, name, self.original)
        return True


class Patches:
    """The patched methods and attributes of the classes of one SDK."""

    def __init__(self) -> None:
        self._patches: dict[tuple[type, str], _Patch] = {}

    def patch(self, *targets: Target) -> None:
        """Wrap methods of classes. A method that is wrapped already stays as it is.

        If one of the methods is missing, none is wrapped: half a tap would count calls without their usage.

        Raises:
            ImportError: if this release of the SDK has no such module.
            AttributeError: if it has no such class or method.
        """
        found = [(*resolve(target), wrap) for target, wrap in targets]
        methods = [getattr(cls, name) for cls, name, _ in found]
        with late_import:
            for (cls, name, wrap), method in zip(found, methods, strict=True):
                if (cls, name) not in self._patches:
                    self._patch(cls, name, wrap, method)

    def _patch(self, cls: type, name: str, wrap: Wrap, method: Method) -> None:
        earlier: _Patch | None = getattr(method, _PATCH, None)
        if earlier is None:
            replacement = wraps(method)(wrap(method))
            patch = _Patch(vars(cls).get(name), replacement)
            setattr(replacement, _PATCH, patch)
            setattr(cls, name, replacement)
            self._patches[cls, name] = patch
        elif vars(cls).get(name) is earlier.replacement:
            # Somebody's undo has put our method back after we had removed it.
            self._patches[cls, name] = earlier

    def patch_attribute(self, cls: type, name: str, descriptor: Callable[[Any], object]) -> None:
        """Replace an attribute of a class's objects, once. Takes no lock: this runs inside users' calls.

        Args:
            cls: the class.
            name: the name of the attribute.
            descriptor: returns the descriptor to use, given the one that the class has, or None.
        """
        own = vars(cls).get(name)
        patch = self._patches.setdefault((cls, name), _Patch(own, descriptor(own)))
        if vars(cls).get(name) is patch.original:
            setattr(cls, name, patch.replacement)

    def restore(self) -> None:
        """Put the SDK's own methods and attributes back.

        A method that somebody else has wrapped in the meantime keeps our wrapper inside theirs. It passes
        calls through while nothing is metered, and is in use again after the next `patch`.
        """
        with late_import:
            for (cls, name), patch in list(self._patches.items()):
                if patch.undo(cls, name):
                    del self._patches[cls, name]
