"""Replaces methods of an SDK, and puts the SDK's own methods back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final
from weakref import WeakValueDictionary, ref

from ..forking import late_import
from .private_names import resolve

Method = Callable[..., Any]
Wrap = Callable[[Method], Method]

Target = tuple[str, Wrap]
"""A method of an SDK as `module:Class.method`, and the function that wraps it."""

_PATCH: Final = "_llm_exporter_patch"


@dataclass(frozen=True, eq=False)
class _Patch:
    """One method that was replaced."""

    original: Any
    """The attribute as it was; None if the class or object only inherited it."""
    replacement: Method

    def undo(self, owner: Any, name: str) -> bool:
        """Put the original back, unless another patch has replaced ours and may call it."""
        if vars(owner).get(name) is not self.replacement:
            return False
        if self.original is None:
            delattr(owner, name)
        else:
            setattr(owner, name, self.original)
        return True


class Patches:
    """The patched methods of one SDK: on its classes, and `send` on the HTTP clients it uses."""

    def __init__(self) -> None:
        self._methods: dict[tuple[type, str], _Patch] = {}
        self._clients: WeakValueDictionary[int, Any] = WeakValueDictionary()

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
                if (cls, name) not in self._methods:
                    self._patch(cls, name, wrap, method)

    def _patch(self, cls: type, name: str, wrap: Wrap, method: Method) -> None:
        earlier: _Patch | None = getattr(method, _PATCH, None)
        if earlier is None:
            replacement = wraps(method)(wrap(method))
            patch = _Patch(vars(cls).get(name), replacement)
            setattr(replacement, _PATCH, patch)
            setattr(cls, name, replacement)
            self._methods[cls, name] = patch
        elif vars(cls).get(name) is earlier.replacement:
            # Somebody's undo has put our method back after we had removed it.
            self._methods[cls, name] = earlier

    def patch_send(self, http: Any, wrap: Wrap) -> None:
        """Wrap `send` of one HTTP client, once. Takes no lock: this runs inside the user's call."""
        original = vars(http).get("send")
        if _PATCH in vars(http):  # looked at after `send`: two threads never wrap each other's wrapper
            return
        patch = _Patch(original, wrap(original or _inherited_send(http)))
        vars(http).update({"send": patch.replacement, _PATCH: patch})
        self._clients[id(http)] = http

    def restore(self) -> None:
        """Put the SDK's own methods back.

        A method that somebody else has wrapped in the meantime keeps our wrapper inside theirs. It passes
        calls through while nothing is metered, and is in use again after the next `patch`.
        """
        with late_import:
            for (cls, name), patch in list(self._methods.items()):
                if patch.undo(cls, name):
                    del self._methods[cls, name]
            for reference in self._clients.valuerefs():
                http = reference()
                if http is not None and vars(http)[_PATCH].undo(http, "send"):
                    delattr(http, _PATCH)
                    self._clients.pop(id(http), None)


def _inherited_send(http: Any) -> Method:
    """Return `send` of an HTTP client's class, bound without a reference that keeps the client alive."""
    send, alive = type(http).send, ref(http)
    return lambda *args, **kwargs: send(alive(), *args, **kwargs)
