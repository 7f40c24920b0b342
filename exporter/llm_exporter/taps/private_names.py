"""How a tap declares the private names of its SDK that it relies on, and gets at them.

The module of each tap has a table `PRIVATE_NAMES`. Its keys have the form `module:Class.attribute`, also for
attributes that are set on objects only. Its values are the first release that has the name, or `ALWAYS`. A
test checks the tables against the installed SDKs, and that the taps use no private name outside them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

ALWAYS: Final = ""
"""Every release that llm-exporter supports has the name."""


def resolve(name: str) -> tuple[type, str]:
    """Return the class and the attribute that a `module:Class.attribute` names.

    Raises:
        ImportError: if there is no such module.
        AttributeError: if the module has no such class.
    """
    module, _, qualified = name.partition(":")
    cls, _, attribute = qualified.partition(".")
    return getattr(import_module(module), cls), attribute


def get_mangled(owner: Any, name: str) -> Any:
    """Return an attribute that a class of an object calls `self.__name`; None if there is none."""
    for cls in type(owner).__mro__:
        mangled = f"_{cls.__name__.lstrip('_')}{name}"
        if hasattr(owner, mangled):
            return getattr(owner, mangled)
    return None
