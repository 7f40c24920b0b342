"""OpenAI's Responses API, and the tools that its responses use.

https://platform.openai.com/docs/api-reference/responses.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final

import msgspec
from typing_extensions import override

from .fields import Json, count, decoder, error_code, mapping, ordinary_decoder, text
from .openai_usage import (
    OrdinaryResponsesUsage,
    has_usage,
    image_tokens_of,
    read_usage,
    requested_tier,
    tokens_of,
)
from .reader import Reader, Reading

_ERROR: Final = re.compile(rb'"error"\s*:\s*[{"]|"type"\s*:\s*"error"')


class _Item(msgspec.Struct):
    type: Any = None
    action: Any = None
    status: Any = None
    container_id: Any = None
    environment: Any = None
    quality: Any = None
    size: Any = None
    svg_usage: Any = None


class _Response(msgspec.Struct):
    id: Any = None
    status: Any = None
    background: Any = None
    model: Any = None
    output: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()
    tool_usage: Any = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None


class _OrdinaryResponse(_Response, kw_only=True):
    usage: OrdinaryResponsesUsage


class _Tool(msgspec.Struct):
    type: Any = None
    model: Any = None
    container: Any = None
    environment: Any = None


class _ResponseEvent(msgspec.Struct):
    type: Any = None
    response: msgspec.Raw = msgspec.Raw()
    delta: Any = None
    error: Any = None
    message: Any = None
    code: Any = None


_decode_response: Final = decoder(_Response)
_decode_ordinary: Final = ordinary_decoder(_OrdinaryResponse)
_decode_response_event: Final = decoder(_ResponseEvent)
_decode_items: Final = decoder(list[_Item])
_decode_tools: Final = decoder(list[_Tool])


class ResponsesReader(Reader):
    """The Responses API. In a stream, only the last event has usage; it contains the whole response."""

    operation = "chat"

    @override
    def read_request(self, request: Json) -> None:
        self.reading.service_tier = requested_tier(request)

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return has_usage(data) or (b'error"' in data and _ERROR.search(data) is not None)

    @override
    def read_body(self, data: bytes) -> None:
        part = _decode_ordinary(data) or _decode_response(data)
        reading = self.reading
        reading.response_id = text(part.id)
        reading.pending = part.background is True and part.status in ("queued", "in_progress")
        reading.model = text(part.model) or reading.model
        reading.service_tier = text(part.service_tier) or reading.service_tier
        reading.error = error_code(part.error) or reading.error
        usage = part.usage if isinstance(part.usage, OrdinaryResponsesUsage) else mapping(part.usage)
        if usage:
            read_usage(usage, reading)
            _read_tools(part, reading)

    @override
    def read_event(self, data: bytes) -> None:
        event = _decode_response_event(data)
        kind = text(event.type)
        if kind.endswith(".delta"):
            self.note_generated(event.delta)
        elif kind == "error" or event.error:
            self.reading.error = error_code(event.error) or text(event.code) or text(event.message) or "error"
        elif response := bytes(event.response):
            self.read_body(response)


class RetrievedResponseReader(ResponsesReader):
    """The retrieval of a response that an earlier request started."""

    is_retrieval = True


def _read_tools(response: _Response, reading: Reading) -> None:
    """Read the use of OpenAI's own tools, which are billed separately (https://openai.com/api/pricing)."""
    output, tools = bytes(response.output), bytes(response.tools)
    items = _decode_items(output) if output.startswith(b"[") else []
    offered = _decode_tools(tools) if tools.startswith(b"[") else []
    usage = mapping(response.tool_usage)
    reading.units = _tool_searches(items, offered, mapping(usage.get("web_search")))
    reading.containers = _containers(items, offered)
    reading.sub_calls = _images(items, offered, mapping(usage.get("image_gen")))


def _tool_searches(items: list[_Item], offered: list[_Tool], billed: Json) -> dict[str, float]:
    """Return the number of searches that are billed.

    Newer responses report the number of billed web searches; older ones only list the calls in their output.
    The preview of web search has another fee.
    """
    searches: Counter[str] = Counter()
    tools = [kind for tool in offered if (kind := text(tool.type)).startswith("web_search")]
    is_preview = bool(tools) and all(kind.startswith("web_search_preview") for kind in tools)
    web = "web_search_previews" if is_preview else "web_searches"
    for item in items:
        # Opening a page, or finding text in it, is not another search.
        if item.type == "web_search_call" and mapping(item.action).get("type", "search") == "search":
            searches[web] += 1
        elif item.type == "file_search_call":
            searches["storage_searches"] += 1
    if "num_requests" in billed:
        searches[web] = count(billed["num_requests"])
    return {unit: number for unit, number in searches.items() if number}


def _containers(items: list[_Item], offered: list[_Tool]) -> dict[str, str]:
    """Return the unit of each container that the code interpreter or the shell has created, by its id.

    A container is billed by its memory. A container that the request names was created before, and is counted
    then. Source: https://platform.openai.com/docs/guides/tools-code-interpreter.
    """
    containers = {}
    for item in items:
        if item.type == "code_interpreter_call":
            container, created_by = text(item.container_id), "code_interpreter"
        elif item.type == "shell_call":
            container, created_by = text(mapping(item.environment).get("container_id")), "shell"
        else:
            continue
        unit = _container_unit(created_by, offered)
        if container and unit:
            containers[container] = unit
    return containers


def _container_unit(kind: str, offered: list[_Tool]) -> str | None:
    """Return the unit of the containers that a tool creates, or None if its container existed before."""
    for tool in offered:
        if tool.type == kind:
            container = tool.container if kind == "code_interpreter" else tool.environment
            created = text(mapping(container).get("type")) in ("auto", "container_auto")
            return container_unit(mapping(container)) if created else None
    return container_unit({})


def container_unit(container: Json) -> str:
    """Return the unit that a container is billed by."""
    memory = text(container.get("memory_limit"))
    return f"containers_{memory if memory in ('4g', '16g', '64g') else '1g'}"


def _images(items: list[_Item], offered: list[_Tool], usage: Json) -> list[Reading]:
    """Return the sub-calls to the image model, and to the author of SVG images, if they were used as a tool.

    The response's own usage does not include them: see `tool_usage` and `svg_usage` at
    https://platform.openai.com/docs/api-reference/responses/object. Without `tool_usage`, a response only
    shows the size and quality of each image.
    """
    # The default model changes over time, so an unnamed model has no price.
    models = [text(tool.model) for tool in offered if tool.type == "image_generation"]
    model = next(filter(None, models), "image_generation")
    images = [item for item in items if item.type == "image_generation_call"]
    sub_calls = [svg_sub_call(mapping(item.svg_usage)) for item in images if item.svg_usage]
    if tokens := image_tokens_of(usage):
        sub_calls.append(Reading(model=model, tokens=tokens, operation="image_generation"))
    elif generated := Counter(_image_unit(item) for item in images if item.status == "completed"):
        units = {unit: float(number) for unit, number in generated.items()}
        sub_calls.append(Reading(model=model, tokens={}, units=units, operation="image_generation"))
    return sub_calls


_IMAGE_SIZE: Final = re.compile(r"[0-9]{2,5}x[0-9]{2,5}")


def _image_unit(image: _Item) -> str:
    quality = text(image.quality)
    size = text(image.size)
    quality = quality if quality in ("low", "medium", "high", "xhigh", "max") else "auto"
    return f"images_{quality}_{size if _IMAGE_SIZE.fullmatch(size) else 'auto'}"


def svg_sub_call(usage: Json) -> Reading:
    """Return the sub-call to the model that wrote an SVG image."""
    details = {"reasoning_tokens": usage.get("reasoning_tokens")}
    tokens = tokens_of({**usage, "output_tokens_details": details})
    return Reading(model=text(usage.get("model")), tokens=tokens, operation="chat")
