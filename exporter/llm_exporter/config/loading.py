"""Reading `llm-exporter.yml`, and saying what is wrong with it by line and key."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..errors import ConfigError
from .model import Config

Location = tuple[str | int, ...]
Mistake = tuple[Location, str]

_PLAIN: Final = {
    "missing": "is missing",
    "model_type": "not a mapping of keys to values",
    "dict_type": "not a mapping of keys to values",
    "tuple_type": "not a list",
    "list_type": "not a list",
    "string_too_short": "is empty",
    "too_short": "is empty",
    "string_pattern_mismatch": "not host, nor host:port",
}
"""By pydantic's name of the mistake."""
_MERGE: Final = "tag:yaml.org,2002:merge"


def load(path: str | PathLike[str]) -> Config:
    """Return the configuration in a YAML file.

    Raises:
        ConfigError: when it cannot be read, is no YAML or does not fit; with every mistake in it, one a line.
    """
    file = Path(path)
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        twice = list(_twice(root, ()))
        content = _content(root)  # which puts merged keys in front of a mapping's own
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not a text file in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}{_where(error)}: not YAML: {getattr(error, 'problem', error)}") from None
    except ValueError as error:  # a date that there is not
        raise ConfigError(f"{file}: not YAML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{file}: nested too deep") from None
    if twice:
        raise ConfigError("\n".join(f"{file}:{line}: {_key(at)}{said}" for line, at, said in twice))
    mistakes: list[Mistake]
    try:
        config = Config.model_validate({} if content is None else content)
    except ValidationError as error:
        mistakes = [(mistake["loc"], _plainly(mistake)) for mistake in error.errors()]
    else:
        mistakes = list(config.contradictions())
        if not mistakes:
            return config
    lines = sorted((_line(root, at), f"{_key(at)}{said}") for at, said in mistakes)
    raise ConfigError("\n".join(f"{file}:{line}: {said}" for line, said in lines))


def _content(root: yaml.Node | None) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()


def _twice(node: yaml.Node | None, at: Location) -> Iterator[tuple[int, Location, str]]:
    """Yield the keys that are there twice, of which YAML would take the last."""
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if key.tag != _MERGE and name in lines:
                yield line, (*at, name), f"is there twice: see line {lines[name]}"
            lines.setdefault(name, line)
            yield from _twice(value, (*at, name))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _twice(value, (*at, index))


def _plainly(mistake: ErrorDetails) -> str:
    """Return what is wrong in words for who writes the file."""
    kind, said = mistake["type"], mistake["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = _known(mistake["loc"][:-1])
        close = get_close_matches(str(mistake["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        return f"there is no such key: {hint}"
    return _PLAIN.get(kind) or said.replace("Input should be", "should be", 1)


def _known(location: Location) -> list[str]:
    """Return the keys of the part of the configuration at a place."""
    model: type[BaseModel] = Config
    for part in location:
        if isinstance(part, str):
            types = _types(model.model_fields[part].annotation)
            model = next(each for each in types if issubclass(each, BaseModel))
    return list(model.model_fields)


def _types(annotation: Any) -> Iterator[type]:
    parts = getattr(annotation, "__args__", ())
    if isinstance(annotation, type) and not parts:
        yield annotation
    for part in parts:
        yield from _types(part)


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}" if mark is not None else ""


def _key(location: Location) -> str:
    named = ".".join(str(part) for part in location if part != "[key]")
    return f"{named}: " if named else ""


def _line(node: Any, location: Location) -> int:
    """Return the line of what a mistake is about, or of what it is missing in."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            own_last = reversed(node.value)
            found = next(((key, value) for key, value in own_last if key.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
