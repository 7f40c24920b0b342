"""What the stand-in provider answers: words that mean nothing, and token counts that could be real.

An answer depends on its question only, except that a prompt seen before is found in the cache.
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
SHORTEST_CACHED: Final = 1024
"""Tokens that a prompt has before any of the three providers caches it."""
_REMEMBERED_PREFIXES: Final = 500
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
    """What a caller can tell about a model; the speeds are about those of the real ones."""

    answers_as: str
    """The dated name that stands in its answers."""
    context: int
    """Tokens that a prompt may have."""
    first_token: float
    """Seconds to the first token."""
    pace: float
    """Tokens per second after it."""
    thinks: bool = False


MODELS: Final[dict[str, Model]] = {
    "gpt-4o": Model("gpt-4o-2024-08-06", 128_000, 0.6, 90),
    "gpt-4o-mini": Model("gpt-4o-mini-2024-07-18", 128_000, 0.4, 110),
    "gpt-5": Model("gpt-5-2025-08-07", 272_000, 0.9, 110, thinks=True),
    "o4-mini": Model("o4-mini-2025-04-16", 200_000, 0.8, 140, thinks=True),
    "acme-1-preview": Model("acme-1-preview", 128_000, 0.5, 100),  # in no price list
    "claude-sonnet-5": Model("claude-sonnet-5", 200_000, 1.1, 75, thinks=True),
    "claude-haiku-4-5": Model("claude-haiku-4-5-20251001", 200_000, 0.6, 140, thinks=True),
    "gemini-2.5-pro": Model("gemini-2.5-pro", 1_048_576, 1.3, 120, thinks=True),
    "gemini-2.5-flash": Model("gemini-2.5-flash", 1_048_576, 0.5, 220, thinks=True),
}


@dataclass(frozen=True)
class Part:
    """A piece at the beginning of a prompt, up to which a cache may hold it."""

    text: str
    unread_as: TokenType
    """What its tokens are when no cache has them: the write that was asked for, or plain input."""


@dataclass(frozen=True)
class Question:
    """A request, whichever wire format it came in."""

    model: str
    beginning: tuple[Part, ...]
    """What can be cached of the prompt."""
    rest: str
    """What follows, which never is."""
    max_output: int | None = None
    """Tokens that may be generated at most, thoughts included."""
    thinking: bool = True
    """Whether a model that can think may."""


@dataclass(frozen=True)
class Answer:
    """What a model says to a question."""

    id: str
    """24 hex digits, for ids in whichever style."""
    model: Model
    tokens: Counter[TokenType]
    """Tokens by disjoint type, as a `Call` has them."""
    thoughts: list[str]
    """The thoughts, in the pieces that a stream brings."""
    text: list[str]
    """The text, likewise."""
    cut_off: bool
    """Whether it ended because there were as many tokens as were allowed."""
    first_token_after: float
    """Seconds that the model takes until its first token."""
    generated_in: float
    """Seconds that it takes for the others."""

    @property
    def prompt(self) -> int:
        """All tokens of the prompt."""
        tokens = self.tokens
        return tokens["input"] + tokens["cache_read"] + tokens["cache_write"] + tokens["cache_write_1h"]

    @property
    def generated(self) -> int:
        """All tokens of the answer."""
        return self.tokens["output"] + self.tokens["reasoning"]


Trouble = Literal["rate_limited", "overloaded", "unknown_model", "prompt_too_long"]


class Refusal(Exception):  # noqa: N818  # reads as what happened, like BudgetExceeded
    """A question is not answered; the numbers are what the providers put into their messages."""

    def __init__(self, why: Trouble, model: str, *, tokens: int = 0, limit: int = 0) -> None:
        super().__init__(why)
        self.why: Final = why
        self.model: Final = model
        self.tokens: Final = tokens
        self.limit: Final = limit


class Author:
    """Answers questions, and remembers the beginnings of prompts as a provider's cache does."""

    def __init__(self) -> None:
        self._cached: deque[bytes] = deque(maxlen=_REMEMBERED_PREFIXES)

    def answer(self, question: Question) -> Answer:
        """Answer a question; raises Refusal for a model that does not exist or a prompt too long for it."""
        model = MODELS.get(question.model)
        if model is None:
            raise Refusal("unknown_model", question.model)
        length = sum(count(part.text) for part in question.beginning) + count(question.rest)
        if length > model.context:
            raise Refusal("prompt_too_long", question.model, tokens=length, limit=model.context)
        chance = random.Random(repr(question))  # noqa: S311  # the same again for the same question
        reasoning = chance.randint(120, 900) if model.thinks and question.thinking else 0
        output = chance.randint(60, 360)
        cut_off = question.max_output is not None and reasoning + output > question.max_output
        if cut_off and question.max_output is not None:
            reasoning = min(reasoning, question.max_output - 1)
            output = question.max_output - reasoning
        tokens = self._read(question)
        tokens.update({"output": output, "reasoning": reasoning})
        return Answer(
            id=secrets.token_hex(12),
            model=model,
            tokens=tokens,
            thoughts=_say(reasoning, chance),
            text=_say(output, chance),
            cut_off=cut_off,
            first_token_after=model.first_token * chance.uniform(0.7, 1.5),
            generated_in=(output + reasoning) / model.pace,
        )

    def _read(self, question: Question) -> Counter[TokenType]:
        """Return the prompt's tokens by type: from the cache as far as it begins like an earlier one."""
        tokens: Counter[TokenType] = Counter({"input": count(question.rest)})
        prefix, length = question.model.encode(), 0
        for part in question.beginning:
            prefix = sha256(prefix + part.text.encode()).digest()
            length += count(part.text)
            kind: TokenType = "input"
            if prefix in self._cached:
                kind = "cache_read"
            elif length >= SHORTEST_CACHED:
                kind = part.unread_as
                self._cached.append(prefix)
            tokens[kind] += count(part.text)
        return tokens


def count(text: str) -> int:
    """Return about how many tokens a text has."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _say(tokens: int, chance: random.Random) -> list[str]:
    """Return so many words, about a token each, in pieces of a few."""
    words = [f"{word} " for word in chance.choices(_WORDS, k=tokens)]
    return ["".join(words[start : start + 8]) for start in range(0, tokens, 8)]
