"""Methods of an SDK are replaced as a whole, once, and put back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import wraps
from types import ModuleType
from typing import Any

import pytest

from llm_exporter.taps.boundary import metered
from llm_exporter.taps.patches import Method, Patches


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
        assert not vars(patches)["_methods"]


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


# ---- `send` of HTTP clients


class Http:
    def send(self) -> list[str]:
        return ["http"]


def test_send_of_an_http_client_is_wrapped_once_and_put_back(patches: Patches) -> None:
    http = Http()
    before = dict(vars(http))
    for _ in range(2):
        patches.patch_send(http, note("ours"))
        patches.patch_send(http, note("ours"))
        assert http.send() == ["ours", "http"]
        patches.restore()
        assert vars(http) == before


def test_a_send_that_somebody_replaced_before_is_put_back(patches: Patches) -> None:
    http = Http()

    def theirs() -> list[str]:
        return ["theirs"]

    http.send = theirs  # type: ignore[method-assign]
    patches.patch_send(http, note("ours"))
    assert http.send() == ["ours", "theirs"]
    patches.restore()
    assert vars(http) == {"send": theirs}


def test_a_send_that_somebody_wrapped_after_us_stays(patches: Patches) -> None:
    http = Http()
    patches.patch_send(http, note("ours"))
    ours = http.send
    theirs = note("theirs")(ours)
    http.send = theirs  # type: ignore[method-assign]
    patches.restore()
    assert http.send is theirs
    patches.patch_send(http, note("ours"))
    assert http.send() == ["theirs", "ours", "http"]
    http.send = ours  # type: ignore[method-assign]
    patches.restore()
    assert not vars(http)


def test_patching_keeps_no_http_client_alive(patches: Patches) -> None:
    from weakref import ref

    http = Http()
    patches.patch_send(http, note("ours"))
    alive = ref(http)
    del http
    assert alive() is None
    patches.restore()
