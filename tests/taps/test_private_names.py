"""The tables of private names hold for the installed SDKs, and list every private name that a tap uses.

`make test-frameworks` runs this on the oldest supported releases too.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path

import pytest

import llm_exporter.taps
from llm_exporter.taps import anthropic, google, openai
from llm_exporter.taps.private_names import ALWAYS, get_mangled, resolve
from llm_exporter.taps.response import HTTPX_NAMES

TABLES = {
    "openai": openai.PRIVATE_NAMES,
    "anthropic": anthropic.PRIVATE_NAMES,
    "google-genai": google.PRIVATE_NAMES,
}
NAMES = [
    pytest.param(distribution, name, since, id=name)
    for distribution, table in TABLES.items()
    for name, since in table.items()
]


def release(text: str) -> tuple[int, ...]:
    """Return the numbers of a release, to compare it with others."""
    parts = (takewhile(str.isdigit, part) for part in text.split("."))
    return tuple(int("".join(digits) or 0) for digits in parts)


@pytest.mark.parametrize(("distribution", "name", "since"), NAMES)
def test_the_installed_sdk_has_the_name(distribution: str, name: str, since: str) -> None:
    if since != ALWAYS and release(version(distribution)) < release(since):
        pytest.skip(f"{distribution} has it since {since}")
    cls, attribute = resolve(name)
    assert any(attribute in names_in(each) for each in cls.__mro__ if each is not object)


@pytest.mark.parametrize("package", ["httpx", "httpx2"])
def test_a_response_of_httpx_has_the_names(package: str) -> None:
    response_class = pytest.importorskip(package).Response  # an SDK needs one of the two
    read = response_class(200, content=b"x", headers={"content-type": "text/plain"})
    assert read.text == "x"
    read._get_content_decoder()
    assert {name for name in HTTPX_NAMES if hasattr(read, name)} == HTTPX_NAMES
    unread = response_class(200, stream=read.stream)
    assert {name for name in HTTPX_NAMES if hasattr(unread, name)} == {"_get_content_decoder"}


def names_in(cls: type) -> set[str]:
    """Return the attributes that a class defines, declares, or sets on its objects."""
    set_on_objects = {
        node.attr
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls))))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    return {*vars(cls), *vars(cls).get("__annotations__", ()), *set_on_objects}


def test_names_in_finds_every_kind_of_attribute() -> None:
    assert {"_defined", "_declared", "__set"} <= names_in(Sample)
    assert "_missing" not in names_in(Sample)


class Sample:
    _declared: int

    def __init__(self) -> None:
        self.__set = self._declared

    def _defined(self) -> int:
        return self.__set


class SubSample(Sample):
    pass


def test_get_mangled_finds_an_attribute_of_a_base_class() -> None:
    sample = SubSample.__new__(SubSample)
    assert get_mangled(sample, "__set") is None
    vars(sample)["_Sample__set"] = 7
    assert get_mangled(sample, "__set") == 7


SOURCES = sorted(Path(llm_exporter.taps.__path__[0]).glob("*.py"))
OURS = re.compile(r"_llm_exporter_\w+|__\w+__")
PRIVATE = re.compile(r"(?<!\w)_\w*[A-Za-z]\w*")


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_tap_uses_no_private_name_that_is_not_in_a_table(source: Path) -> None:
    known = {part for table in TABLES.values() for name in table for part in re.split("[.:]", name)}
    known |= HTTPX_NAMES
    used = {name for name in private_names(ast.parse(source.read_text())) if not OURS.fullmatch(name)}
    assert used - known == set()


def private_names(tree: ast.AST) -> Iterator[str]:
    """Yield the private names of other objects: as attributes, and as words in strings."""
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield from PRIVATE.findall(node.value)


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("client._client", {"_client"}),
        ('getattr(client, "_base_url", None)', {"_base_url"}),
        ('vars(client)["_ws"]', {"_ws"}),
        ('f"{package}._base_client:Client._x"', {"_base_client", "_x"}),
        ('self._x; "a doc_string"; "_no"', set()),
        ("client.__class__", {"__class__"}),
    ],
)
def test_private_names_are_found_in_code(code: str, names: set[str]) -> None:
    assert set(private_names(ast.parse(code))) == names
