"""Methods of an SDK are replaced as a whole, once, and put back."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from types import ModuleType
from typing import Any

import pytest

from llm_exporter.taps.boundary import metered
from llm_exporter.taps.patches import Method, Patches
from support.awaiting import DEADLINE


class Client:
    def request(self) -> list[str]:
        return ["sdk"]


class Subclass(Client):
    pass


REQUEST = Client.request


@pytest.fixture(autouse=True)
def _sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = ModuleType("sdk")
    vars(module).update(Client=Client, Subclass=Subclass)
    monkeypatch.setitem(sys.modules, "sdk", module)
    yield
    assert Client.request is REQUEST


def note(name: str) -> Callable[[Method], Method]:
    """Return a wrapper that adds a name to the result."""

    def wrap(method: Method) -> Method:
        return lambda *args: [name, *method(*args)]

    return wrap


@pytest.fixture
def patches() -> Iterator[Patches]:
    patches = Patches()
    yield patches
    patches.restore()


def test_a_method_is_wrapped_once(patches: Patches) -> None:
    for _ in range(2):
        patches.patch(("sdk:Client.request", note("ours")))
    assert Client().request() == ["ours", "sdk"]


def test_a_metered_method_asks_for_one_meter_per_call(patches: Patches) -> None:
    calls: list[object] = []
    for _ in range(2):
        patches.patch(("sdk:Client.request", lambda method: metered(method, calls.append)))
    assert Client().request() == ["sdk"]
    assert len(calls) == 1


@pytest.mark.parametrize(
    "missing", ["sdk:Client.request_once", "sdk:Async.request", "sdk.base:Client.request"]
)
def test_no_method_is_wrapped_when_one_is_missing(missing: str, patches: Patches) -> None:
    with pytest.raises((AttributeError, ImportError), match=r"request_once|Async|sdk"):
        patches.patch(("sdk:Client.request", note("ours")), (missing, note("ours")))
    assert Client.request is REQUEST


def test_restore_puts_the_method_back_and_patch_works_again(patches: Patches) -> None:
    for _ in range(2):
        patches.patch(("sdk:Client.request", note("ours")))
        assert Client().request() == ["ours", "sdk"]
        patches.restore()
        assert Client.request is REQUEST
        assert not vars(patches)["_patches"]


def test_restore_leaves_an_inherited_method_inherited(patches: Patches) -> None:
    patches.patch(("sdk:Subclass.request", note("ours")))
    assert Subclass().request() == ["ours", "sdk"]
    assert Client().request() == ["sdk"]
    patches.restore()
    assert "request" not in vars(Subclass)


@pytest.mark.parametrize("copies_attributes", [False, True])
def test_a_patch_on_top_of_ours_stays_and_ours_is_not_added_again(
    copies_attributes: bool, patches: Patches
) -> None:
    patches.patch(("sdk:Client.request", note("ours")))
    ours: Any = Client.request
    theirs = note("theirs")(ours)
    Client.request = wraps(ours)(theirs) if copies_attributes else theirs  # type: ignore[method-assign]
    patches.restore()
    assert Client.request is theirs
    patches.patch(("sdk:Client.request", note("ours")))
    assert Client().request() == ["theirs", "ours", "sdk"]
    Client.request = ours  # type: ignore[method-assign]
    patches.restore()


def test_a_method_that_somebody_elses_undo_brings_back_is_removed_again(patches: Patches) -> None:
    patches.patch(("sdk:Client.request", note("ours")))
    ours: Any = Client.request
    patches.restore()
    Client.request = ours  # type: ignore[method-assign]
    patches.patch(("sdk:Client.request", note("ours")))
    assert Client().request() == ["ours", "sdk"]
    patches.restore()


# ---- attributes


class Doubled:
    """Yields the value of an attribute twice."""

    def __init__(self, own: Any) -> None:
        self.own = own

    def __get__(self, owner: Any, cls: type) -> list[str]:
        name: list[str] = vars(owner)["name"] if self.own is None else self.own.__get__(owner, cls)
        return 2 * name

    def __set__(self, owner: Any, value: object) -> None:
        raise AssertionError


class Named:
    def __init__(self) -> None:
        self.name = ["sdk"]


class Computed:
    @property
    def name(self) -> list[str]:
        return ["computed"]


NAME = vars(Computed)["name"]


def test_an_attribute_is_replaced_once_and_put_back(patches: Patches) -> None:
    named = Named()
    for _ in range(2):
        for _ in range(2):
            patches.patch_attribute(Named, "name", Doubled)
            assert named.name == ["sdk", "sdk"]
        patches.restore()
        assert named.name == ["sdk"]
        assert "name" not in vars(Named)


def test_a_computed_attribute_is_replaced_once_and_put_back(patches: Patches) -> None:
    for _ in range(2):
        for _ in range(2):
            patches.patch_attribute(Computed, "name", Doubled)
            assert Computed().name == ["computed", "computed"]
        patches.restore()
        assert vars(Computed)["name"] is NAME


def test_threads_that_replace_an_attribute_together_replace_it_once(patches: Patches) -> None:
    step = threading.Barrier(8, timeout=DEADLINE)

    def replace(_: int) -> None:
        def descriptor(own: Any) -> Doubled:
            step.wait()  # all have seen the class as it was
            return Doubled(own)

        patches.patch_attribute(Computed, "name", descriptor)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(replace, range(8)))
    assert Computed().name == ["computed", "computed"]
    patches.restore()
    assert vars(Computed)["name"] is NAME


def test_an_attribute_that_somebody_replaced_after_us_stays(patches: Patches) -> None:
    patches.patch_attribute(Computed, "name", Doubled)
    ours = vars(Computed)["name"]
    theirs = property(lambda self: ["theirs"])
    Computed.name = theirs  # type: ignore[method-assign,assignment]
    patches.patch_attribute(Computed, "name", Doubled)
    patches.restore()
    assert vars(Computed)["name"] is theirs
    Computed.name = ours  # type: ignore[method-assign]
    patches.restore()
    assert vars(Computed)["name"] is NAME
