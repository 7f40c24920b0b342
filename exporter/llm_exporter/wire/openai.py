"""OpenAI's chat completions and responses, and the dialects of compatible services.

Chat completions: https://platform.openai.com/docs/api-reference/chat.
Responses: https://platform.openai.com/docs/api-reference/responses.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, ClassVar, Final

import msgspec
from typing_extensions import override

from ..call import Operation, TokenType
from .fields import (
    Json,
    amount,
    count,
    decoder,
    error_code,
    first_count,
    mapping,
    sequence,
    split,
    text,
    without_zeros,
)
from .reader import Reader, Reading

_USAGE: Final = re.compile(rb'"usage"\s*:\s*\{')
_ERROR: Final = re.compile(rb'"error"\s*:\s*[{"]')
_RESPONSES_ERROR: Final = re.compile(rb'"error"\s*:\s*[{"]|"type"\s*:\s*"error"')

_SEARCH_MODEL: Final = re.compile(r"gpt-(?:4o(?:-mini)?-search-(preview)|5-search-api)")

_PROMPT_DETAILS: Final = (
    *("prompt_tokens_details", "prompt_token_details"),
    *("input_tokens_details", "input_token_details"),
)
_COMPLETION_DETAILS: Final = (
    *("completion_tokens_details", "completion_token_details"),
    *("output_tokens_details", "output_token_details"),
)
"""Some services use the singular, `prompt_token_details`."""


class _Chat(msgspec.Struct):
    model: Any = None
    choices: Any = None
    usage: Any = None
    x_groq: Any = None
    service_tier: Any = None
    error: Any = None


class _ChatBody(msgspec.Struct):
    """`_Chat` without the choices, so that the generated text is not decoded."""

    model: Any = None
    usage: Any = None
    x_groq: Any = None
    service_tier: Any = None
    error: Any = None


_decode_chunk: Final = decoder(_Chat)
_decode_chat: Final = decoder(_ChatBody)


class ChatReader(Reader):
    """Chat completions."""

    operation: ClassVar[Operation] = "chat"

    @override
    def read_request(self, request: Json) -> None:
        self.reading.service_tier = requested_tier(request)

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        # Many services send `usage: null` in every chunk.
        return (b'"usage"' in data and _USAGE.search(data) is not None) or (
            b'"error"' in data and _ERROR.search(data) is not None
        )

    @override
    def read_body(self, data: bytes) -> None:
        self._update(_decode_chat(data))

    @override
    def read_event(self, data: bytes) -> None:
        # Several chunks may carry usage. It is cumulative, so only the last one matters.
        if self.reading.token_seen:
            self._update(_decode_chat(data))
            return
        chunk = _decode_chunk(data)
        self._update(chunk)
        for choice in sequence(chunk.choices):
            self.note_generated(self._generated(mapping(choice)))

    def _generated(self, choice: Json) -> object:
        """Return the content that a choice of a chunk adds."""
        delta = mapping(choice.get("delta"))
        return {name: value for name, value in delta.items() if name != "role" and value}

    def _update(self, part: _Chat | _ChatBody) -> None:
        reading = self.reading
        reading.model = text(part.model) or reading.model
        reading.service_tier = text(part.service_tier) or reading.service_tier
        reading.error = error_code(part.error) or reading.error
        # Groq's streams report usage inside x_groq, in addition or exclusively.
        usage = mapping(part.usage) or mapping(mapping(part.x_groq).get("usage"))
        if usage:
            read_usage(usage, reading)
            reading.units = _searches(reading, usage)


def _searches(reading: Reading, usage: Json) -> dict[str, float]:
    """Return the web searches of a chat completion that are billed per request.

    Perplexity's fee depends on the size of the search context (https://docs.perplexity.ai/guides/pricing); it
    is part of the cost that newer responses report. OpenAI's search models search before each response
    (https://platform.openai.com/docs/guides/tools-web-search).
    """
    size = text(usage.get("search_context_size"))
    if size in ("low", "medium", "high") and reading.reported_cost is None:
        return {f"search_requests_{size}": 1}
    if "search" in reading.model and (model := _SEARCH_MODEL.search(reading.model)):
        return {"web_search_previews" if model[1] else "web_searches": 1}
    return {}


class CompletionReader(ChatReader):
    """Legacy completions: https://platform.openai.com/docs/api-reference/completions."""

    operation = "text_completion"

    @override
    def _generated(self, choice: Json) -> object:
        return choice.get("text")


class EmbeddingsReader(ChatReader):
    """Embeddings: https://platform.openai.com/docs/api-reference/embeddings."""

    operation = "embeddings"


class DecisionReader(ChatReader):
    """Answers to questions about an input: the resource `decisions` of openai 3."""

    operation = "decision"


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
        return (b'"usage"' in data and _USAGE.search(data) is not None) or (
            b'error"' in data and _RESPONSES_ERROR.search(data) is not None
        )

    @override
    def read_body(self, data: bytes) -> None:
        part = _decode_response(data)
        reading = self.reading
        reading.response_id = text(part.id)
        reading.pending = part.background is True and part.status in ("queued", "in_progress")
        reading.model = text(part.model) or reading.model
        reading.service_tier = text(part.service_tier) or reading.service_tier
        reading.error = error_code(part.error) or reading.error
        if usage := mapping(part.usage):
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


def requested_tier(request: Json) -> str | None:
    """Return the service tier that a request names; a response need not name the tier that served it."""
    tier = text(request.get("service_tier"))
    return tier if tier not in ("", "auto") else None


def image_tokens_of(usage: Json) -> dict[TokenType, int]:
    """Return the disjoint tokens of an image model's `usage` object.

    Its output tokens are image tokens, except those that the details list as text.
    """
    tokens = tokens_of(usage)
    generated = tokens.pop("output", 0) + tokens.pop("output_image", 0)
    text_tokens = min(count(mapping(usage.get("output_tokens_details")).get("text_tokens")), generated)
    return without_zeros({**tokens, "output": text_tokens, "output_image": generated - text_tokens})


def tokens_of(usage: Json) -> dict[TokenType, int]:
    """Return the disjoint tokens of a `usage` object in any of OpenAI's formats.

    OpenAI's prompt counts include cached tokens, and its completion counts include reasoning tokens
    (https://platform.openai.com/docs/guides/prompt-caching, /docs/guides/reasoning). Some compatible services
    exclude them; their totals show which. Caches live for 30 minutes or 12 hours, at different prices.
    """
    prompt = first_count(usage, "prompt_tokens", "input_tokens")
    completion = first_count(usage, "completion_tokens", "output_tokens")
    total = count(usage.get("total_tokens"))
    prompt_details = _details(usage, _PROMPT_DETAILS)
    completion_details = _details(usage, _COMPLETION_DETAILS)

    reasoning = count(completion_details.get("reasoning_tokens"))
    if reasoning > completion or total == prompt + completion + reasoning:
        completion += reasoning  # xAI, and Gemini behind gateways, exclude it
    audio = count(prompt_details.get("audio_tokens"))
    if audio > prompt and total == prompt + completion + audio:
        prompt += audio  # Mistral excludes it

    read = first_count(prompt_details, "cached_tokens") or first_count(
        usage, "prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens"
    )
    read = min(read, prompt)
    # In the Realtime API, and in `tool_usage`.
    cached_by = mapping(prompt_details.get("cached_tokens_details") or usage.get("cached_tokens_details"))
    cached = split(
        read,
        audio=count(cached_by.get("audio_tokens")),
        image=first_count(cached_by, "image_tokens", "cached_image_tokens"),
    )
    write = count(prompt_details.get("cache_write_tokens"))
    if write == read and read + write > prompt:
        fresh = prompt - read  # Gemini behind OpenRouter bills the same tokens as written and as read
    else:
        write = min(write, prompt - read)
        fresh = prompt - read - write
    written = split(
        write,
        twelve_hours=count(mapping(prompt_details.get("cache_write_tokens_details")).get("ttl_12h_tokens")),
    )
    into = split(
        fresh,
        audio=max(audio - cached["audio"], 0),
        image=max(count(prompt_details.get("image_tokens")) - cached["image"], 0),
        video=count(prompt_details.get("video_tokens")),
    )
    out = split(
        completion,
        reasoning=reasoning,
        audio=count(completion_details.get("audio_tokens")),
        image=count(completion_details.get("image_tokens")),
    )
    return without_zeros(
        {
            "input": into["rest"],
            "input_audio": into["audio"],
            "input_image": into["image"],
            "input_video": into["video"],
            "cache_read": cached["rest"],
            "cache_read_audio": cached["audio"],
            "cache_read_image": cached["image"],
            "cache_write": written["rest"],
            "cache_write_12h": written["twelve_hours"],
            "output": out["rest"],
            "reasoning": out["reasoning"],
            "output_audio": out["audio"],
            "output_image": out["image"],
        }
    )


def read_usage(usage: Json, reading: Reading) -> None:
    """Read a `usage` object: its tokens and its cost."""
    reading.tokens = tokens_of(usage)
    read_cost(usage, reading)


def read_cost(usage: Json, reading: Reading) -> None:
    """Read the cost in USD that a `usage` object reports, and the parts that it is split into.

    A service that reports 0 does not know the cost, like Grok on Azure.
    """
    cost = reported_cost(usage) or None
    reading.reported_cost = cost
    reading.states_usd = "cost_in_usd_ticks" in usage or "usd" in mapping(usage.get("cost"))
    reading.reported_costs = _parts_of_cost(usage, cost) if cost else {}


def reported_cost(usage: Json) -> float | None:
    """Return the cost in USD that a `usage` object reports, or None.

    OpenRouter and Vercel report a number (https://openrouter.ai/docs/use-cases/usage-accounting). If the
    user brings a provider key (BYOK), OpenRouter's number is only its fee, so the upstream cost is added.
    Perplexity reports an object with a total, Charm Hyper one with `usd`, and xAI ticks of 1e-10 USD.
    """
    cost = usage.get("cost")
    if (ticks := amount(usage.get("cost_in_usd_ticks"))) is not None:
        return ticks / 1e10
    if isinstance(cost, dict):
        total = amount(cost.get("total_cost"))
        return total if total is not None else amount(cost.get("usd"))
    charged = amount(cost)
    if charged is not None and usage.get("is_byok") is True:
        charged += amount(mapping(usage.get("cost_details")).get("upstream_inference_cost")) or 0.0
    return charged


_COST_PARTS: Final = {
    # Perplexity's Sonar and Agent APIs: https://docs.perplexity.ai/docs/getting-started/pricing
    "input_tokens_cost": "input",
    "citation_tokens_cost": "input",
    "output_tokens_cost": "output",
    "reasoning_tokens_cost": "output",
    "request_cost": "tools",
    "search_queries_cost": "tools",
    "input_cost": "input",
    "cache_creation_cost": "input",
    "cache_read_cost": "input",
    "output_cost": "output",
    "tool_calls_cost": "tools",
    # OpenRouter: https://openrouter.ai/docs/use-cases/usage-accounting
    "upstream_inference_prompt_cost": "input",
    "upstream_inference_input_cost": "input",
    "upstream_inference_completions_cost": "output",
    "upstream_inference_output_cost": "output",
}
"""What each part of a reported cost is for: the prompt, the generated tokens, or fees."""

_ROUNDED: Final = 5e-5
"""The largest difference in USD between a total and its parts: Perplexity rounds each to 5 decimal places."""


def _parts_of_cost(usage: Json, total: float) -> dict[str, float]:
    """Return the parts of a reported cost, or an empty dict if they do not add up to it."""
    parts: dict[str, float] = {}
    for name, value in {**mapping(usage.get("cost")), **mapping(usage.get("cost_details"))}.items():
        kind, part = _COST_PARTS.get(name), amount(value)
        if kind and part:
            parts[kind] = parts.get(kind, 0.0) + part
    if usage.get("is_byok") is True and parts and (fee := amount(usage.get("cost"))):
        parts["tools"] = parts.get("tools", 0.0) + fee
    tolerance = max(min(_ROUNDED, total / 100), total / 1e6)
    return parts if abs(sum(parts.values()) - total) <= tolerance else {}


def _details(usage: Json, names: tuple[str, ...]) -> Json:
    """Return the first details object among alternative field names."""
    for name in names:
        if found := mapping(usage.get(name)):
            return found
    return {}
