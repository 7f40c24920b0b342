"""Load a configuration file, and report its mistakes by line and key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..errors import ConfigError
from .model import Config

Location = tuple[str | int, ...]
Mistake = tuple[Location, str]
Model = TypeVar("Model", bound=BaseModel)

_MESSAGES: Final = {
    "missing": "required key is missing",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "string_pattern_mismatch": "must be host or host:port",
}
"""Messages by pydantic's error type."""
_MERGE: Final = "tag:yaml.org,2002:merge"


def load(path: str | PathLike[str], further: Callable[[Config], Iterable[Mistake]] = lambda _: ()) -> Config:
    """Return the configuration in `llm-exporter.yml`.

    Args:
        path: the path of the file.
        further: returns the mistakes that only the service can find.

    Raises:
        ConfigError: if the file cannot be read or is invalid. The message has one line per mistake.
    """
    return load_as(Config, Path(path), lambda config: [*config.inconsistencies(), *further(config)])


def load_as(model: type[Model], file: Path, inconsistencies: Callable[[Model], Iterable[Mistake]]) -> Model:
    """Return the configuration in a YAML file.

    Args:
        model: the model of the file.
        file: the file.
        inconsistencies: returns the mistakes that the model does not find.

    Raises:
        ConfigError: if the file cannot be read or is invalid. The message has one line per mistake.
    """
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        duplicates = list(_duplicates(root, ()))
        content = _content(root)  # moves merged keys to the front of their mapping
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not a UTF-8 text file") from None
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{file}{_where(error)}: invalid YAML: {getattr(error, 'problem', error)}"
        ) from None
    except ValueError as error:  # an impossible date
        raise ConfigError(f"{file}: invalid YAML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{file}: nested too deeply") from None
    if duplicates:
        raise ConfigError(
            "\n".join(f"{file}:{line}: {_key(at)}{message}" for line, at, message in duplicates)
        )
    mistakes: list[Mistake]
    try:
        config = model.model_validate({} if content is None else content, context={"directory": file.parent})
    except ValidationError as error:
        mistakes = [(mistake["loc"], _message(mistake, model)) for mistake in error.errors()]
    else:
        mistakes = list(inconsistencies(config))
        if not mistakes:
            return config
    lines = sorted((_line(root, at), f"{_key(at)}{message}") for at, message in mistakes)
    raise ConfigError("\n".join(f"{file}:{line}: {message}" for line, message in lines))


def _content(root: yaml.Node | None) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()


def _duplicates(node: yaml.Node | None, at: Location) -> Iterator[tuple[int, Location, str]]:
    """Yield duplicate keys, of which YAML would use the last."""
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if key.tag != _MERGE and name in lines:
                yield line, (*at, name), f"duplicate key, first on line {lines[name]}"
            lines.setdefault(name, line)
            yield from _duplicates(value, (*at, name))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _duplicates(value, (*at, index))


def _message(mistake: ErrorDetails, root: type[BaseModel]) -> str:
    """Return a mistake in words for the author of the file."""
    kind, message = mistake["type"], mistake["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = _keys(root, mistake["loc"][:-1])
        close = get_close_matches(str(mistake["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"must be one of {', '.join(known)}"
        return f"unknown key: {hint}"
    return _MESSAGES.get(kind) or message.replace("Input should be", "must be", 1)


def _keys(model: type[BaseModel], location: Location) -> list[str]:
    """Return the valid keys at a location."""
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
    """Return the line of a location, or of the closest enclosing one that exists."""
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
