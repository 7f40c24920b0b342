"""The completions of the stand-in provider: meaningless words with realistic token counts.

A completion depends on its prompt only, except that a repeated prefix of the prompt is read from a cache.
"""

from __future__ import annotations

import random
import secrets
from collections import Counter, deque
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal

from llm_exporter.call import TokenType

CHARACTERS_PER_TOKEN: Final = 4
MIN_CACHED_TOKENS: Final = 1024
"""The shortest prefix that is cached. The real providers use about the same minimum."""
_MAX_CACHED_PREFIXES: Final = 500
_WORDS_PER_CHUNK: Final = 8
_WORDS: Final = (
    "a",
    "the",
    "of",
    "to",
    "and",
    "in",
    "with",
    "for",
    "each",
    "new",
    "plain",
    "test",
    "code",
    "plan",
)


@dataclass(frozen=True)
class Model:
    """What a caller can observe about a model. Speeds are close to those of the real models."""

    dated_name: str
    """The model name in responses."""
    context: int
    """The context window in tokens."""
    time_to_first_token: float
    """Seconds."""
    tokens_per_second: float
    """The generation speed after the first token."""
    reasons: bool = False
    """Whether it is a reasoning model."""


MODELS: Final[dict[str, Model]] = {
    "gpt-4o": Model("gpt-4o-2024-08-06", 128_000, 0.6, 90),
    "gpt-4o-mini": Model("gpt-4o-mini-2024-07-18", 128_000, 0.4, 110),
    "gpt-5": Model("gpt-5-2025-08-07", 272_000, 0.9, 110, reasons=True),
    "o4-mini": Model("o4-mini-2025-04-16", 200_000, 0.8, 140, reasons=True),
    "acme-1-preview": Model("acme-1-preview", 128_000, 0.5, 100),  # has no known price
    "claude-sonnet-5": Model("claude-sonnet-5", 200_000, 1.1, 75, reasons=True),
    "claude-haiku-4-5": Model("claude-haiku-4-5-20251001", 200_000, 0.6, 140, reasons=True),
    "gemini-2.5-pro": Model("gemini-2.5-pro", 1_048_576, 1.3, 120, reasons=True),
    "gemini-2.5-flash": Model("gemini-2.5-flash", 1_048_576, 0.5, 220, reasons=True),
}


@dataclass(frozen=True)
class Part:
    """A part of a prompt's prefix that ends where the prefix can be cached."""

    text: str
    uncached_type: TokenType
    """The type of its tokens on a cache miss: a cache write if the request asks for one, else plain input."""


@dataclass(frozen=True)
class Prompt:
    """A request in any wire format."""

    model: str
    prefix: tuple[Part, ...]
    """The part of the prompt that can be cached."""
    rest: str
    """The part that is never cached."""
    max_output: int | None = None
    """The maximum number of generated tokens, including reasoning."""
    reasoning: bool = True
    """Whether a reasoning model may reason."""


@dataclass(frozen=True)
class Completion:
    """What a model generates for a prompt."""

    id: str
    """24 hex digits. Each wire format adds its own prefix."""
    model: Model
    tokens: Counter[TokenType]
    """Tokens by disjoint type, as in a `Call`."""
    reasoning: list[str]
    """The reasoning text, one item for each chunk of a stream."""
    text: list[str]
    """The output text, one item for each chunk of a stream."""
    truncated: bool
    """Whether it reached the maximum number of tokens."""
    time_to_first_token: float
    """Seconds."""
    generation_time: float
    """Seconds from the first token to the last."""

    @property
    def input_tokens(self) -> int:
        """All tokens of the prompt."""
        tokens = self.tokens
        return tokens["input"] + tokens["cache_read"] + tokens["cache_write"] + tokens["cache_write_1h"]

    @property
    def output_tokens(self) -> int:
        """All generated tokens, including reasoning."""
        return self.tokens["output"] + self.tokens["reasoning"]


Fault = Literal["rate_limited", "overloaded", "unknown_model", "prompt_too_long"]


class ProviderError(Exception):
    """A request fails. The attributes are what providers put into their error messages."""

    def __init__(self, fault: Fault, model: str, *, tokens: int = 0, limit: int = 0) -> None:
        super().__init__(fault)
        self.fault: Final = fault
        self.model: Final = model
        self.tokens: Final = tokens
        self.limit: Final = limit


class TextGenerator:
    """Generate completions, with a prompt cache like a provider's."""

    def __init__(self) -> None:
        self._cached: deque[bytes] = deque(maxlen=_MAX_CACHED_PREFIXES)

    def complete(self, prompt: Prompt) -> Completion:
        """Generate a completion.

        Raises:
            ProviderError: when the model does not exist, or the prompt exceeds its context window.
        """
        model = MODELS.get(prompt.model)
        if model is None:
            raise ProviderError("unknown_model", prompt.model)
        length = sum(count_tokens(part.text) for part in prompt.prefix) + count_tokens(prompt.rest)
        if length > model.context:
            raise ProviderError("prompt_too_long", prompt.model, tokens=length, limit=model.context)
        # Seeded with the prompt, so that a prompt always gets the same completion.
        chance = random.Random(repr(prompt))  # noqa: S311  # not for cryptography
        reasoning = chance.randint(120, 900) if model.reasons and prompt.reasoning else 0
        output = chance.randint(60, 360)
        truncated = prompt.max_output is not None and reasoning + output > prompt.max_output
        if truncated and prompt.max_output is not None:
            reasoning = min(reasoning, prompt.max_output - 1)
            output = prompt.max_output - reasoning
        tokens = self._read(prompt)
        tokens.update({"output": output, "reasoning": reasoning})
        return Completion(
            id=secrets.token_hex(12),
            model=model,
            tokens=tokens,
            reasoning=_random_words(reasoning, chance),
            text=_random_words(output, chance),
            truncated=truncated,
            time_to_first_token=model.time_to_first_token * chance.uniform(0.7, 1.5),
            generation_time=(output + reasoning) / model.tokens_per_second,
        )

    def _read(self, prompt: Prompt) -> Counter[TokenType]:
        """Return the tokens of a prompt by type, and cache its prefix."""
        tokens: Counter[TokenType] = Counter({"input": count_tokens(prompt.rest)})
        prefix, length = prompt.model.encode(), 0
        for part in prompt.prefix:
            prefix = sha256(prefix + part.text.encode()).digest()
            length += count_tokens(part.text)
            kind: TokenType = "input"
            if prefix in self._cached:
                kind = "cache_read"
            elif length >= MIN_CACHED_TOKENS:
                kind = part.uncached_type
                self._cached.append(prefix)
            tokens[kind] += count_tokens(part.text)
        return tokens


def count_tokens(text: str) -> int:
    """Return the approximate number of tokens in a text."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _random_words(tokens: int, chance: random.Random) -> list[str]:
    """Return one random word for each token, in chunks of several words."""
    words = [f"{word} " for word in chance.choices(_WORDS, k=tokens)]
    return ["".join(words[start : start + _WORDS_PER_CHUNK]) for start in range(0, tokens, _WORDS_PER_CHUNK)]
